"""Fixtures of the browser tests: Chromium, a frontend with one worker, and what a plain ComfyUI complains about.

Playwright's loop stays the running one of this thread while it lives, and other tests need loops of their own: so the
browser lives as long as the tests of one module run, and no longer. (pytest takes a package scope for the whole session
where a folder has no ``__init__.py``.)
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="no Playwright: pip install playwright")

from playwright.sync_api import Browser, sync_playwright

from comfyume.tests.browser import graphs
from comfyume.tests.browser.interface import Complaint, Interface
from comfyume.tests.browser.visitors import INSTRUCTOR, Enter, letting_in
from comfyume.tests.harness.client import Client
from comfyume.tests.harness.discovery import ComfyInstall
from comfyume.tests.harness.pair import Pair
from comfyume.tests.harness.people import add_users
from comfyume.tests.harness.processes import ComfyProcess

HERE = Path(__file__).parent
NODE_PACK = HERE / "node_pack"
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
FIRST_VISIT_IS_OVER = "/settings/Comfy.TutorialCompleted"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One headless browser; set CHROMIUM to its program if it is not on the PATH."""
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not program:
        pytest.skip("no browser: install chromium or set CHROMIUM to its program")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def workshop(comfyui: ComfyInstall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A frontend and one worker; the nodes of these tests and the one checkpoint are the worker's alone."""
    with Pair(
        comfyui,
        tmp_path_factory.mktemp(f"browser-{comfyui.label}"),
        worker_node_packs=[NODE_PACK],
        worker_model_files={"checkpoints/only.safetensors": b""},
    ) as pair:
        yield pair


@pytest.fixture(scope="session")
def shared_room(comfyui: ComfyInstall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A workshop with an instructor; modules add people of their own. Leave it running, with nothing queued."""
    with Pair(comfyui, tmp_path_factory.mktemp(f"people-{comfyui.label}"), worker_node_packs=[NODE_PACK]) as pair:
        add_users(pair, {INSTRUCTOR: "instructor"})
        yield pair


@pytest.fixture
def person(workshop: Pair) -> Client:
    """Requests of the same person beside the browser; their first visit is over unless a test says otherwise."""
    client = Client(workshop.frontend.address, connect=False)
    client.post(FIRST_VISIT_IS_OVER, True)
    return client


@pytest.fixture
def pictures(request: pytest.FixtureRequest, comfyui: ComfyInstall) -> Callable[[str], Path]:
    """Where this test's screenshots go: BROWSER_ARTEFACTS, else ``artefacts`` beside the tests."""
    folder = Path(os.environ.get("BROWSER_ARTEFACTS") or HERE / "artefacts")
    folder.mkdir(parents=True, exist_ok=True)
    test = re.sub(r"^test_|\[.*", "", request.node.name)
    return lambda name: folder / f"{comfyui.label}-{test}-{name}.png"


@pytest.fixture
def tab(
    chromium: Browser,
    workshop: Pair,
    person: Client,
    pictures: Callable[[str], Path],
    plain_complaints: frozenset[Complaint],
) -> Iterator[Interface]:
    """A tab of a browser that was never here; it may complain of nothing that a plain ComfyUI's does not."""
    with chromium.new_context(viewport={"width": 1600, "height": 900}) as context:
        interface = Interface(context.new_page(), workshop.frontend.url, pictures)
        yield interface
        interface.picture("end")
    assert not [complaint for complaint in interface.complaints if complaint.is_of_this_extension]
    assert not [complaint for complaint in interface.complaints if complaint not in plain_complaints]


@pytest.fixture
def enter(chromium: Browser, room: Pair, pictures: Callable[[str], Path]) -> Iterator[Enter]:
    """Lets people in to the workshop that a module has as ``room``."""
    with letting_in(chromium, room, pictures) as let_in:
        yield let_in


@pytest.fixture(scope="module")
def plain_complaints(
    chromium: Browser, comfyui: ComfyInstall, tmp_path_factory: pytest.TempPathFactory
) -> frozenset[Complaint]:
    """The errors in the console of a ComfyUI without this extension, over the steps that the tests take."""
    base = tmp_path_factory.mktemp(f"plain-{comfyui.label}")
    with (
        ComfyProcess(comfyui, base, mode="vanilla", node_packs=[NODE_PACK]) as process,
        chromium.new_context() as context,
    ):
        Client(process.address, connect=False).post(FIRST_VISIT_IS_OVER, True)
        interface = Interface(context.new_page(), process.url, lambda name: base / f"{name}.png")
        interface.open()
        interface.load(graphs.slow(2, prefix="slow"), "slow")
        interface.run()
        interface.wait_running("BrowserSlowPicture")
        interface.reload()
        interface.wait_idle()
        for name, graph in (("failing", graphs.failing("no")), ("impossible", graphs.impossible("third.safetensors"))):
            interface.load(graph, name)
            interface.run()
            interface.show_error()
            interface.page.keyboard.press("Escape")
    return frozenset(interface.complaints)
