"""A participant's page has nothing of the instructor's: neither code nor words nor data, whatever it fetches."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin

import pytest

from comfyume.commands.source_tree import ROOT
from comfyume.tests.harness import graphs
from comfyume.tests.harness.client import Client, RequestRefused, wait_until
from comfyume.tests.harness.discovery import ComfyInstall
from comfyume.tests.harness.pair import Pair
from comfyume.tests.harness.people import add_users, basic

pytestmark = [pytest.mark.acceptance]

PAGE = ROOT / "web" / "js"
PANEL = ROOT / "web" / "workshop"
#: Addresses that only instructors use.
ADDRESSES = (
    "people",
    "workers",
    "limits",
    "activity",
    "history",
    "templates",
    "series",
    "cost",
    "messages",
    "workshop",
    "metrics",
)
#: What a module names as another one.
NAMED = re.compile(r"""(?:from|import|import\()\s*["'](\.[^"']+)["']""")
#: What it names as a file beside it.
BESIDE = re.compile(r"""new URL\(\s*["']([^"':]+)["'],\s*import\.meta\.url""")
#: A module that is loaded later, by whatever stands in the brackets; not one that a comment has a type of.
LOADED = re.compile(r"""(?<!\{)(?<!typeof )\bimport\(\s*([^)]*?)\s*\)""")
QUOTED = re.compile(r"""(["'])[^"'`$]+\1""")
#: The one that is not named where it is loaded: what `/comfyume/page` tells.
TOLD = "app.api.fileURL(address"
#: Words of a text that stands nowhere by chance.
FEWEST_WORDS = 3


@pytest.fixture(scope="module")
def room(comfyui: ComfyInstall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with Pair(comfyui, tmp_path_factory.mktemp("trace"), worker_node_packs=[graphs.PACK]) as running:
        add_users(running, {"ada": "participant", "bob.the.other": "participant", "ines.instructs": "instructor"})
        yield running


@pytest.fixture
def ada(room: Pair) -> Client:
    return Client(room.frontend.address, headers=basic("ada"), connect=False)


def fetched(client: Client, path: str) -> str:
    return client.request("GET", path).decode("utf-8", "replace")


def crawl(client: Client) -> dict[str, str]:
    """Every file of this extension that a page comes to, from the list of extensions on."""
    waiting = [path for path in client.get("/extensions") if "/comfyume/" in path]
    assert waiting
    found: dict[str, str] = {}
    while waiting:
        path = waiting.pop()
        if path in found or "/extensions/" not in path:
            continue
        found[path] = fetched(client, path)
        # One that this could not follow would go unseen.
        unnamed = [name for name in LOADED.findall(found[path]) if name != TOLD and not QUOTED.fullmatch(name)]
        assert unnamed == [], path
        named = NAMED.findall(found[path]) + BESIDE.findall(found[path])
        waiting += [there for name in named if not (there := urljoin(path, name)).endswith("/")]
    return found


def words_of(name: str) -> set[str]:
    texts: set[str] = set()
    for file in (ROOT / "locales").glob(f"en/{name}.json"):
        texts |= set(json.loads(file.read_text(encoding="utf-8")).values())
    return texts


def test_nothing_that_a_page_loads_is_the_instructors(ada: Client) -> None:
    files = crawl(ada)
    crawled = {path.split("/", 3)[3] for path in files}
    assert crawled == {path.relative_to(PAGE).as_posix() for path in PAGE.rglob("*") if path.is_file()}
    told = [fetched(ada, path) for path in ("/comfyume/page", "/comfyume/me", "/i18n", "/settings")]
    told += [fetched(ada, f"/comfyume/strings/{language}.json") for language in ("en", "fr")]
    own = {text for text in words_of("workshop") - words_of("page") if len(text.split()) >= FEWEST_WORDS}
    assert len(own) > 50
    for path, text in [*files.items(), *(("an answer", each) for each in told)]:
        assert [each for each in own if each in text] == [], path
        assert [each for each in ADDRESSES if f"/comfyume/{each}" in text] == [], path
    assert json.loads(told[0])["scripts"] == []


@pytest.mark.parametrize(
    "file", sorted(path.relative_to(PANEL).as_posix() for path in PANEL.rglob("*") if path.is_file())
)
def test_no_file_of_the_panel_is_to_be_had(ada: Client, room: Pair, file: str) -> None:
    name = next(path for path in ada.get("/extensions") if "/comfyume/" in path).split("/")[2]
    for path in (
        f"/comfyume/workshop/{file}",
        f"/extensions/{name}/workshop/{file}",
        f"/extensions/{name}/../workshop/{file}",
        f"/extensions/{name}/{quote('../workshop/', safe='')}{file}",
        f"/comfyume/strings/..%2fworkshop%2f{posixpath.basename(file)}",
        f"/api/comfyume/workshop/{file}",
    ):
        with pytest.raises(RequestRefused) as refused:
            fetched(ada, path)
        assert refused.value.status in (403, 404), path
    ines = Client(room.frontend.address, headers=basic("ines.instructs"), connect=False)
    assert ines.request("GET", f"/comfyume/workshop/{file}") == (PANEL / file).read_bytes()


def test_no_answer_names_another_person(ada: Client, room: Pair, tmp_path: Path) -> None:
    gate = room.folder / graphs.name("gate")
    bob = Client(room.frontend.address, headers=basic("bob.the.other"), connect=False)
    bob.submit(graphs.gated(gate))
    with Client(room.frontend.address, headers=basic("ada")) as page:
        page.request("PUT", f"/comfyume/feeds/jobs?client={page.client_id}")
        mine = page.submit(graphs.image(graphs.name("mine")))
        gate.touch()
        page.wait(mine)
        heard = json.dumps([event.data for event in page.events if not isinstance(event.data, bytes)])
    wait_until(lambda: not bob.get("/comfyume/jobs", state="active")["jobs"], 20)
    answers = [heard, *(fetched(ada, path) for path in _addresses_of_participants(mine))]
    for answer in answers:
        assert "bob.the.other" not in answer
        assert "ines.instructs" not in answer


def _addresses_of_participants(job: str) -> list[str]:
    ours = ("me", "page", "allowance", "jobs", "jobs?state=active", f"jobs/{job}", "queue", "webhook-secret")
    native = ("queue", "history", "prompt", "users", "settings", "system_stats", "jobs", "object_info", "extensions")
    return [f"/comfyume/{path}" for path in ours] + [f"/{path}" for path in native if path != "jobs"]


def test_the_feeds_of_the_workshop_are_no_participants(ada: Client) -> None:
    def status(method: str, path: str) -> Any:
        try:
            ada.request(method, path)
        except RequestRefused as error:
            return error.status
        return 200

    for method in ("PUT", "GET", "DELETE"):
        assert status(method, f"/comfyume/feeds/workshop?client={ada.client_id}") == 403
