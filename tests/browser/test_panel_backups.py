"""Backups in the instructor's panel: what was taken, one that is wanted now, and what went wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from comfyume.backups.vault import Vault
from comfyume.blobs.object_folder import FolderObjects
from comfyume.tests.browser.conftest import FIRST_VISIT_IS_OVER
from comfyume.tests.browser.interface import PATIENCE, Interface, see
from comfyume.tests.browser.test_accessibility import judge
from comfyume.tests.browser.visitors import INSTRUCTOR, Enter, ask, script_of
from comfyume.tests.browser.workshop_panel import open_panel, panel, press, show, undo_bar
from comfyume.tests.harness.client import wait_until
from comfyume.tests.harness.discovery import ComfyInstall
from comfyume.tests.harness.pair import Pair
from comfyume.tests.harness.people import add_users

pytestmark = [pytest.mark.browser, pytest.mark.acceptance, pytest.mark.timeout(300)]

WORDS = "words of the backup"


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the backup lies."""
    return tmp_path_factory.mktemp("disk") / "mounted"


@pytest.fixture(scope="module")
def room(comfyui: ComfyInstall, disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A workshop that has been backed up once, by itself."""
    env = {"COMFYUME_BACKUP": str(disk / "workshop"), "COMFYUME_BACKUP_KEY": WORDS}
    base = tmp_path_factory.mktemp(f"backups-{comfyui.label}")
    with Pair(comfyui, base, workers=0, frontend_env=env) as pair:
        add_users(pair, {INSTRUCTOR: "instructor"})
        script_of(pair, INSTRUCTOR).post(FIRST_VISIT_IS_OVER, True)
        wait_until(lambda: ask(pair, "GET", "/comfyume/backups")["last"], 60)
        yield pair


def open_backups(tab: Interface) -> Locator:
    """The section, opened; its snapshots are listed."""
    open_panel(tab)
    show(tab, "Backups")
    expect(snapshots(tab).first).to_be_visible(timeout=PATIENCE)
    return panel(tab).get_by_role("tabpanel")


def snapshots(tab: Interface) -> Locator:
    return panel(tab).get_by_role("list", name="Newest snapshots").get_by_role("listitem")


def names_in(disk: Path) -> list[str]:
    """The snapshots that there are, the newest first."""
    return Vault.open(FolderObjects(disk / "workshop"), WORDS).snapshots()[::-1]


def test_a_snapshot_is_taken_by_a_button_and_the_command_restores_it(enter: Enter, room: Pair, disk: Path) -> None:
    script_of(room, INSTRUCTOR).upload(b"a photo", "photo.png")
    tab = enter()
    section = open_backups(tab)
    before = names_in(disk)
    see(section, re.compile(f"Last snapshot.*Next one.*{re.escape(str(disk))}", re.DOTALL))
    button = section.get_by_role("button", name="Back up now")
    # With the keyboard, which must not lose its place.
    button.focus()
    tab.page.keyboard.press("Enter")
    expect(button).to_be_disabled()
    tab.page.keyboard.press("Enter")
    expect(section.get_by_role("progressbar")).to_be_visible()
    tab.picture("1-running")
    expect(snapshots(tab)).to_have_count(len(before) + 1, timeout=PATIENCE)
    see(undo_bar(tab), "A snapshot was taken.")
    expect(button).to_be_enabled(timeout=PATIENCE)
    expect(button).to_be_focused()
    expect(section.get_by_role("progressbar")).to_be_hidden()
    taken = names_in(disk)
    assert len(taken) == len(before) + 1, "the second press did nothing"
    see(snapshots(tab).first, "from this panel")
    snapshots(tab).first.locator("summary").click()
    see(snapshots(tab).first, "new")
    expect(snapshots(tab).first.get_by_role("textbox")).to_have_value(f"comfyume restore --at {taken[0]}")
    # What is open stays so when the list is asked for again.
    press(tab, "Back up now")
    expect(snapshots(tab)).to_have_count(len(before) + 2, timeout=PATIENCE)
    expect(snapshots(tab).nth(1).get_by_role("textbox")).to_have_value(f"comfyume restore --at {taken[0]}")
    tab.picture("2-taken")


@pytest.mark.parametrize(("palette", "width"), [("dark", 1400), ("light", 1400), ("light", 400)])
def test_a_failure_is_told_in_words(enter: Enter, room: Pair, disk: Path, palette: str, width: int) -> None:
    tab = enter(width=width)
    tab.choose_palette(palette)
    section = open_backups(tab)
    expect(section.get_by_role("alert")).to_have_count(0)
    disk.rename(disk.with_name("unplugged"))
    try:
        press(tab, "Back up now")
        see(section.get_by_role("alert").first, re.compile("no snapshot could be taken. There is no backup in"))
        expect(snapshots(tab).first).to_be_visible()
        snapshots(tab).first.locator("summary").click()
        for each in (panel(tab), section):
            assert each.evaluate("place => place.scrollWidth <= place.clientWidth")
        tab.picture(f"{palette}-{width}")
        judge(tab, ".cfm-workshop")
    finally:
        disk.with_name("unplugged").rename(disk)
    press(tab, "Back up now")
    see(undo_bar(tab), "A snapshot was taken.")
    expect(section.get_by_role("alert")).to_have_count(0)


def test_what_a_snapshot_tells_is_text(enter: Enter, room: Pair) -> None:
    tab = enter(width=400)
    name = "<img src=x onerror=window.taken=1>" + "long" * 60
    one = {"id": "20261130T140000.000Z-0123abcd", "taken": 1.8e9, "is_damaged": False, "reason": name, "host": name}
    one |= {"files": 1, "size": 5, "new_files": 1, "new_size": 5, "seconds": 0.2}
    one |= {"problems": [name, f"/{name} is not there"], "more_problems": 7}
    damaged = {"id": "20261130T130000.000Z-0123abcd", "taken": 1.79e9, "is_damaged": True}
    damaged |= {"problems": [], "more_problems": 0}
    failed = {"at": 1.8e9, "error": name}
    told = {"now": 1.8e9, "where": name, "hours": 24, "running": None, "last": None, "next": 1.9e9, "failed": failed}
    told["workers"] = [{"worker": name, "at": 1.8e9, "error": name}]
    own = one | {"id": "20261130T130000.000Z-0123abcd-4567ef01", "machine": name}
    listed = {"snapshots": [one, damaged, own], "error": ""}
    tab.page.route("**/comfyume/backups", lambda route: route.fulfill(json=told))
    tab.page.route("**/comfyume/backups/snapshots", lambda route: route.fulfill(json=listed))
    section = open_backups(tab)
    for summary in section.locator("summary").all():
        summary.click()
    see(section, re.compile("none yet.*9 things left out.*7 more things.*Damaged.*cannot be read", re.DOTALL))
    restore = section.get_by_role("textbox").last
    expect(restore).to_have_value("comfyume restore --at 20261130T130000.000Z-0123abcd-4567ef01 --system")
    expect(section.get_by_role("alert")).to_contain_text(["<img", "<img"])
    for each in (panel(tab), section):
        assert each.evaluate("place => place.scrollWidth <= place.clientWidth")
    tab.picture("end")
    assert tab.page.evaluate("window.taken") is None


def test_without_a_place_it_says_what_to_set(enter: Enter, room: Pair) -> None:
    tab = enter()
    told = dict.fromkeys(("where", "running", "last", "next", "failed")) | {"now": 1.8e9, "hours": 1, "workers": []}
    tab.page.route("**/comfyume/backups", lambda route: route.fulfill(json=told))
    open_panel(tab)
    show(tab, "Backups")
    section = panel(tab).get_by_role("tabpanel")
    see(section, "set COMFYUME_BACKUP on the server")
    expect(section.get_by_role("button", name="Back up now")).to_be_hidden()
    expect(section.get_by_role("link", name="Backup and restore: the guide")).to_have_attribute(
        "href", re.compile(r"/docs/backup\.md$")
    )
    tab.picture("end")
