"""Models on their way: from a source, a folder and a real bucket, and back; cut off, spoiled, refused, too large."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from comfyume.blobs.object_folder import FolderObjects
from comfyume.model_vault import fetching
from comfyume.model_vault import pull as pulling
from comfyume.model_vault import sources as sources_module
from comfyume.model_vault.errors import Gated, NoRoom, PullUnderWay, SourceRefused
from comfyume.model_vault.here import LocalModels
from comfyume.model_vault.locating import Located, Locator
from comfyume.model_vault.needs import Need
from comfyume.model_vault.places import Place, PlainFolder, Vault, content_key, open_places
from comfyume.model_vault.pull import Pull, Report, Watch
from comfyume.model_vault.push import Push
from comfyume.model_vault.sources import SourceRules, Sources
from comfyume.model_vault.verify import verify_here, verify_vault
from comfyume.tests.harness.model_source import SourceServer, safetensors
from comfyume.tests.harness.s3 import S3Server

LOCAL = SourceRules(frozenset({"127.0.0.1", "localhost"}), hub="127.0.0.1")
ROOT = Path(__file__).resolve().parents[2]
RUN = f"""
import runpy, sys
runpy.run_path({str(ROOT / "tests/harness/package.py")!r})["register"]()
from comfyume.commands.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr(sources_module, "_PAUSES", (0.01,))


@pytest.fixture
def source() -> Iterator[SourceServer]:
    with SourceServer() as server:
        yield server


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(params=["bucket", "folder"])
def vault(request: pytest.FixtureRequest, tmp_path: Path) -> Vault:
    if request.param == "folder":
        (tmp_path / "vault").mkdir()
        return Vault(FolderObjects(tmp_path / "vault"))
    server: S3Server = request.getfixturevalue("s3")
    return Vault(server.open(prefix=hashlib.sha256(request.node.name.encode()).hexdigest()))


@pytest.fixture
def here(tmp_path: Path) -> LocalModels:
    return LocalModels(tmp_path / "models")


def need(source: SourceServer, name: str, content: bytes | None = None, folder: str = "vae", **more: Any) -> Need:
    if content is not None:
        source.files[name] = content
    return Need(folder, name, (source.url(name),), **more)


async def pull(
    here: LocalModels,
    needs: list[Need],
    *places: Place,
    rules: SourceRules = LOCAL,
    offline: bool = False,
    **options: Any,
) -> Report:
    more = {name: options.pop(name) for name in ("allow_pickles",) if name in options}
    async with Sources(rules) as sources:
        asked = None if offline else sources
        locator = Locator(here, places, asked, replace=options.get("replace", False), **more)
        return await Pull(here, asked, **options).run(await locator.locate(needs))


def put(here: LocalModels, name: str, content: bytes, folder: str = "vae") -> Path:
    path = here.root / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def contents(here: LocalModels) -> dict[str, bytes]:
    return {f"{file.folder}/{file.name}": file.path.read_bytes() for file in here.files()}


