"""A workshop that all tests of the instructor's panel share, and the instructor's page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from comfyume.tests.browser.conftest import FIRST_VISIT_IS_OVER, NODE_PACK
from comfyume.tests.browser.interface import Interface
from comfyume.tests.browser.made_up import PEOPLE
from comfyume.tests.browser.visitors import Enter, ask, script_of, waiting
from comfyume.tests.browser.workshop_panel import open_panel
from comfyume.tests.harness.discovery import ComfyInstall
from comfyume.tests.harness.pair import Pair
from comfyume.tests.harness.people import add_users


@pytest.fixture(scope="package")
def room(comfyui: ComfyInstall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A workshop with one worker, an instructor and some participants."""
    base = tmp_path_factory.mktemp(f"panel-{comfyui.label}")
    env = {"COMFYUME_PRICE_HOUR": "36", "COMFYUME_LEASE": "6"}
    # For machines that join; none does here.
    address = {"COMFYUME_WORKERS_REDIS_URL": "redis://worker-here:password@store.example:6379"}
    with Pair(comfyui, base, env=env, frontend_env=address, worker_node_packs=[NODE_PACK]) as pair:
        add_users(pair, {"ines": "instructor"} | dict.fromkeys((*PEOPLE, "dora"), "participant"))
        for name in ("ines", "dora", *PEOPLE):
            script_of(pair, name).post(FIRST_VISIT_IS_OVER, True)
        yield pair


@pytest.fixture(autouse=True)
def quiet(room: Pair) -> Iterator[None]:
    """Nothing is queued, and the queue goes on as usual, when a test begins."""
    yield
    ask(room, "PATCH", "/comfyume/queue", {"paused": False, "mode": "fair"})
    while jobs := waiting(room):
        ask(room, "POST", "/comfyume/jobs/cancel", {"ids": jobs[:200]})
    ask(room, "PATCH", "/comfyume/workers/worker0", {"drained": False, "reserved_for": None})


@pytest.fixture
def tab(enter: Enter) -> Interface:
    """The instructor's page with the panel open."""
    opened = enter()
    open_panel(opened)
    return opened
