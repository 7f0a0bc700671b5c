"""A person's session in a real browser, on a frontend whose one worker alone has the nodes and the models."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import Route

from comfyume.tests.browser import graphs
from comfyume.tests.browser.conftest import FIRST_VISIT_IS_OVER
from comfyume.tests.browser.interface import Interface
from comfyume.tests.harness.client import Client
from comfyume.tests.harness.pair import Pair

pytestmark = [pytest.mark.browser, pytest.mark.acceptance, pytest.mark.seams]

TRIVIAL = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 255}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "trivial"}},
}


def wait_for_an_empty_queue(person: Client) -> None:
    while any(person.queue().values()):
        time.sleep(0.1)


def let_go(workshop: Pair) -> None:
    """End the slow picture that the worker makes, however long it should have taken."""
    Client(workshop.worker.address, connect=False).post("/browser-tests/let-go")


def test_a_first_visit_is_one_for_each_person_and_not_for_each_browser(tab: Interface, person: Client) -> None:
    assert person.get(FIRST_VISIT_IS_OVER) is True
    tab.open()
    assert "ComfyumeTestCard" not in tab.node_types
    tab.load(graphs.slow(1, prefix="own"), "my own")
    tab.reload()
    assert tab.tab == "my own"
    assert "BrowserSlowPicture" in tab.node_types


def test_a_page_that_is_loaded_anew_sees_its_job_go_on(tab: Interface, workshop: Pair) -> None:
    tab.open()
    tab.load(graphs.slow(60, prefix="reloaded"), "reloaded")
    tab.run()
    tab.wait_running("BrowserSlowPicture", part=0.02)
    tab.wait_picture(3, "filename=announcement")
    tab.picture("1-before")

    tab.reload()
    assert tab.tab == "reloaded"
    tab.record()
    tab.wait_running("BrowserSlowPicture", part=0.05)
    tab.wait_picture(1, "blob:")
    tab.picture("2-after")
    tab.wait("() => recorded.progress.length >= 4")
    let_go(workshop)
    tab.wait_picture(graphs.SAVE_NODE, "filename=reloaded_00001_.png")
    tab.wait_idle()
    assert tab.outlines[:2] == ["BrowserSlowPicture", "BrowserSlowLook"]
    tab.wait_picture(3, "filename=announcement")
    tab.picture("3-done")


@pytest.mark.parametrize("held", ["extensions", "object_info"], ids=["before its socket", "before its graph"])
def test_a_page_that_is_loaded_anew_while_its_job_ends_has_the_result(
    tab: Interface, workshop: Pair, person: Client, held: str
) -> None:
    tab.open()
    tab.load(graphs.slow(60, prefix=f"late-{held}", shade=len(held)), "late")
    tab.run()
    tab.wait_running("BrowserSlowPicture", part=0.01)
    tab.wait_picture(3, "filename=announcement")

    def hold_back(route: Route) -> None:
        # the old page is gone when this is asked for, and the new one comes no further until the job has ended
        let_go(workshop)
        wait_for_an_empty_queue(person)
        route.continue_()

    tab.page.route(f"**/api/{held}", hold_back)
    tab.reload()
    tab.wait_picture(graphs.SAVE_NODE, f"filename=late-{held}_00001_.png")
    tab.wait_picture(3, "filename=announcement")
    assert tab.marks("running") == []


def test_the_interfaces_own_button_interrupts_the_worker(tab: Interface, person: Client) -> None:
    tab.open()
    tab.load(graphs.slow(60, prefix="interrupted"), "interrupted")
    tab.run()
    tab.wait_running("BrowserSlowPicture")
    job = person.queue()["queue_running"][0][1]
    tab.cancel()
    pressed = time.monotonic()
    tab.wait_idle()
    assert time.monotonic() - pressed < 1
    with Client(person.address) as other:
        other.run(TRIVIAL)
    assert time.monotonic() - pressed < 2
    tab.picture("1-interrupted")
    messages = person.history(job)[job]["status"]["messages"]
    assert "execution_interrupted" in [name for name, _ in messages]
    assert tab.marks("running") == []


def test_an_error_on_the_worker_marks_its_node(tab: Interface) -> None:
    tab.open()
    tab.load(graphs.failing("the lens is dirty"), "failing")
    tab.run()
    tab.show_error()
    tab.page.get_by_text("the lens is dirty").first.wait_for()
    tab.picture("1-message")
    tab.page.keyboard.press("Escape")
    assert tab.marks("executionError") == [1]
    tab.picture("2-node")


def test_a_graph_that_no_worker_can_run_is_refused_on_its_nodes(tab: Interface) -> None:
    tab.open()
    tab.load(graphs.impossible("third.safetensors"), "impossible")
    tab.run()
    tab.wait("() => app.lastNodeErrors && Object.keys(app.lastNodeErrors).length === 2")
    errors = tab.page.evaluate("Object.entries(app.lastNodeErrors).map(([id, entry]) => [id, entry.errors[0].details])")
    assert errors == [["1", "ckpt_name: 'third.safetensors' not in ['only.safetensors']"], ["5", "images"]]
    tab.show_error()
    tab.page.get_by_text("third.safetensors").first.wait_for()
    tab.picture("1-message")
    tab.page.keyboard.press("Escape")
    assert tab.marks("error") == [1, 5]
    tab.picture("2-nodes")
