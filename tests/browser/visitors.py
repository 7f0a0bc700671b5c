"""People who sign in to a workshop, each in a browser of their own, and what they ask for beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from playwright.sync_api import Browser, Page

from comfyume.tests.browser.interface import READY, Interface
from comfyume.tests.harness import graphs
from comfyume.tests.harness.client import Client
from comfyume.tests.harness.pair import Pair
from comfyume.tests.harness.people import basic, password_of

INSTRUCTOR = "ines"
#: What a browser complains of while a server is away, and ComfyUI through functions of this extension.
AWAY = re.compile("Failed to fetch|Failed to load resource")

Enter = Callable[..., Interface]


@contextmanager
def letting_in(chromium: Browser, room: Pair, pictures: Callable[[str], Path]) -> Iterator[Enter]:
    """Lets people in; in the end the scripts of this extension may have complained of nothing.

    Who has no name stays at the page to sign in.
    """
    tabs: list[Interface] = []

    with ExitStack() as browsers:

        def let_in(
            name: str | None = INSTRUCTOR, *, width: int = 1400, height: int = 900, password: str | None = None
        ) -> Interface:
            size = {"width": width, "height": height}
            context = browsers.enter_context(chromium.new_context(viewport=size))  # type: ignore[arg-type]
            tabs.append(tab := Interface(context.new_page(), room.frontend.url, pictures))
            tab.page.goto(tab.url)
            if name is not None:
                sign_in(tab, name, password)
            return tab

        yield let_in
    complaints = [each.source + each.text for tab in tabs for each in tab.complaints]
    assert not [each for each in complaints if "/comfyume/" in each and not AWAY.search(each)]


def sign_in(tab: Interface, name: str, password: str | None = None) -> None:
    """Sign in on the page that is shown, and wait for ComfyUI."""
    fill_in(tab.page, name, password)
    tab.wait(READY)


def fill_in(page: Page, name: str, password: str | None = None) -> None:
    """Sign in on the page that is shown."""
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password_of(name) if password is None else password)
    page.get_by_role("button", name="Sign in").click()


def script_of(room: Pair, name: str) -> Client:
    """Requests of a person beside their browser."""
    return Client(room.frontend.address, headers=basic(name), connect=False)


def ask(room: Pair, method: str, path: str, body: Any = None, *, name: str = INSTRUCTOR) -> Any:
    """What a person asks for beside their browser: the instructor, if nobody else is named."""
    content = None if body is None else json.dumps(body).encode()
    answer = script_of(room, name).request(method, path, content, {"Content-Type": "application/json"})
    return json.loads(answer) if answer else None


def waiting(room: Pair) -> list[str]:
    """Some jobs that have not ended, as the server lists them."""
    return [job["id"] for job in ask(room, "GET", "/comfyume/jobs?state=active&user=*&limit=100")["jobs"]]


def pause(room: Pair) -> None:
    """Keep what is queued from now on waiting."""
    ask(room, "PATCH", "/comfyume/queue", {"paused": True})


def submit(room: Pair, name: str, count: int = 1, *, workflow: str = "") -> list[str]:
    """Prompts that take no time once a worker has them."""
    return [_queue(room, name, graphs.image(graphs.name(), color=number), workflow) for number in range(count)]


def run_slowly(room: Pair, name: str, seconds: float, *, workflow: str = "") -> str:
    """A prompt that shows its progress all the time."""
    prompt = {
        "1": graphs.node("BrowserSlowPicture", seconds=seconds, shade=graphs.number() % 256),
        "2": graphs.node("PreviewImage", images=["1", 0]),
    }
    return _queue(room, name, prompt, workflow)


def _queue(room: Pair, name: str, prompt: graphs.Graph, workflow: str) -> str:
    headers = {"Content-Type": "application/json", "Comfyume-Workflow": quote(workflow)}
    answer = script_of(room, name).request("POST", "/prompt", json.dumps({"prompt": prompt}).encode(), headers)
    return str(json.loads(answer)["prompt_id"])
