"""The first minute of somebody new, from the page to sign in to a result that is theirs to keep."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from comfyume.tests.browser import my_jobs
from comfyume.tests.browser.interface import PATIENCE, Interface, see
from comfyume.tests.browser.visitors import Enter, ask, run_slowly, sign_in
from comfyume.tests.harness.pair import Pair
from comfyume.tests.harness.people import add_users

pytestmark = [pytest.mark.browser, pytest.mark.acceptance, pytest.mark.timeout(240), pytest.mark.seams]

RESULT = "test-card_00001_.png"
NARROW, WIDE = {"width": 400, "height": 900}, {"width": 1400, "height": 900}


@pytest.fixture(scope="module")
def room(shared_room: Pair) -> Pair:
    """A workshop that two of its people have not visited yet."""
    add_users(shared_room, {"nora": "participant", "otto": "participant"})
    return shared_room


def take_time(tab: Interface, seconds: float) -> None:
    """Have each step of the template last this long, as its note proposes to who wants to watch."""
    tab.page.evaluate(
        """seconds => app.graph.nodes.find(node => node.type === "ComfyumeTestCard")
            .widgets.find(widget => widget.name === "seconds_per_step").value = seconds""",
        seconds,
    )


def pictures_of(tab: Interface, name: str) -> None:
    """Screenshots in the dark, in the light and on a phone."""
    tab.picture(f"{name}-dark")
    tab.choose_palette("light")
    tab.picture(f"{name}-light")
    tab.choose_palette("dark")
    tab.page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    tab.picture(f"{name}-narrow")
    tab.page.set_viewport_size(WIDE)  # type: ignore[arg-type]


def test_somebody_new_signs_in_presses_run_and_has_a_picture(enter: Enter, room: Pair) -> None:
    ahead = run_slowly(room, "otto", 200)
    tab = enter(None)
    expect(tab.page.get_by_role("heading")).to_have_text("ComfyUI")
    expect(tab.page.get_by_label("Name")).to_be_focused()
    tab.picture("1-sign-in-light")
    tab.page.emulate_media(color_scheme="dark")
    tab.picture("1-sign-in-dark")
    tab.page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    tab.picture("1-sign-in-narrow")
    tab.page.set_viewport_size(WIDE)  # type: ignore[arg-type]

    # Their own ComfyUI has the workshop's template open, and asks nothing.
    sign_in(tab, "nora")
    assert tab.tabs == ["test-card"]
    assert "ComfyumeTestCard" in tab.node_types
    expect(tab.page.get_by_role("dialog")).to_have_count(0)
    expect(my_jobs.button(tab)).not_to_contain_text(re.compile(r"\d"))
    tab.picture("2-template")
    my_jobs.open_jobs(tab)
    see(my_jobs.panel(tab), "Press Run")
    pictures_of(tab, "3-nothing-yet")

    # Somebody else's job is there before.
    take_time(tab, 0.6)
    tab.record()
    tab.run()
    see(my_jobs.button(tab), "1")
    see(my_jobs.cards(tab, "queued"), "Place 1 in the queue.")
    tab.picture("4-waiting")
    ask(room, "POST", "/comfyume/jobs/cancel", {"ids": [ahead]})

    tab.wait_running("ComfyumeTestCard", part=0.2)
    tab.wait_picture(2, "blob:")
    see(my_jobs.cards(tab, "running"), re.compile(r"step \d+ of 20"))
    pictures_of(tab, "5-running")
    tab.show_jobs()
    tab.page.get_by_text(re.compile("Total:")).first.wait_for()
    tab.picture("6-in-comfyuis-own-panel")

    tab.wait_picture(3, f"filename={RESULT}")
    tab.wait_idle()
    # A node that takes a few milliseconds may be over before its outline is drawn.
    assert [kind for kind in tab.outlines if kind not in ("ComfyumeWorkerName", "SaveImage")] == ["ComfyumeTestCard"]
    assert tab.progress == sorted(tab.progress)
    assert len(tab.progress) >= 10, "the steps were hardly seen"
    done = my_jobs.cards(tab, "done")
    expect(done.get_by_role("link", name=f"Download {RESULT}")).to_be_visible(timeout=PATIENCE)
    thumbnail = done.get_by_role("img", name=RESULT)
    tab.wait("image => image.complete && image.naturalWidth > 0", thumbnail.element_handle())
    expect(my_jobs.button(tab)).not_to_contain_text(re.compile(r"\d"))
    pictures_of(tab, "7-done")
    tab.show_assets()
    tab.page.locator(f".side-bar-panel img[src*='{RESULT}']").first.wait_for()
    tab.picture("8-in-comfyuis-own-assets")
