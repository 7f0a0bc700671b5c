"""Who has the panel, and what of it is loaded when."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, expect

from comfyume.tests.browser.interface import PATIENCE, see
from comfyume.tests.browser.visitors import Enter, script_of
from comfyume.tests.browser.workshop_panel import button, note_scripts, open_panel, panel, show
from comfyume.tests.harness.client import RequestRefused
from comfyume.tests.harness.pair import Pair

pytestmark = [pytest.mark.browser, pytest.mark.acceptance, pytest.mark.timeout(300)]


def test_only_an_instructors_page_has_the_tab(enter: Enter, room: Pair) -> None:
    ada = enter("ada")
    ada.page.locator(".side-tool-bar-container").get_by_role("button", name=re.compile("^My jobs")).wait_for()
    expect(button(ada)).to_have_count(0)
    for file in ("panel.mjs", "view.mjs", "charts/uplot.mjs", "workshop.css", "strings/en.json"):
        with pytest.raises(RequestRefused) as refused:
            script_of(room, "ada").request("GET", f"/comfyume/workshop/{file}")
        assert refused.value.status == 403
    ines = enter()
    expect(button(ines)).to_have_count(1, timeout=PATIENCE)
    scripts = note_scripts(ines)
    ines.reload()
    expect(button(ines)).to_have_count(1, timeout=PATIENCE)
    assert scripts == {"/comfyume/workshop/panel.mjs", "/comfyume/workshop/loading.mjs"}
    open_panel(ines)
    assert "/comfyume/workshop/queue.mjs" in scripts
    assert not [script for script in scripts if "charts" in script]


def test_what_could_not_be_loaded_is_said_and_tried_again(enter: Enter) -> None:
    tab = enter()

    def fail_and_try_again(pattern: str, opening: Callable[[], None], loaded: Callable[[], Locator]) -> None:
        tab.page.route(pattern, lambda route: route.abort())
        opening()
        said = tab.page.locator(".side-bar-panel, .cfm-workshop").get_by_role("alert").last
        see(said, "could not be loaded")
        tab.page.unroute(pattern)
        said.get_by_role("button", name="Try again").click()
        expect(loaded()).to_be_visible(timeout=PATIENCE)
        expect(said).to_have_count(0)

    now, tables = "/view.mjs", panel(tab).get_by_role("table")
    fail_and_try_again(f"**{now}", lambda: button(tab).click(), lambda: panel(tab).get_by_role("tab", name="Now"))
    fail_and_try_again("**/history.mjs", lambda: show(tab, "History"), lambda: tables.last)
    show(tab, "Now")
    tab.reload()
    open_panel(tab)
    charts = panel(tab).locator("figure canvas")
    fail_and_try_again("**/charts/uplot.mjs", lambda: show(tab, "History"), lambda: charts.first)
    expect(tables.last).to_be_visible()
