"""A participant brings a LoRA and offers it to the room; the instructor lets it in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Route, expect

from comfyume.tests.acceptance.test_people_models import lora
from comfyume.tests.browser import workshop_panel
from comfyume.tests.browser.conftest import FIRST_VISIT_IS_OVER
from comfyume.tests.browser.interface import PATIENCE, Interface, see
from comfyume.tests.browser.my_jobs import open_jobs, panel
from comfyume.tests.browser.test_accessibility import judge
from comfyume.tests.browser.visitors import INSTRUCTOR, Enter, script_of
from comfyume.tests.harness import graphs
from comfyume.tests.harness.client import wait_until
from comfyume.tests.harness.discovery import ComfyInstall
from comfyume.tests.harness.pair import Pair
from comfyume.tests.harness.people import add_users

pytestmark = [pytest.mark.browser, pytest.mark.acceptance, pytest.mark.timeout(240)]

#: What the lists of a loader on the canvas offer.
LISTED = """() => {
    let node = app.graph.nodes.find(({ type }) => type === "LoraLoader");
    if (!node) app.graph.add((node = LiteGraph.createNode("LoraLoader")));
    const { values } = node.widgets.find(({ name }) => name === "lora_name").options;
    return typeof values === "function" ? values() : values;
}"""


@pytest.fixture(scope="module")
def room(comfyui: ComfyInstall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A workshop with people who were here before."""
    base = tmp_path_factory.mktemp(f"my-models-{comfyui.label}")
    with Pair(comfyui, base, worker_node_packs=[graphs.PACK]) as pair:
        add_users(pair, {INSTRUCTOR: "instructor", "ada": "participant", "bob": "participant"})
        for name in (INSTRUCTOR, "ada", "bob"):
            script_of(pair, name).post(FIRST_VISIT_IS_OVER, True)
        yield pair


def open_models(tab: Interface) -> Locator:
    panel(tab).get_by_role("button", name="My models").click()
    dialog = tab.page.get_by_role("dialog", name="My models")
    expect(dialog.get_by_label("Kind").locator("option", has_text="loras")).to_have_count(1, timeout=PATIENCE)
    return dialog


def choose(tab: Interface, dialog: Locator, name: str, content: bytes, folder: Path) -> None:
    file = folder / name
    file.write_bytes(content)
    dialog.get_by_label("File").set_input_files(file)
    dialog.get_by_role("button", name="Upload").click()


def test_a_lora_is_brought_offered_and_let_in(enter: Enter, room: Pair, tmp_path: Path) -> None:
    ada = enter("ada")
    open_jobs(ada)
    assert not any("mine/" in name for name in ada.page.evaluate(LISTED))
    dialog = open_models(ada)
    assert dialog.get_by_label("Kind").input_value() == "loras"
    see(dialog, "You have brought no models yet.")
    cuts = 0

    def cut(route: Route) -> None:
        nonlocal cuts
        cuts += 1
        if cuts in (1, 3):
            route.abort("connectionreset")
        else:
            route.continue_()

    # The line is lost twice, also while the file is on its way.
    ada.page.route("**/comfyume/my-models/loras/*", cut)
    choose(ada, dialog, "ada's face.safetensors", lora(120, filling=3_000_000), tmp_path)
    see(dialog, "mine/ada's face.safetensors is there. Choose it in the list of a node.")
    assert cuts >= 4
    ada.page.unroute("**/comfyume/my-models/loras/*")
    # The lists of nodes that are on the canvas have it without a reload.
    wait_until(lambda: "mine/ada's face.safetensors" in ada.page.evaluate(LISTED))
    choose(ada, dialog, "broken.safetensors", b"no model", tmp_path)
    see(dialog, "no safetensors file")
    dialog.get_by_role("button", name="Offer to the room: ada's face.safetensors").click()
    see(dialog, "Waiting for the instructor's word")
    ada.picture("1-offered-dark")
    judge(ada, ".cfm-models")

    ines = enter(INSTRUCTOR)
    workshop_panel.open_panel(ines)
    workshop_panel.show(ines, "Models")
    offered = workshop_panel.panel(ines).get_by_role("list", name="Offered to the room")
    see(offered, re.compile(r"loras/ada's face\.safetensors.*From ada, 2\.9 MiB", re.DOTALL))
    ines.picture("2-instructor")
    judge(ines, ".cfm-workshop")
    offered.get_by_role("button", name=re.compile("^Let in: ")).click()
    see(workshop_panel.undo_bar(ines), "ada's face.safetensors is everybody's now.")
    see(workshop_panel.panel(ines).get_by_role("list", name="Brought by people, for everybody"), "ada's face")
    ines.picture("3-let-in")

    bob = enter("bob", width=400)
    bob.choose_palette("light")
    open_jobs(bob)
    shown = open_models(bob)
    see(shown, "room/ada/ada's face.safetensors")
    bob.picture("4-light-narrow")
    judge(bob, ".cfm-models")
    assert shown.evaluate("dialog => dialog.scrollWidth <= dialog.clientWidth")
    assert "room/ada/ada's face.safetensors" in bob.page.evaluate(LISTED)

    dialog.get_by_role("button", name="Delete: ada's face.safetensors").click()
    ada.page.get_by_role("dialog", name="Delete ada's face.safetensors?").get_by_role("button", name="Delete").click()
    see(dialog, "You have brought no models yet.")
    ada.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
