"""What one glance at the panel tells of workshops that are made up."""

from __future__ import annotations

import re
import time
from functools import partial
from typing import Any

import pytest
from playwright.sync_api import expect

from comfyume.job_queue.jobs import GIB
from comfyume.tests.browser.interface import PATIENCE, see
from comfyume.tests.browser.made_up import NOT_A_NAME, answer, job_row, make_up, running_row, worker_row
from comfyume.tests.browser.visitors import Enter
from comfyume.tests.browser.workshop_panel import card, lines, open_panel, order, panel, row, show

pytestmark = [pytest.mark.browser, pytest.mark.acceptance, pytest.mark.timeout(300)]


@pytest.mark.parametrize("palette", ["dark", "light"])
@pytest.mark.parametrize("width", [1400, 400])
def test_one_glance_at_three_workers_and_forty_jobs(enter: Enter, palette: str, width: int) -> None:
    tab = enter(width=width)
    tab.choose_palette(palette)
    jobs = [job_row(number) for number in range(40)]
    jobs[1] |= {"level": "front"}
    jobs[4] |= {"held": True, "why": "held", "starts_at": None}
    make_up(tab, [worker_row(number) for number in range(3)], [*map(running_row, range(3)), *jobs])
    open_panel(tab)
    see(lines(tab), "All is well: 3 running, 40 waiting.")
    first = card(tab, "gpu-0")
    for words in (
        "Busy",
        "21 of 24 GiB",
        "busy 97 %",
        "61 °C",
        "RTX 4090",
        "ada, Dancing cat 900, step 5 of 20",
        "1.20 / h",
        "Flux",
        "lease",
    ):
        see(first, words)
    assert first.get_by_role("meter").get_attribute("aria-valuenow") == "88"
    assert first.get_by_role("progressbar").evaluate("bar => bar.value / bar.max") == 0.25
    see(row(tab, "job-1"), re.compile("2.*bob.*Front.*33 sec.*starts in 3[01] sec · 6 GiB", re.DOTALL))
    see(row(tab, "job-4"), re.compile("Held.*held back", re.DOTALL))
    assert order(tab)[:3] == ["ada", "bob", "cleo"]
    assert panel(tab).evaluate("panel => panel.scrollWidth <= panel.clientWidth")
    tab.picture(f"{palette}-{width}")


def test_what_is_wrong_is_said_on_top_the_worst_first(enter: Enter) -> None:
    tab = enter()
    hot = [worker_row(0)["devices"][0] | {"temperature": 92}]
    file = "checkpoints/missing.safetensors"
    jobs = [
        *(job_row(number, why="models", lacks=file, starts_at=None) for number in range(12)),
        *(job_row(number, why="memory", need=90 * GIB, starts_at=None) for number in range(12, 15)),
        job_row(15, why="nodes", lacks="NodeOfNobody", starts_at=None),
    ]
    lost = worker_row(1, state="lost", lease=0, job=None, lost=time.time())
    make_up(tab, [worker_row(0, devices=hot), lost], [running_row(0), *jobs], paused=True)
    open_panel(tab)
    texts = lines(tab).locator("p").all_inner_texts()
    assert texts[:4] == [
        f"12 jobs need {file}, which no worker has.",
        "3 jobs need 90 GiB or more on a GPU, more than any worker has.",
        "1 job needs the node NodeOfNobody, which no worker has.",
        "The queue is paused, and 16 jobs wait.",
    ]
    assert texts[4] == "gpu-0: its GPU is at 92 °C."
    assert texts[5].startswith("gpu-1 has not been heard of since ")
    tab.picture("end")


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"workers": [], "jobs": [job_row(1), job_row(2)]}, "No worker is there, and 2 jobs wait."),
        ({"workers": [], "jobs": []}, "No worker is there."),
        (
            {"workers": [worker_row(0, drained=True, state="draining")], "jobs": [job_row(1)]},
            "All workers are draining",
        ),
        ({"workers": [worker_row(0)], "jobs": [], "store": False}, "The queue's store is away."),
    ],
    ids=["no worker and jobs", "no worker", "all drained", "no store"],
)
def test_what_keeps_a_workshop_from_going_on_is_said(enter: Enter, told: dict[str, Any], words: str) -> None:
    tab = enter()
    make_up(tab, **told)
    open_panel(tab)
    see(lines(tab), words)
    expect(panel(tab)).to_have_attribute("data-mood", "grave")
    tab.picture("end")


def test_names_are_text_and_the_panel_keeps_its_shape(enter: Enter) -> None:
    tab = enter(width=400)
    name = NOT_A_NAME
    workers = [
        worker_row(0, name=name, job="running-0", reserved_for=name, loaded=[name, name]),
        worker_row(1, job=None, state="lost", devices=[worker_row(1)["devices"][0] | {"name": name}]),
    ]
    jobs = [
        running_row(0, user=name, name=name, worker=name),
        job_row(1, user=name, name=name, level="front"),
        job_row(2, user=name, name=name, why="models", lacks=name, starts_at=None),
        job_row(3, user=name, why="nodes", lacks=name, starts_at=None, held=True),
    ]
    make_up(tab, workers, jobs)
    limits = dict.fromkeys(("per_person", "per_minute", "gpu_day", "gpu_workshop", "credits_hour", "disk"))
    used = {"queued": 1, "gpu_day": 2.0, "gpu_workshop": 3.0, "booked": 0, "credits": 4.0}
    people = [{"user": name, "role": "participant", "here": True, "limits": limits, "own": [], "used": used}]
    sums = {"jobs": 1, "states": {"done": 1}, "files": 1, "wait_p50": 1, "wait_p95": 2, "gpu_seconds": 3}
    sums |= {"cost": 0.5, "frames": 1, "cost_per_frame": 0.5}
    ended = {"job": "x", "user": name, "name": name, "state": "done", "ended": 1, "waited": 1, "ran": 1, "worker": name}
    ended |= {"files": 1, "cost": 0.5}
    history = {"totals": sums, "people": [{"user": name} | sums], "workers": [{"worker": name} | sums], "jobs": [ended]}
    files = [{"folder": name, "file": name, "workers": [name]}, {"folder": name, "file": name, "workers": []}]
    for path, body in (
        ("people", people),
        ("templates", [{"name": name, "files": files, "missing": 1}]),
        ("history?*", history),
    ):
        tab.page.route(f"**/comfyume/{path}", partial(answer, body=body))
    open_panel(tab)
    see(row(tab, "job-1"), "<img")
    tab.picture("now")
    for section, place in (("Now", "grid"), ("People", "searchbox"), ("Models", "list"), ("History", "table")):
        show(tab, section)
        expect(panel(tab).get_by_role(place).last).to_be_visible(timeout=PATIENCE)
        expect(panel(tab).get_by_role("tabpanel")).to_contain_text("<img", timeout=PATIENCE)
        for summary in panel(tab).locator("summary").filter(has_text="<img").all():
            summary.click()
        assert panel(tab).evaluate("panel => panel.scrollWidth <= panel.clientWidth")
        assert panel(tab).get_by_role("tabpanel").evaluate("panel => panel.scrollWidth <= panel.clientWidth")
        tab.picture(section.lower())
    row_name = "Cancel job 1 of"
    show(tab, "Now")
    panel(tab).get_by_role("button", name=row_name).click()
    see(tab.page.get_by_role("dialog"), "<img")
    assert tab.page.evaluate("window.taken") is None
