"""One glance at a workshop as it really is: three ComfyUIs at work, forty jobs that wait, and a worker that is lost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from comfyume.tests.browser.conftest import FIRST_VISIT_IS_OVER, NODE_PACK
from comfyume.tests.browser.interface import PATIENCE, Interface, see
from comfyume.tests.browser.visitors import INSTRUCTOR, Enter, ask, run_slowly, script_of, submit
from comfyume.tests.browser.workshop_panel import card, lines, open_panel, order, panel, row
from comfyume.tests.harness.client import wait_until
from comfyume.tests.harness.discovery import ComfyInstall
from comfyume.tests.harness.pair import Pair
from comfyume.tests.harness.people import add_users

pytestmark = [pytest.mark.browser, pytest.mark.acceptance, pytest.mark.timeout(300)]

#: Who is there, and what they work at.
WORKS = {
    "ada": "Storm over the harbour",
    "bob": "Dancing cat",
    "cleo": "Grandmother's kitchen, 1962",
    "emil": "Title sequence",
    "finn": "Robot in the rain",
    "gwen": "Paper boats",
    "hugo": "Opening shot v3",
    "ida": "Moon landing, miniature",
}
PEOPLE = tuple(WORKS)
#: Whose jobs run; and how long they would, in seconds.
AT_WORK, LONG = PEOPLE[:3], 600.0

#: Whether nothing of a text is cut.
IS_WHOLE = "text => text.scrollWidth <= text.clientWidth && text.scrollHeight <= text.clientHeight"


@pytest.fixture(scope="module")
def room(comfyui: ComfyInstall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A workshop with three workers."""
    base = tmp_path_factory.mktemp(f"glance-{comfyui.label}")
    with Pair(comfyui, base, workers=3, env={"COMFYUME_LEASE": "6"}, worker_node_packs=[NODE_PACK]) as pair:
        add_users(pair, {INSTRUCTOR: "instructor"} | dict.fromkeys(PEOPLE, "participant"))
        script_of(pair, INSTRUCTOR).post(FIRST_VISIT_IS_OVER, True)
        yield pair


def fits(tab: Interface) -> bool:
    """Whether nothing of the panel is beyond its edge."""
    return bool(panel(tab).evaluate("panel => panel.scrollWidth <= panel.clientWidth"))


def jobs_at_work(room: Pair) -> dict[str, dict[str, Any]]:
    """The running jobs, by worker."""
    jobs = ask(room, "GET", "/comfyume/jobs?state=active&user=*")["jobs"]
    return {job["worker"]: job for job in jobs if job["state"] == "running"}


def test_one_glance_at_three_workers_at_work_and_forty_jobs_that_wait(enter: Enter, room: Pair) -> None:
    running = {run_slowly(room, name, LONG, workflow=WORKS[name]): name for name in AT_WORK}
    at_work = wait_until(lambda: len(found := jobs_at_work(room)) == len(running) and found)
    for _ in range(5):
        for name in PEOPLE:
            submit(room, name, workflow=WORKS[name])

    tab = enter()
    open_panel(tab)
    see(lines(tab), "All is well: 3 running, 40 waiting.")
    for worker, job in at_work.items():
        there = card(tab, worker)
        see(there, "Busy")
        name = running[job["id"]]
        see(there, re.compile(rf"{name}, {WORKS[name]}, step \d+ of {4 * LONG:.0f}"))
        # Whole, however long the name of the workflow is.
        assert there.get_by_title(re.compile(r", step \d+")).evaluate(IS_WHOLE)
        before = there.locator("progress").evaluate("bar => bar.value")
        tab.wait("([bar, before]) => bar.value > before", [there.locator("progress").element_handle(), before])
    expect(panel(tab).get_by_role("grid")).to_have_attribute("aria-rowcount", "40")
    # Who has a job running goes behind those who have had nothing yet.
    assert order(tab)[: len(PEOPLE) - len(AT_WORK)] == list(PEOPLE[len(AT_WORK) :])
    assert fits(tab)
    tab.picture("1-dark")
    tab.choose_palette("light")
    tab.picture("2-light")
    tab.choose_palette("dark")

    tab.page.set_viewport_size({"width": 400, "height": 900})
    expect(panel(tab).get_by_role("grid")).to_be_visible()
    assert fits(tab)
    tab.picture("3-narrow")
    tab.page.set_viewport_size({"width": 1400, "height": 900})

    lost = jobs_at_work(room)["worker2"]
    room.workers[2].lose()
    see(lines(tab), re.compile(r"worker2 has not been heard of since \d+:\d+"))
    see(card(tab, "worker2"), "Not heard of")
    # The job is the next once its time is given back, of which no event tells.
    expect(row(tab, lost["id"])).to_have_attribute("aria-rowindex", "1", timeout=PATIENCE)
    expect(panel(tab).get_by_role("grid")).to_have_attribute("aria-rowcount", "41")
    tab.picture("4-lost")
