"""What axe, the usual judge of pages for people who see little or use no mouse, says of what this extension shows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from comfyume.tests.browser import my_jobs, workshop_panel
from comfyume.tests.browser.conftest import FIRST_VISIT_IS_OVER, NODE_PACK
from comfyume.tests.browser.interface import PATIENCE, Interface, see
from comfyume.tests.browser.visitors import INSTRUCTOR, Enter, ask, fill_in, run_slowly, script_of, submit
from comfyume.tests.harness import graphs
from comfyume.tests.harness.client import wait_until
from comfyume.tests.harness.discovery import ComfyInstall
from comfyume.tests.harness.pair import Pair
from comfyume.tests.harness.people import add_users

pytestmark = [pytest.mark.browser, pytest.mark.acceptance, pytest.mark.timeout(300)]

PALETTES = ("dark", "light")


@pytest.fixture(scope="module")
def room(comfyui: ComfyInstall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A workshop in which somebody has jobs of each kind, and somebody has none."""
    base = tmp_path_factory.mktemp(f"axe-{comfyui.label}")
    with Pair(comfyui, base, worker_node_packs=[NODE_PACK]) as pair:
        add_users(pair, {INSTRUCTOR: "instructor", "ada": "participant", "bob": "participant"})
        for name in (INSTRUCTOR, "ada", "bob"):
            script_of(pair, name).post(FIRST_VISIT_IS_OVER, True)
        failing = {"1": graphs.node("BrowserFailingPicture", text="the lens is dirty")}
        failing |= {"2": graphs.node("PreviewImage", images=["1", 0])}
        script_of(pair, "ada").post("/prompt", {"prompt": failing})
        submit(pair, "ada")
        cancelled = run_slowly(pair, "ada", 600)
        wait_until(lambda: ask(pair, "GET", f"/comfyume/jobs/{cancelled}")["state"] == "running")
        ask(pair, "POST", "/comfyume/jobs/cancel", {"ids": [cancelled]})
        run_slowly(pair, "ada", 600)
        submit(pair, "ada", 2)
        yield pair


def jobs_of(enter: Enter, name: str, palette: str) -> Interface:
    """A person's page with the tab of their jobs open."""
    tab = enter(name)
    tab.choose_palette(palette)
    my_jobs.open_jobs(tab)
    return tab


def judge(tab: Interface, root: str) -> None:
    """Have axe look at an element and all in it: nothing may be wrong that keeps people from something."""
    found = Axe().run(tab.page, root, {"resultTypes": ["violations"]}).response
    assert len(found["passes"]) > 5, "it has hardly found anything to look at"
    told = [
        (each["impact"], each["id"], node["target"], node["failureSummary"])
        for each in found["violations"]
        for node in each["nodes"]
    ]
    print(root, json.dumps(told, indent=1, ensure_ascii=False))
    assert not [each for each in told if each[0] in ("serious", "critical")]


@pytest.mark.parametrize("palette", PALETTES)
def test_the_page_to_sign_in(enter: Enter, palette: str) -> None:
    tab = enter(None)
    tab.page.emulate_media(color_scheme=palette)  # type: ignore[arg-type]
    judge(tab, "html")
    fill_in(tab.page, "ada", "wrong")
    expect(tab.page.get_by_role("alert")).not_to_be_empty()
    judge(tab, "html")


@pytest.mark.parametrize("palette", PALETTES)
def test_my_jobs_before_the_first_job(enter: Enter, palette: str) -> None:
    tab = jobs_of(enter, "bob", palette)
    see(my_jobs.panel(tab), "Press Run")
    judge(tab, ".cfm-jobs")


@pytest.mark.parametrize("palette", PALETTES)
def test_my_jobs_with_jobs_that_wait_run_and_have_ended(enter: Enter, palette: str) -> None:
    tab = jobs_of(enter, "ada", palette)
    for state in ("queued", "running", "done", "error", "cancelled"):
        expect(my_jobs.cards(tab, state).first).to_be_visible(timeout=PATIENCE)
    judge(tab, ".cfm-jobs")
    tab.picture(palette)


@pytest.mark.parametrize("palette", PALETTES)
def test_the_workshop_and_its_question(enter: Enter, palette: str) -> None:
    tab = enter()
    tab.choose_palette(palette)
    workshop_panel.open_panel(tab)
    panel = workshop_panel.panel(tab)
    see(workshop_panel.card(tab, "worker0"), "Busy")
    row = workshop_panel.rows(tab).first
    row.click()
    row.get_by_role("button", name="Hold job").click()
    see(workshop_panel.undo_bar(tab), "Held 1 job.")
    workshop_panel.press(tab, "Message to all")
    judge(tab, ".cfm-workshop")
    tab.picture(f"{palette}-now")
    workshop_panel.undo(tab)
    row.get_by_role("button", name="Cancel job").click()
    expect(tab.page.get_by_role("dialog")).to_be_visible()
    judge(tab, ".cfm-dialog")
    tab.picture(f"{palette}-question")
    tab.page.get_by_role("dialog").get_by_role("button").first.click()
    for section, place in (("People", "searchbox"), ("Models", "list"), ("Cost", "table"), ("History", "table")):
        workshop_panel.show(tab, section)
        expect(panel.get_by_role(place).last).to_be_visible(timeout=PATIENCE)
        for summary in panel.locator("summary").filter(has_text=re.compile("ada|everybody|flux")).all():
            summary.click()
        judge(tab, ".cfm-workshop")
        tab.picture(f"{palette}-{section.lower()}")