async def test_a_source_tells_hash_and_size_ahead_and_its_file_appears_whole(
    here: LocalModels, source: SourceServer
) -> None:
    wanted = need(source, "sub/a.safetensors", safetensors(1))
    async with Sources(LOCAL) as sources:
        told = await sources.ask(wanted.urls[0])
    content = source.files["sub/a.safetensors"]
    assert (told.size, told.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert not source.sent
    report = await pull(here, [wanted])
    assert report.come == {wanted.key: wanted.urls[0]}
    assert not report.unnamed
    assert contents(here) == {"vae/sub/a.safetensors": content}
    known = here.known(*wanted.key)
    assert known is not None
    assert (known.digest.sha256, known.url) == (told.sha256, wanted.urls[0])
    assert not (await pull(here, [wanted])).come
    assert source.sent["sub/a.safetensors"] == len(content)


async def test_cuts_are_resumed_with_and_without_a_hash(here: LocalModels, source: SourceServer) -> None:
    needs = [need(source, name, safetensors(i, 900_000)) for i, name in enumerate(("a.safetensors", "b.safetensors"))]
    source.plain.add("b.safetensors")
    for each in needs:
        source.cut[each.name] = [200_000, 300_000, 0]
    report = await pull(here, needs)
    assert not report.failed
    assert report.unnamed == [needs[1].key]
    assert contents(here) == {f"vae/{each.name}": source.files[each.name] for each in needs}
    for each in needs:
        assert source.sent[each.name] < len(source.files[each.name]) * 1.3
        assert sum(line.startswith(f"GET {each.name} bytes=") for line in source.asked) == 3


async def test_folder_then_bucket_then_source(
    here: LocalModels, source: SourceServer, s3: S3Server, tmp_path: Path
) -> None:
    needs = [need(source, f"{name}.safetensors", safetensors(ord(name))) for name in "abc"]
    elsewhere = LocalModels(tmp_path / "elsewhere")
    bucket = Vault(s3.open(prefix="tiers"))
    for name in "ab":
        put(elsewhere, f"{name}.safetensors", source.files[f"{name}.safetensors"])
    Push(elsewhere, bucket).run(elsewhere.files())
    put(LocalModels(tmp_path / "drive"), "a.safetensors", source.files["a.safetensors"])
    names = ["s3://workshop/tiers", str(tmp_path / "drive")]
    places = open_places(names, lambda name: FolderObjects(Path(name)) if name.startswith("/") else bucket.store)
    report = await pull(here, needs, *places)
    assert [report.come[each.key] for each in needs] == [
        str(tmp_path / "drive"),
        "s3://workshop/tiers",
        needs[2].urls[0],
    ]
    assert list(source.sent) == ["c.safetensors"]
    assert contents(here) == {f"vae/{each.name}": source.files[each.name] for each in needs}


async def test_what_was_pushed_is_pulled_elsewhere_with_the_same_hash(
    here: LocalModels, vault: Vault, tmp_path: Path
) -> None:
    sizes = {"small.safetensors": 10, "large.safetensors": 20_000_000}
    originals = {f"vae/{name}": put(here, name, safetensors(size, size)).read_bytes() for name, size in sizes.items()}
    report = Push(here, vault, urls={("vae", "small.safetensors"): "https://huggingface.co/x"}).run(here.files())
    assert sorted(report.come) == [("vae", "large.safetensors"), ("vae", "small.safetensors")]
    assert not Push(here, vault).run(here.files()).come
    assert {offer.name: offer.url for offer in vault.offers()}["small.safetensors"] == "https://huggingface.co/x"
    other = LocalModels(tmp_path / "other")
    report = await pull(other, [Need("vae", name) for name in sizes], vault, offline=True)
    assert not report.failed
    assert contents(other) == originals
    assert not [finding for finding in verify_vault(vault) if finding.problem]


def test_concurrent_pushes_leave_every_model_in_the_index(vault: Vault, tmp_path: Path) -> None:
    machines = []
    for number in range(4):
        here = LocalModels(tmp_path / str(number))
        put(here, "shared.safetensors", safetensors(0))
        for each in range(4):
            put(here, f"{number}-{each}.safetensors", safetensors(100 * number + each, 1000))
        machines.append(here)
    programs = [Push(here, vault) for here in machines]
    threads = [
        threading.Thread(target=lambda p=p, h=h: p.run(h.files())) for p, h in zip(programs, machines, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(vault.offers())) == 17
    assert not [finding for finding in verify_vault(vault) if finding.problem]


def test_a_push_replaces_no_other_file_unless_asked(here: LocalModels, vault: Vault, tmp_path: Path) -> None:
    put(here, "a.safetensors", safetensors(1))
    Push(here, vault).run(here.files())
    other = LocalModels(tmp_path / "other")
    put(other, "a.safetensors", safetensors(2))
    report = Push(other, vault).run(other.files())
    assert "another file" in report.failed["vae", "a.safetensors"]
    assert Push(other, vault, replace=True).run(other.files()).come
    offer = vault.find("vae", "a.safetensors")
    assert offer is not None
    assert offer.sha256 == hashlib.sha256(safetensors(2)).hexdigest()


def test_removing_keeps_what_another_model_has(here: LocalModels, vault: Vault) -> None:
    put(here, "a.safetensors", safetensors(1))
    put(here, "b.safetensors", safetensors(1), folder="loras")
    Push(here, vault).run(here.files())
    first, second = vault.offers()
    assert vault.remove(first) == 0
    assert vault.store.size_of(content_key(second.sha256)) == second.size
    assert vault.remove(second) == second.size
    assert not list(vault.store.listing(""))


def test_a_push_that_a_prune_meets_leaves_no_entry_without_content(
    here: LocalModels, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(here, "a.safetensors", safetensors(1))
    Push(here, vault).run(here.files())
    (offer,) = vault.offers()
    write = type(vault.store).write

    def write_behind_a_prune(self: Any, key: str, data: bytes) -> None:
        vault.remove(offer)
        write(self, key, data)

    put(here, "b.safetensors", safetensors(1))
    second = [file for file in here.files() if file.name == "b.safetensors"]
    with monkeypatch.context() as patch:
        # Between the look for the content, which is there, and the entry in the index that names it.
        patch.setattr(
            vault.store, "write", lambda key, data: (patch.undo(), write_behind_a_prune(vault.store, key, data))
        )
        Push(here, vault).run(second)
    assert [each.name for each in vault.offers()] == ["b.safetensors"]
    assert not [finding for finding in verify_vault(vault) if finding.problem]


async def test_a_gated_source_says_what_to_accept_and_where_and_the_others_come(
    here: LocalModels, source: SourceServer
) -> None:
    closed = need(source, "closed.safetensors", safetensors(1))
    free = need(source, "free.safetensors", safetensors(2))
    source.gated.add("closed.safetensors")
    report = await pull(here, [closed, free])
    assert list(report.come) == [free.key]
    why = report.failed[closed.key]
    assert f"http://127.0.0.1:{source.port}/org/repo " in why
    assert "HF_TOKEN" in why
    with_token = SourceRules(LOCAL.hosts, hub="127.0.0.1", token="let-me-in")
    report = await pull(here, [closed], rules=with_token)
    assert list(report.come) == [closed.key]
    # Where the hub leads on to, nobody gets the token.
    assert source.tokens["cdn"] == {""}
    wrong = SourceRules(LOCAL.hosts, hub="127.0.0.1", token="wrong-canary")
    source.gated.add("free.safetensors")
    async with Sources(wrong) as sources:
        with pytest.raises(Gated, match="has not accepted") as refused:
            await sources.ask(free.urls[0])
    assert "canary" not in str(refused.value) + repr(wrong)


async def test_a_wrong_hash_from_a_source_is_refused(here: LocalModels, source: SourceServer) -> None:
    spoiled = need(source, "a.safetensors", safetensors(1))
    source.lies["a.safetensors"] = "ab" * 32
    other = need(source, "b.safetensors", safetensors(2), sha256="cd" * 32)
    unnamed = need(source, "c.safetensors", safetensors(3), sha256="cd" * 32)
    source.plain.add("c.safetensors")
    report = await pull(here, [spoiled, other, unnamed])
    assert not report.come
    assert "Expected a file with SHA-256 abab" in report.failed[spoiled.key]
    assert "another file than the one that the workflow names" in report.failed[other.key]
    assert "cdcd" in report.failed[unnamed.key]
    assert not contents(here)
    assert source.sent["b.safetensors"] == 0


async def test_a_folder_with_another_file_than_the_workflow_names_is_passed_over(
    here: LocalModels, source: SourceServer, tmp_path: Path
) -> None:
    content = safetensors(1)
    wanted = need(source, "a.safetensors", content, sha256=hashlib.sha256(content).hexdigest())
    drive = LocalModels(tmp_path / "drive")
    put(drive, "a.safetensors", safetensors(2))
    report = await pull(here, [wanted], PlainFolder(drive.root), offline=True)
    assert "instead of" in report.failed[wanted.key]
    assert not contents(here)
    assert (await pull(here, [wanted], PlainFolder(drive.root))).come == {wanted.key: wanted.urls[0]}
    assert contents(here) == {"vae/a.safetensors": content}


async def test_a_folder_laid_out_as_comfyuis_gives_each_file_its_own_content(here: LocalModels, tmp_path: Path) -> None:
    drive = LocalModels(tmp_path / "drive")
    for number in range(5):
        put(drive, f"{number}.safetensors", safetensors(number, 1000 * number))
    needs = [Need("vae", f"{number}.safetensors") for number in range(5)]
    report = await pull(here, needs, PlainFolder(drive.root), offline=True)
    assert len(report.come) == len(report.unnamed) == 5
    assert contents(here) == {f"vae/{number}.safetensors": safetensors(number, 1000 * number) for number in range(5)}


async def test_the_next_address_is_asked_where_one_has_moved_and_where_one_is_spoiled(
    here: LocalModels, source: SourceServer
) -> None:
    for number, name in enumerate(("spoiled.safetensors", "good.safetensors")):
        need(source, name, safetensors(number))
    source.lies["spoiled.safetensors"] = "ab" * 32
    urls = tuple(source.url(f"{name}.safetensors") for name in ("moved", "spoiled", "good", "never"))
    report = await pull(here, [Need("vae", "a.safetensors", urls)])
    assert report.come == {("vae", "a.safetensors"): urls[2]}
    assert contents(here) == {"vae/a.safetensors": safetensors(1)}


async def test_what_is_no_safetensors_file_is_refused(here: LocalModels, source: SourceServer) -> None:
    page = need(source, "page.safetensors", b"<!DOCTYPE html><html>Sign in</html>")
    short = need(source, "short.safetensors", safetensors(1)[:-5])
    report = await pull(here, [page, short])
    assert "no safetensors file" in report.failed[page.key]
    assert "cut off" in report.failed[short.key]
    assert not contents(here)


async def test_pickles_are_refused_by_pull_and_push(here: LocalModels, source: SourceServer, vault: Vault) -> None:
    wanted = need(source, "a.ckpt", b"a pickle")
    report = await pull(here, [wanted])
    assert "any program" in report.failed[wanted.key]
    assert not source.asked
    assert (await pull(here, [wanted], allow_pickles=True)).come
    assert "any program" in Push(here, vault).run(here.files()).failed[wanted.key]
    assert Push(here, vault, allow_pickles=True).run(here.files()).come


@pytest.mark.parametrize(
    "url",
    [
        "http://huggingface.co/o/r/resolve/main/a.safetensors",
        "https://evil.example/a.safetensors",
        "https://127.0.0.1/a.safetensors",
        "https://169.254.169.254/latest/a.safetensors",
        "https://[::1]/a.safetensors",
        "https://huggingface.co@10.0.0.1/a.safetensors",
        "https://huggingface.co.evil.example/a.safetensors",
        "file:///etc/passwd",
        "https://[/",
    ],
)
async def test_other_hosts_and_this_machine_are_not_asked(url: str) -> None:
    async with Sources(SourceRules()) as sources:
        with pytest.raises(SourceRefused):
            await sources.ask(url)


async def test_a_source_cannot_lead_on_into_the_network(
    here: LocalModels, source: SourceServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only the first host is allowed here, so a redirect to the other name of this machine leads inwards.
    wanted = need(source, "a.safetensors", safetensors(1))
    source.moved_to["a.safetensors"] = f"http://localhost:{source.port}/cdn/a.safetensors"
    only = SourceRules(frozenset({"127.0.0.1"}))
    report = await pull(here, [wanted], rules=only)
    assert "https" in report.failed[wanted.key]
    source.moved_to["a.safetensors"] = f"https://localhost:{source.port}/cdn/a.safetensors"
    report = await pull(here, [wanted], rules=only)
    assert "localhost is no address on the internet" in report.failed[wanted.key]
    assert not source.asked


async def test_nothing_is_fetched_where_it_does_not_all_fit(
    here: LocalModels, source: SourceServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = [need(source, f"{n}.safetensors", safetensors(n, 500_000)) for n in range(3)]
    monkeypatch.setattr(pulling, "SPARE", shutil.disk_usage(here.root.parent).free - 1_000_000)
    with pytest.raises(NoRoom, match=r"3 models need 0\.0 GB"):
        await pull(here, needs)
    assert not source.sent
    monkeypatch.undo()
    assert (await pull(here, needs[:1])).come


async def test_another_file_of_the_name_stays_unless_it_may_be_replaced(
    here: LocalModels, source: SourceServer, vault: Vault, tmp_path: Path
) -> None:
    other = LocalModels(tmp_path / "other")
    put(other, "a.safetensors", safetensors(1))
    Push(other, vault).run(other.files())
    mine = put(here, "a.safetensors", safetensors(2, 333))
    report = await pull(here, [Need("vae", "a.safetensors")], vault)
    assert "another file" in report.failed["vae", "a.safetensors"]
    assert mine.read_bytes() == safetensors(2, 333)
    assert (await pull(here, [Need("vae", "a.safetensors")], vault, replace=True)).come
    assert mine.read_bytes() == safetensors(1)


async def test_a_place_that_lost_a_model_is_passed_over(
    here: LocalModels, source: SourceServer, vault: Vault, tmp_path: Path
) -> None:
    wanted = need(source, "a.safetensors", safetensors(1))
    other = LocalModels(tmp_path / "other")
    put(other, "a.safetensors", safetensors(1))
    Push(other, vault).run(other.files())
    (offer,) = vault.offers()
    vault.store.delete(content_key(offer.sha256))
    assert [finding.problem for finding in verify_vault(vault)] == ["its content is missing; push it again"]
    report = await pull(here, [wanted], vault)
    assert report.come == {wanted.key: wanted.urls[0]}


class Order(Watch):
    """Notes which file's bytes came when."""

    def __init__(self) -> None:
        self.order: list[str] = []

    def has_come(self, located: Located, where: str) -> None:
        self.order.append(located.need.name)


async def test_files_come_in_the_order_of_need_and_several_at_once(here: LocalModels, source: SourceServer) -> None:
    needs = [need(source, f"{n}.safetensors", safetensors(n, 400_000)) for n in range(6)]
    watch = Order()
    await pull(here, needs, at_once=1, watch=watch)
    assert watch.order == [each.name for each in needs]
    assert source.most_at_once == 1
    source.rate = 4_000_000
    await pull(LocalModels(here.root.parent / "again"), needs, at_once=3)
    assert source.most_at_once == 3


async def test_one_content_under_two_names_comes_once(here: LocalModels, source: SourceServer) -> None:
    first = need(source, "a.safetensors", safetensors(1))
    second = need(source, "b.safetensors", safetensors(1), folder="loras")
    plain = [Need("vae", f"{n}.safetensors", (source.url("c.safetensors"),)) for n in range(2)]
    need(source, "c.safetensors", safetensors(2))
    source.plain.add("c.safetensors")
    assert len((await pull(here, [first, second, *plain])).come) == 4
    assert len(set(contents(here).values())) == 2
    assert source.sent["a.safetensors"] + source.sent["b.safetensors"] == len(safetensors(1))
    assert source.sent["c.safetensors"] == len(safetensors(2))
    assert not [finding for finding in verify_here(here) if finding.problem or not finding.is_certain]


async def test_a_damaged_file_that_came_by_other_ways_is_told_and_replaced_when_asked(
    here: LocalModels, source: SourceServer
) -> None:
    wanted = need(source, "a.safetensors", safetensors(1))
    put(here, "a.safetensors", safetensors(1)[:-7])
    assert "cut off" in (await pull(here, [wanted])).failed[wanted.key]
    assert not source.sent
    assert (await pull(here, [wanted], replace=True)).come
    assert contents(here) == {"vae/a.safetensors": safetensors(1)}


async def test_two_pulls_do_not_fill_one_folder(here: LocalModels, source: SourceServer) -> None:
    wanted = need(source, "a.safetensors", safetensors(1))
    with here.locked(), pytest.raises(PullUnderWay):
        await pull(here, [wanted])
    assert (await pull(here, [wanted])).come


def run(*arguments: str, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RUN, "models", *arguments],
        env={**os.environ, "COMFYUME_MODELS_HOSTS": "127.0.0.1, localhost", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )


def until(condition: Callable[[], bool], timeout: float = 30.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def graph_of(path: Path, needs: list[Need]) -> Path:
    models = [{"name": each.name, "url": each.urls[0], "directory": each.folder} for each in needs]
    path.write_text(json.dumps({"nodes": [{"id": 1, "type": "x", "properties": {"models": models}}]}))
    return path


def test_a_pull_that_is_killed_goes_on_and_fetches_nothing_whole_twice(
    here: LocalModels, source: SourceServer, tmp_path: Path
) -> None:
    sizes = (100_000, 150_000, 3_000_000, 3_000_001, 3_000_002)
    needs = [need(source, f"{n}.safetensors", safetensors(n, size)) for n, size in enumerate(sizes)]
    source.plain.add("3.safetensors")
    source.rate = 2_000_000
    graph = graph_of(tmp_path / "graph.json", needs)
    arguments = ("--models", str(here.root), "pull", "test-card", "--workflow", str(graph))
    process = run(*arguments)
    until(lambda: source.sent["3.safetensors"] > 1_500_000)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    there = contents(here)
    assert set(there) == {"vae/0.safetensors", "vae/1.safetensors"}
    source.rate = None
    before = dict(source.sent)
    process = run(*arguments)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    assert contents(here) == {f"vae/{each.name}": source.files[each.name] for each in needs}
    assert [source.sent[f"{n}.safetensors"] - before[f"{n}.safetensors"] for n in (0, 1)] == [0, 0]
    again = sum(source.sent.values())
    assert again < sum(map(len, source.files.values())) + 3 * 1_500_000
    assert "3 files" in err
    process = run("--models", str(here.root), "verify")
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "5 models looked at, 0 of them are damaged.\n")


async def test_damaged_changed_and_swapped_files_are_found(
    here: LocalModels, source: SourceServer, vault: Vault
) -> None:
    names = ["whole", "short", "changed", "one", "two"]
    needs = [need(source, f"{name}.safetensors", safetensors(i)) for i, name in enumerate(names)]
    await pull(here, needs)
    Push(here, vault).run(here.files())
    assert not [each for each in verify_here(here, [vault]) if each.problem]
    folder = here.root / "vae"
    os.truncate(folder / "short.safetensors", 1000)
    spoiled = bytearray((folder / "changed.safetensors").read_bytes())
    spoiled[5000:5007] = b"changed"
    (folder / "changed.safetensors").write_bytes(spoiled)
    os.rename(folder / "one.safetensors", folder / "x")
    os.rename(folder / "two.safetensors", folder / "one.safetensors")
    os.rename(folder / "x", folder / "two.safetensors")
    found = {each.name.removeprefix("vae/"): each.problem for each in verify_here(here, [vault]) if each.problem}
    assert "cut off: 1,000 of" in found.pop("short.safetensors")
    assert "another content" in found.pop("changed.safetensors")
    assert "that of vae/two.safetensors" in found.pop("one.safetensors")
    assert "that of vae/one.safetensors" in found.pop("two.safetensors")
    assert not found
    quick = [each.name for each in verify_here(here, [vault], quick=True) if each.problem]
    assert quick == ["vae/short.safetensors"]
    # And nothing of that is pushed.
    assert set(Push(here, vault).run(here.files()).failed) == {("vae", f"{name}.safetensors") for name in names[1:]}


def test_a_file_that_came_by_other_ways_is_checked_by_its_header(here: LocalModels) -> None:
    put(here, "a.safetensors", safetensors(1))
    put(here, "b.safetensors", safetensors(1)[:-1])
    put(here, "c.safetensors", safetensors(1) + b"x")
    put(here, "d.safetensors", b"")
    put(here, "e.safetensors", (9).to_bytes(8, "little") + b'{"t": []}')
    found = {each.name[4]: each.problem for each in verify_here(here, quick=True)}
    assert found["a"] == ""
    assert "cut off" in found["b"]
    assert "1 bytes more" in found["c"]
    assert "no safetensors" in found["d"]
    assert "header" in found["e"]


def test_a_folder_laid_out_as_comfyuis_is_a_place(tmp_path: Path) -> None:
    models = LocalModels(tmp_path / "drive")
    put(models, "a.safetensors", safetensors(1), folder="clip")
    place = PlainFolder(models.root)
    assert [(offer.folder, offer.name) for offer in place.offers()] == [("text_encoders", "a.safetensors")]
    assert place.find("text_encoders", "a.safetensors") is not None
    assert place.find("vae", "a.safetensors") is None
