"""ComfyUI's interface in a real browser: the page, what a person does with it, and what they see."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import ConsoleMessage, Error, Locator, Page, expect

from comfyume.tests.browser.graphs import Graph

#: Milliseconds until a condition counts as never fulfilled.
PATIENCE = 20_000

STORES = "document.querySelector('#vue-app').__vue_app__.config.globalProperties.$pinia._s"

#: The interface has loaded a graph and stands still.
READY = f"""() => window.app?.graph?.nodes?.length > 0
    && app.extensionManager.workflow.activeWorkflow?.path
    && !{STORES}.get('workspace').spinner"""

#: Note every change of the nodes that are drawn with the outline of a running node, and every preview.
RECORD = f"""() => {{
    window.recorded = {{ outlines: [], progress: [] }};
    const execution = {STORES}.get('execution');
    execution.$subscribe(() => {{
        for (const node of app.graph.nodes) {{
            if (!node.strokeStyles?.running?.call(node)) continue;
            if (recorded.outlines.at(-1) !== node.type) recorded.outlines.push(node.type);
        }}
        for (const state of Object.values(execution.nodeProgressStates)) {{
            if (state.max > 1 && recorded.progress.at(-1) !== state.value) recorded.progress.push(state.value);
        }}
    }}, {{ flush: 'sync', detached: true }});
}}"""


@dataclass(frozen=True)
class Complaint:
    """An error in the browser's console or one that no script caught, without what differs from run to run."""

    text: str
    source: str

    @property
    def is_of_this_extension(self) -> bool:
        """Whether a script of this extension is named as its source or in its stack."""
        return "/extensions/comfyume/" in self.source or "/extensions/comfyume/" in self.text


