"""What an instructor does to the queue, its jobs and the workers."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from comfyume.tests.browser.interface import PATIENCE, Interface, see
from comfyume.tests.browser.visitors import Enter, ask, pause, run_slowly, submit, waiting
from comfyume.tests.browser.workshop_panel import card, lines, open_panel, panel, press, row, rows, undo, undo_bar
from comfyume.tests.harness.client import wait_until
from comfyume.tests.harness.pair import Pair

pytestmark = [pytest.mark.browser, pytest.mark.acceptance, pytest.mark.timeout(300)]


def test_jobs_are_held_moved_and_put_back(tab: Interface, room: Pair) -> None:
    # The one worker is busy meanwhile.
    run_slowly(room, "finn", 300)
    see(lines(tab), "1 running, 0 waiting")
    first, second, third = (submit(room, name)[0] for name in ("ada", "bob", "cleo"))
    expect(rows(tab)).to_have_count(3, timeout=PATIENCE)
    row(tab, second).get_by_role("button", name="Hold job").click()
    see(row(tab, second), "Held")
    see(undo_bar(tab), "Held 1 job.")
    tab.picture("1-held")
    undo(tab)
    expect(row(tab, second)).not_to_contain_text("Held", timeout=PATIENCE)
    row(tab, third).get_by_role("button", name="to the front").click()
    expect(row(tab, third)).to_have_attribute("aria-rowindex", "1", timeout=PATIENCE)
    see(row(tab, third), "Front")
    undo(tab)
    expect(row(tab, third)).not_to_contain_text("Front", timeout=PATIENCE)
    # Several at once.
    row(tab, first).click()
    row(tab, third).click()
    see(panel(tab), "2 selected")
    panel(tab).get_by_label("Priority").select_option("High")
    see(undo_bar(tab), "Priority of 2 jobs: High.")
    see(row(tab, first), "High")
    see(row(tab, third), "High")
    tab.picture("2-selected")
    press(tab, "Hold")
    see(undo_bar(tab), "Held 2 jobs.")
    see(row(tab, third), "Held")
    press(tab, "Cancel")
    question = tab.page.get_by_role("dialog")
    see(question, "Cancel 2 jobs?")
    tab.picture("3-question")
    question.get_by_role("button", name="Cancel 2 jobs").click()
    expect(rows(tab)).to_have_count(1, timeout=PATIENCE)
    assert second in waiting(room)
    assert not {first, third} & set(waiting(room))


def test_the_queue_is_paused_and_its_mode_is_changed(tab: Interface, room: Pair) -> None:
    press(tab, "Pause queue")
    see(lines(tab), "The queue is paused")
    submit(room, "ada", 2)
    see(lines(tab), "The queue is paused, and 2 jobs wait.")
    panel(tab).get_by_label("Who goes next").select_option("First come, first served")
    see(undo_bar(tab), "Who goes next: First come, first served.")
    assert ask(room, "GET", "/comfyume/queue")["mode"] == "fifo"
    undo(tab)
    expect(panel(tab).get_by_label("Who goes next")).to_have_value("fair", timeout=PATIENCE)
    press(tab, "Let the queue go on")
    see(lines(tab), "All is well")
    expect(rows(tab)).to_have_count(0, timeout=PATIENCE)
    see(panel(tab), "Nobody waits.")


def test_a_worker_is_drained_and_kept_for_one_person(tab: Interface, room: Pair) -> None:
    first = card(tab, "worker0")
    first.get_by_role("button", name="Drain worker0").click()
    see(first, "Draining")
    undo(tab)
    see(first, "Idle")
    owner = first.get_by_label("Whose jobs worker0 takes")
    owner.select_option("Only cleo")
    see(undo_bar(tab), "worker0 is only for cleo now.")
    assert {each["name"]: each["reserved_for"] for each in ask(room, "GET", "/comfyume/workers")}["worker0"] == "cleo"
    tab.picture("kept")
    undo(tab)
    expect(owner).to_have_value("", timeout=PATIENCE)


def test_a_further_machine_gets_a_command_with_a_link(
    tab: Interface, room: Pair, pictures: Callable[[str], Path]
) -> None:
    panel(tab).get_by_text("Add a GPU machine").click()
    press(tab, "Make a link")
    shown = panel(tab).get_by_label("The command for the new machine")
    expect(shown).to_have_value(re.compile(rf"^comfyume worker --join {room.frontend.url}/comfyume/join/[\w-]{{43}}$"))
    tab.page.screenshot(path=pictures("a link for a worker"))
    link = shown.input_value().rpartition(" ")[2]
    # Whoever opens it in a browser does not use it up.
    with urllib.request.urlopen(link) as reply:
        assert "comfyume worker --join" in reply.read().decode()
    told = json.loads(ask_as_machine(link))
    assert told["environment"]["COMFYUME_REDIS_URL"] == "redis://worker-here:password@store.example:6379"


def ask_as_machine(link: str) -> bytes:
    """What a machine is told that joins."""
    request = urllib.request.Request(link, b'{"machine": "%s"}' % (b"a" * 32), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as reply:
        return bytes(reply.read())


def test_a_running_job_is_seen_going_on_and_is_cancelled(tab: Interface, room: Pair) -> None:
    job = run_slowly(room, "bob", 60)
    busy = panel(tab).locator(".cfw-card[data-state=busy]")
    see(busy, re.compile(r"bob, job \d+, step \d+ of 240"))
    value = "bar => bar.value"
    before = busy.get_by_role("progressbar").evaluate(value)
    tab.wait("before => document.querySelector('.cfw-card[data-state=busy] progress').value > before", before)
    busy.get_by_role("button", name="Cancel job").click()
    tab.page.get_by_role("dialog").get_by_role("button", name="Cancel the job").click()
    expect(busy).to_have_count(0, timeout=PATIENCE)
    wait_until(lambda: ask(room, "GET", f"/comfyume/jobs/{job}")["state"] == "cancelled")


def test_everybody_reads_the_message_to_all(enter: Enter) -> None:
    ada, ines = enter("ada"), enter()
    open_panel(ines)
    press(ines, "Message to all")
    ines.page.keyboard.type("Lunch is at one.")
    press(ines, "Send to all")
    see(undo_bar(ines), "Sent to all.")
    see(ada.page.locator(".p-toast-message"), "Lunch is at one.")


def test_all_of_it_goes_by_keyboard(tab: Interface, room: Pair) -> None:
    pause(room)
    submit(room, "ada", 60)
    expect(panel(tab).get_by_role("grid")).to_have_attribute("aria-rowcount", "60", timeout=PATIENCE)
    keyboard = tab.page.keyboard
    nodes = len(tab.node_types)
    panel(tab).get_by_role("checkbox").focus()
    keyboard.press("Tab")
    expect(rows(tab).first).to_be_focused()
    for key, place in (("ArrowDown", 2), ("End", 60), ("ArrowUp", 59), ("Home", 1), ("PageDown", 9)):
        keyboard.press(key)
        expect(panel(tab).locator(f"[aria-rowindex='{place}']")).to_be_focused()
    keyboard.press("Space")
    expect(panel(tab).locator("[aria-rowindex='9']")).to_have_attribute("aria-selected", "true")
    tab.picture("focus")
    keyboard.press("Tab")
    expect(panel(tab).locator("[aria-rowindex='9']").get_by_role("button", name="to the front")).to_be_focused()
    keyboard.press("Delete")
    tab.page.get_by_role("dialog").get_by_role("button", name="Cancel the job").focus()
    keyboard.press("Enter")
    expect(panel(tab).get_by_role("grid")).to_have_attribute("aria-rowcount", "59", timeout=PATIENCE)
    # The one that has taken its place.
    expect(panel(tab).locator("[aria-rowindex='9']")).to_be_focused()
    assert len(tab.node_types) == nodes
    panel(tab).get_by_role("tab", name="Now").focus()
    for key, name in (("ArrowRight", "People"), ("End", "Cost"), ("ArrowRight", "Now")):
        keyboard.press(key)
        expect(panel(tab).get_by_role("tab", name=name)).to_be_focused()
        expect(panel(tab).get_by_role("tab", name=name)).to_have_attribute("aria-selected", "true")
        expect(panel(tab).get_by_role("tabpanel")).to_have_accessible_name(name)
