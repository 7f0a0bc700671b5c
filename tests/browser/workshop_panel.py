"""The instructor's panel, as they see and use it."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from playwright.sync_api import Locator, Request, expect

from comfyume.tests.browser.interface import PATIENCE, Interface


def button(tab: Interface) -> Locator:
    """The icon in the side bar."""
    return tab.page.locator(".side-tool-bar-container").get_by_role("button", name=re.compile("^Workshop|^Atelier"))


def open_panel(tab: Interface) -> None:
    button(tab).click()
    expect(panel(tab).get_by_role("tab").first).to_be_visible(timeout=PATIENCE)
    expect(lines(tab)).not_to_be_empty(timeout=PATIENCE)


def panel(tab: Interface) -> Locator:
    return tab.page.locator(".cfm-workshop")


def lines(tab: Interface) -> Locator:
    """What the panel says is wrong."""
    return panel(tab).locator(".cfw-lines")


def rows(tab: Interface) -> Locator:
    """The waiting jobs that are in the document."""
    return panel(tab).get_by_role("grid").get_by_role("row")


def row(tab: Interface, job: str) -> Locator:
    return panel(tab).locator(f"[data-job='{job}']")


def card(tab: Interface, worker: str) -> Locator:
    return panel(tab).get_by_role("list", name="Workers").get_by_role("listitem").filter(has_text=worker)


def undo_bar(tab: Interface) -> Locator:
    return panel(tab).locator(".cfw-undo")


def undo(tab: Interface) -> None:
    undo_bar(tab).get_by_role("button", name="Undo").click()


def press(tab: Interface, name: str) -> None:
    panel(tab).get_by_role("button", name=name, exact=True).click()


def show(tab: Interface, section: str) -> None:
    panel(tab).get_by_role("tab", name=section).click()


def order(tab: Interface) -> list[str]:
    """The persons of the first rows."""
    return rows(tab).locator(".cfw-who strong").all_inner_texts()


def person(tab: Interface, name: str) -> Locator:
    """Who is listed in the section People."""
    return panel(tab).get_by_role("list", name="People").get_by_role("listitem").filter(has_text=name)


def note_scripts(tab: Interface) -> set[str]:
    """The panel's scripts that the page loads from now on."""
    scripts: set[str] = set()

    def note(request: Request) -> None:
        path = urlsplit(request.url).path
        if path.startswith("/comfyume/workshop/") and path.endswith(".mjs"):
            scripts.add(path)

    tab.page.on("request", note)
    return scripts