class Interface:
    """One browser tab with ComfyUI's interface."""

    def __init__(self, page: Page, url: str, pictures: Callable[[str], Path]) -> None:
        self.page = page
        self.url = url
        self.complaints: list[Complaint] = []
        self._pictures = pictures
        page.set_default_timeout(PATIENCE)
        page.on("console", self._hear)
        page.on("pageerror", self._catch)

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._complain(message.text, message.location.get("url", ""))

    def _catch(self, error: Error) -> None:
        self._complain(error.stack or str(error), "")

    def _complain(self, text: str, source: str) -> None:
        text, source = (_without_variable_parts(part.replace(self.url, "")) for part in (text, source))
        self.complaints.append(Complaint(text, source))

    # What a person does.

    def open(self) -> None:
        """Go to the server's address and wait until a graph is shown."""
        self.page.goto(self.url)
        self.wait(READY)

    def reload(self) -> None:
        """Load the page again, as with F5."""
        self.page.reload()
        self.wait(READY)

    def load(self, graph: Graph, name: str) -> None:
        """Open a graph in a tab, as by dropping its file; wait until the browser would restore it after a reload."""
        self.page.evaluate("([graph, name]) => app.loadGraphData(graph, true, true, name)", [graph, name])
        self.wait("name => app.extensionManager.workflow.activeWorkflow?.path === `workflows/${name}.json`", name)
        self.wait(
            """kind => [localStorage, sessionStorage].some(
                storage => Object.values({...storage}).some(text => String(text).includes(kind)))""",
            graph["nodes"][0]["type"],
        )
        self.page.evaluate(RECORD)

    def record(self) -> None:
        """Begin to note outlines and progress; ``load`` does too."""
        self.page.evaluate(RECORD)

    def run(self) -> None:
        """Press Run."""
        self.page.get_by_test_id("queue-button").click()

    def cancel(self) -> None:
        """Press the red button beside Run."""
        self.page.get_by_role("button", name="Cancel current run").click()

    def show_jobs(self) -> None:
        """Open the panel of jobs while one runs; its button is there while the mouse is near."""
        self.page.get_by_test_id("queue-button").hover()
        self.page.get_by_text("View all jobs").click()
        self.job_panel.wait_for()

    def show_assets(self) -> None:
        """Open the side bar with the files that were made."""
        self.page.locator(".side-tool-bar-container").get_by_role("button", name=re.compile("^Assets")).click()

    def show_error(self) -> None:
        """Open the message of the last error; the 1.37 interface does so by itself, the 1.48 one behind a button."""
        self.wait("() => app.lastExecutionError || app.lastNodeErrors")
        details = self.page.get_by_role("button", name="View details")
        message = self.page.get_by_role("dialog")
        details.or_(message).first.wait_for()
        if details.is_visible():
            details.click()

    def choose(self, setting: str, value: str) -> None:
        """Change one of ComfyUI's settings."""
        self.page.evaluate(
            "([name, value]) => app.extensionManager.setting.set(`Comfy.${name}`, value)", [setting, value]
        )

    def choose_palette(self, name: str) -> None:
        """Change ComfyUI's colours, to ``dark`` or ``light``, and wait until they are shown."""
        self.choose("ColorPalette", name)
        self.wait("isDark => Boolean(document.querySelector('.dark-theme')) === isDark", name == "dark")

    # What a person sees.

    @property
    def job_panel(self) -> Locator:
        """The list in the panel of jobs."""
        return self.page.get_by_role("button", name="Filter jobs")

    @property
    def tab(self) -> str:
        """Title of the open tab."""
        path: str = self.page.evaluate("app.extensionManager.workflow.activeWorkflow.path")
        return path.removeprefix("workflows/").removesuffix(".json")

    @property
    def tabs(self) -> list[str]:
        """Titles of all tabs."""
        paths: list[str] = self.page.evaluate("app.extensionManager.workflow.openWorkflows.map(w => w.path)")
        return [path.removeprefix("workflows/").removesuffix(".json") for path in paths]

    def node_of(self, kind: str) -> int:
        """The id of the one node of a type."""
        return int(self.page.evaluate("kind => app.graph.nodes.find(node => node.type === kind).id", kind))

    @property
    def node_types(self) -> list[str]:
        """The types of the nodes in the graph."""
        return list(self.page.evaluate("app.graph.nodes.map(node => node.type)"))

    @property
    def outlines(self) -> list[str]:
        """The types of the nodes that had the outline of a running node, in order."""
        return list(self.page.evaluate("recorded.outlines"))

    @property
    def progress(self) -> list[int]:
        """The steps of progress that the interface took note of."""
        return list(self.page.evaluate("recorded.progress"))

    def wait(self, condition: str, argument: Any = None, timeout: float = PATIENCE) -> None:
        """Wait until a JavaScript condition holds."""
        self.page.wait_for_function(condition, arg=argument, timeout=timeout, polling=50)

    def wait_running(self, kind: str, part: float = 0.0) -> None:
        """Wait until a node has its running outline, and a progress bar beyond this part."""
        self.wait(
            """([kind, part]) => app.graph.nodes.some(
                node => node.type === kind && node.strokeStyles.running.call(node) && node.progress > part)""",
            [kind, part],
        )

    def wait_picture(self, node: int, words: str) -> None:
        """Wait until a node shows a picture, wholly loaded, whose address has these words in it."""
        self.wait(
            """([id, words]) => app.graph.getNodeById(id)?.imgs?.some(
                image => image.src.includes(words) && image.complete && image.naturalWidth > 0)""",
            [node, words],
        )

    def wait_idle(self) -> None:
        """Wait until the interface shows nothing as running."""
        self.wait(f"() => {STORES}.get('execution').isIdle")

    def marks(self, style: str) -> list[int]:
        """The nodes that are drawn with this outline: ``error``, ``executionError``, ``running``."""
        return list(
            self.page.evaluate(
                """style => app.graph.nodes.filter(node => node.strokeStyles?.[style]?.call(node))
                    .map(node => Number(node.id))""",
                style,
            )
        )

    def picture(self, name: str) -> None:
        """Keep a screenshot among the artefacts."""
        # two frames, so that the canvas has drawn what the stores hold
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        self.page.screenshot(path=self._pictures(name))


def see(place: Locator, words: str | re.Pattern[str]) -> None:
    """Wait until these words can be read there."""
    expect(place).to_contain_text(words, timeout=PATIENCE)


def _without_variable_parts(text: str) -> str:
    text = re.sub(r"https?://127\.0\.0\.1:\d+", "", text)
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", text)
    return re.sub(r"(?<=\.js):\d+:\d+", "", text)
