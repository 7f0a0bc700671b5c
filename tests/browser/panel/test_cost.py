"""What the workshop costs, made up and real."""

from __future__ import annotations

import re
from functools import partial

import pytest
from playwright.sync_api import expect

from comfyume.tests.browser.interface import PATIENCE, Interface, see
from comfyume.tests.browser.made_up import NOT_A_NAME, answer, cost_told
from comfyume.tests.browser.visitors import Enter, ask
from comfyume.tests.browser.workshop_panel import open_panel, panel, show
from comfyume.tests.harness.pair import Pair

pytestmark = [pytest.mark.browser, pytest.mark.acceptance, pytest.mark.timeout(300)]


def figures(tab: Interface, name: str) -> list[list[str]]:
    """What a table of the panel shows, row by row."""
    table = panel(tab).get_by_role("table", name=name)
    expect(table).to_be_visible(timeout=PATIENCE)
    return [line.locator("th, td").all_inner_texts() for line in table.locator("tbody tr").all()]


@pytest.mark.parametrize("width", [1400, 400])
def test_what_the_workshop_costs_and_how_that_is_reckoned(enter: Enter, width: int) -> None:
    tab = enter(width=width)
    tab.choose_palette("dark")
    tab.page.route("**/comfyume/cost", partial(answer, body=cost_told(NOT_A_NAME)))
    open_panel(tab)
    show(tab, "Cost")
    assert figures(tab, "What costs, in EUR") == [
        ["GPUs", "20.00", "94.40", "14 h", "76 h", "1.43"],
        ["Server", "0.50", "3.60", "10 h", "72 h", "0.05"],
        ["Files kept", "no price set", "no price set", "0.50 GiB months", "4.8 GiB months", "no price set"],
        ["Files sent", "1.80", "12.96", "20 GiB", "144 GiB", "0.09"],
        ["Together", "22.30", "110.96", "", "", ""],
    ]
    assert figures(tab, "Workers, in EUR") == [
        ["gpu-0", "12.00", "10 h", "1.20", "here"],
        [NOT_A_NAME, "no price set", "4 h", "no price set", "gone"],
    ]
    sums = panel(tab).locator(".cfw-totals")
    see(sums, re.compile("So far.*22.30 EUR.*By .*110.96 EUR.*2 GPUs always on.*205.71 EUR", re.DOTALL))
    for words in ("busy or not", "the 50 GiB of files", "2 GPUs, as many as were ever here at once", "in no sum"):
        see(panel(tab).get_by_role("tabpanel"), words)
    assert panel(tab).evaluate("panel => panel.scrollWidth <= panel.clientWidth")
    assert panel(tab).get_by_role("tabpanel").evaluate("panel => panel.scrollWidth <= panel.clientWidth")
    assert tab.page.evaluate("window.taken") is None
    tab.picture(str(width))
    panel(tab).get_by_text("How it is reckoned").scroll_into_view_if_needed()
    tab.picture(f"{width}-rules")


def test_the_cost_of_this_workshop_goes_on(tab: Interface, room: Pair) -> None:
    show(tab, "Cost")
    [[worker, *_, now]] = figures(tab, "Workers, in USD")
    assert (worker, now) == ("worker0", "here")
    [gpus, server, *_] = figures(tab, "What costs, in USD")
    assert gpus[-1] == "36.00"
    assert [server[column] for column in (1, 2, 5)] == ["no price set"] * 3
    before = panel(tab).locator(".cfw-totals dd").first.inner_text()
    told = ask(room, "GET", "/comfyume/cost")
    assert told["cost"] == pytest.approx(36 * told["lines"][0]["amount"], abs=0.01)
    # A cent a second.
    tab.wait("text => document.querySelector('.cfw-totals dd').innerText !== text", before, timeout=40_000)
    tab.choose_palette("light")
    tab.picture("light")
    tab.choose_palette("dark")
