"""People and their limits, the models of the templates, and what was done."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from comfyume.tests.browser.interface import PATIENCE, Interface, see
from comfyume.tests.browser.visitors import Enter, ask, submit
from comfyume.tests.browser.workshop_panel import panel, person, show, undo, undo_bar
from comfyume.tests.harness.client import wait_until
from comfyume.tests.harness.pair import Pair

pytestmark = [pytest.mark.browser, pytest.mark.acceptance, pytest.mark.timeout(300)]


def allowance(room: Pair, name: str) -> dict[str, Any]:
    return next(each for each in ask(room, "GET", "/comfyume/people") if each["user"] == name)


def test_people_their_limits_and_credits(tab: Interface, room: Pair) -> None:
    show(tab, "People")
    see(panel(tab), re.compile(r"\d of 7 are here"))
    see(person(tab, "ines"), "instructor")
    panel(tab).get_by_role("searchbox").fill("bo")
    expect(panel(tab).get_by_role("list", name="People").get_by_role("listitem")).to_have_count(1)
    bob = person(tab, "bob")
    bob.locator("summary").click()
    bob.get_by_label("GPU minutes in 24 hours", exact=True).select_option("Limit")
    bob.get_by_label("GPU minutes in 24 hours: how many").fill("90")
    tab.picture("open")
    bob.get_by_role("button", name="Save limits").click()
    see(undo_bar(tab), "Changed the limits of bob.")
    told = allowance(room, "bob")
    assert (told["limits"]["gpu_day"], told["own"]) == (90, ["gpu_day"])
    undo(tab)
    wait_until(lambda: allowance(room, "bob")["own"] == [])
    bob.get_by_label("Credits to give").fill("30")
    bob.get_by_role("button", name="Give credits").click()
    see(undo_bar(tab), "bob got 30 credits.")
    undo(tab)
    expect(undo_bar(tab).get_by_role("status")).to_be_empty()
    panel(tab).get_by_text("Limits for everybody").click()
    everybody = panel(tab).locator("details").filter(has_text="Limits for everybody")
    before = ask(room, "GET", "/comfyume/limits")["per_person"]
    everybody.get_by_label("Jobs at once", exact=True).select_option("Limit")
    everybody.get_by_label("Jobs at once: how many").fill("70")
    everybody.get_by_role("button", name="Save limits").click()
    see(undo_bar(tab), "Changed the limits of everybody.")
    assert ask(room, "GET", "/comfyume/limits")["per_person"] == 70
    undo(tab)
    wait_until(lambda: ask(room, "GET", "/comfyume/limits")["per_person"] == before)


def test_a_password_that_was_reset_is_shown_once_and_is_the_one_that_counts(enter: Enter, tab: Interface) -> None:
    show(tab, "People")
    dora = person(tab, "dora")
    dora.locator("summary").click()
    dora.get_by_role("button", name="Reset password").click()
    see(tab.page.get_by_role("dialog"), "dora is signed out everywhere")
    tab.page.get_by_role("dialog").get_by_role("button", name="Reset the password").click()
    shown = dora.get_by_label("Password of dora")
    expect(shown).to_be_focused(timeout=PATIENCE)
    password = shown.input_value()
    tab.picture("shown")
    dora.locator("summary").click()
    expect(shown).to_have_count(0)
    enter("dora", password=password)


def test_a_latecomer_is_added_and_comes_in(enter: Enter, tab: Interface) -> None:
    show(tab, "People")
    panel(tab).get_by_text("Add a person").first.click()
    name = panel(tab).get_by_label("Name of the new person")
    name.fill("no name")
    name.press("Enter")
    see(tab.page.get_by_role("alert"), "'no name' is no name for a user")
    name.fill("Latecomer")
    name.press("Enter")
    shown = panel(tab).get_by_label("Password of latecomer")
    expect(shown).to_be_focused(timeout=PATIENCE)
    tab.picture("added")
    expect(person(tab, "latecomer")).to_be_visible()
    enter("latecomer", password=shown.input_value())


def test_models_and_the_templates_that_need_them(tab: Interface) -> None:
    show(tab, "Models")
    templates = panel(tab).get_by_role("list", name="Models").locator("> li")
    see(templates.first, re.compile(r"\d+ files? missing"))
    see(templates.filter(has_text="test-card"), "Complete")
    templates.first.locator("summary").click()
    see(templates.first, "No worker has it.")
    tab.picture("open")


def test_history_and_cost_of_all_and_of_one(tab: Interface, room: Pair) -> None:
    submit(room, "emil", 3)
    wait_until(lambda: len(ask(room, "GET", "/comfyume/history?user=emil")["jobs"]) >= 3)
    show(tab, "People")
    person(tab, "emil").locator("summary").click()
    person(tab, "emil").get_by_role("button", name="History").click()
    see(panel(tab), "Only emil")
    expect(panel(tab).locator("figure canvas")).to_have_count(4, timeout=PATIENCE)
    last = panel(tab).get_by_role("table", name="The last jobs").locator("tbody tr")
    told = ask(room, "GET", "/comfyume/history?user=emil")
    expect(last).to_have_count(len(told["jobs"]))
    expect(panel(tab).locator(".cfw-totals dd").first).to_have_text(str(told["totals"]["jobs"]))
    tab.picture("1-figures")
    with tab.page.expect_download() as saved:
        panel(tab).get_by_role("link", name="Save all jobs of this period as CSV").click()
    table = csv.DictReader(io.StringIO(Path(saved.value.path()).read_text(encoding="utf-8")))
    assert {line["user"] for line in table} == {"emil"}
    panel(tab).get_by_role("button", name="Only emil").click()
    # It goes on by itself as jobs end, and charts take the colours of a new palette.
    count = int(panel(tab).locator(".cfw-totals dd").first.inner_text())
    submit(room, "ada")
    tab.wait("count => Number(document.querySelector('.cfw-totals dd').innerText) > count", count)
    tab.choose_palette("light")
    panel(tab).locator("figure").first.scroll_into_view_if_needed()
    tab.picture("2-light")
    tab.choose_palette("dark")
