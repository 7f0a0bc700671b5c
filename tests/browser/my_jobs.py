"""The tab "My jobs", as a participant sees and uses it."""

from __future__ import annotations

import re

from playwright.sync_api import Locator

from comfyume.tests.browser.interface import Interface


def button(tab: Interface) -> Locator:
    """The icon in the side bar."""
    return tab.page.locator(".side-tool-bar-container").get_by_role("button", name=re.compile("^My jobs|^Mes tâches"))


def open_jobs(tab: Interface) -> None:
    button(tab).click()
    panel(tab).wait_for()


def panel(tab: Interface) -> Locator:
    return tab.page.locator(".cfm-jobs")


def cards(tab: Interface, state: str) -> Locator:
    return panel(tab).locator(f"li[data-state={state}]")


def toasts(tab: Interface) -> Locator:
    """Messages of this extension."""
    return tab.page.locator(".cfm-toast")


def banner(tab: Interface) -> Locator:
    return tab.page.locator(".cfm-banner")
