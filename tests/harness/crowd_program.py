"""Many people at their browsers, as a process of its own; run by path. ``crowd.py`` starts it and reads its log.

``python crowd_program.py PLAN LOG``: PLAN is JSON (see `Crowd`), LOG gets a line of JSON for whatever is done or
heard, when all is over. Standard output gets a line for each step of `STEPS` that is done; before each, and before the
sockets are closed, a line of standard input is waited for.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp

#: What ComfyUI's page fetches when it is told that the queue has changed.
LISTS = (
    "/api/jobs?status=in_progress,pending&limit=200&offset=0",
    "/api/jobs?status=completed,failed,cancelled&limit=64&offset=0",
)
#: Seconds for which one answer, one step, and the last word on the queue are waited for.
ANSWER, STEP, LAST_WORD = 60.0, 180.0, 5.0

log: list[dict[str, Any]] = []


def note(what: str, person: str, began: float, **data: Any) -> dict[str, Any]:
    """One line of the log, to which more may be added; times are of ``time.monotonic``."""
    line = {"what": what, "person": person, "began": began, "ended": time.monotonic(), **data}
    log.append(line)
    return line


class Person:
    """One person at one browser: a session of HTTP with its cookies, and a socket."""

    def __init__(self, address: str, plan: dict[str, Any], failure: asyncio.Future[None]) -> None:
        self._plan = plan
        self._failure = failure
        self._name: str = plan["name"]
        self._client_id = uuid.uuid4().hex
        # A browser has six connections to a server at most; unsafe: also for a server without a name.
        self._session = aiohttp.ClientSession(
            f"http://{address}",
            connector=aiohttp.TCPConnector(limit=6),
            cookie_jar=aiohttp.CookieJar(unsafe=True),
            timeout=aiohttp.ClientTimeout(ANSWER),
        )
        self._greeted = asyncio.Event()
        self._queue_changed = asyncio.Event()
        self._something_ended = asyncio.Event()
        self._ended: set[str] = set()
        self._unseen = 0
        self._nothing_remains = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def sign_in(self) -> None:
        """As the form does, where there is a password."""
        if self._plan["password"]:
            credentials = {"user": self._name, "password": self._plan["password"]}
            await self._ask("POST", "/comfyume/sign-in", "sign in", json=credentials)

    async def connect(self) -> None:
        """Open the socket and say what this page can show."""
        socket = await self._session.ws_connect(f"/ws?clientId={self._client_id}", max_msg_size=0)
        await socket.send_json({"type": "feature_flags", "data": self._plan["features"]})
        self._begin(self._listen(socket))
        self._begin(self._keep_lists_fresh())
        await self._greeted.wait()

    async def open_page(self) -> None:
        """Fetch what the page needs to begin."""
        await asyncio.gather(*(self._ask("GET", path, "open") for path in self._plan["opens"]))

    async def work(self) -> None:
        """Queue all prompts, one after the other, and wait until they have ended and each picture was looked at."""
        submitted = set()
        for graph in self._plan["prompts"]:
            body = {"prompt": graph, "client_id": self._client_id}
            answer, line = await self._ask("POST", "/api/prompt", "submit", json=body)
            line["job"] = json.loads(answer)["prompt_id"]
            submitted.add(line["job"])
        while self._unseen or not submitted <= self._ended:
            self._something_ended.clear()
            await self._something_ended.wait()

    async def look_back(self) -> None:
        """Read the history, when the page says that nothing is left to do."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._nothing_remains.wait(), LAST_WORD)
        answer, line = await self._ask("GET", "/api/history", "history")
        line["jobs"] = list(json.loads(answer))

    async def leave(self) -> None:
        """Close everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside the steps; its failure is everybody's."""

        def look(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) and not self._failure.done():
                self._failure.set_exception(error)

        task = asyncio.create_task(work)
        task.add_done_callback(look)
        self._tasks.append(task)

    async def _ask(self, method: str, path: str, what: str, **options: Any) -> tuple[bytes, dict[str, Any]]:
        """One request: the answer and its line in the log."""
        began = time.monotonic()
        async with self._session.request(method, path, **options) as response:
            content = await response.read()
            if response.status != 200:
                raise RuntimeError(f"{self._name}: {method} {path}: {response.status} {content[:500]!r}")
        return content, note(what, self._name, began, path=path, size=len(content))

    async def _listen(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async with socket:
            async for message in socket:
                began = time.monotonic()
                if message.type is aiohttp.WSMsgType.TEXT:
                    event = json.loads(message.data)
                    note("event", self._name, began, kind=event["type"], data=event.get("data"))
                    self._heed(event["type"], event.get("data"))
                else:
                    note("binary", self._name, began, content=base64.b64encode(message.data).decode())
        raise RuntimeError(f"{self._name}: the socket was closed")

    def _heed(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "status":
            if data["status"]["exec_info"]["queue_remaining"]:
                self._nothing_remains.clear()
            else:
                self._nothing_remains.set()
            self._greeted.set()
            self._queue_changed.set()
        elif kind == "executed":
            for picture in (data["output"] or {}).get("images", ()):
                self._unseen += 1
                self._begin(self._see(picture))
        elif (kind == "executing" and data["node"] is None) or kind in ("execution_error", "execution_interrupted"):
            self._ended.add(data["prompt_id"])
            self._something_ended.set()

    async def _see(self, picture: dict[str, str]) -> None:
        content, line = await self._ask("GET", f"/api/view?{urlencode(picture)}", "view")
        line |= {"picture": picture, "content": base64.b64encode(content).decode()}
        self._unseen -= 1
        self._something_ended.set()

    async def _keep_lists_fresh(self) -> None:
        while True:
            await self._queue_changed.wait()
            self._queue_changed.clear()
            for path in LISTS:
                answer, line = await self._ask("GET", path, "list")
                line["jobs"] = [job["id"] for job in json.loads(answer)["jobs"]]


#: What all do at once, step by step.
STEPS: dict[str, Callable[[Person], Awaitable[None]]] = {
    "sign in": Person.sign_in,
    "connect": Person.connect,
    "open": Person.open_page,
    "work": Person.work,
    "look back": Person.look_back,
}


async def told_to_go_on() -> None:
    """Wait for a line of standard input."""
    if not await asyncio.to_thread(sys.stdin.readline):
        raise RuntimeError("nobody wants to know any more")


async def run(plan: dict[str, Any]) -> None:
    """Play all steps."""
    failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    people = [Person(plan["address"], each, failure) for each in plan["people"]]
    try:
        for name, step in STEPS.items():
            await told_to_go_on()
            began = time.monotonic()
            all_of_it = asyncio.gather(*(step(person) for person in people))
            done, _ = await asyncio.wait({all_of_it, failure}, timeout=STEP, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                raise TimeoutError(f"not all people were done with {name!r} after {STEP:g} s")
            for each in done:
                each.result()
            print(json.dumps({"step": name, "began": began, "ended": time.monotonic()}), flush=True)
        await told_to_go_on()
    finally:
        for person in people:
            await person.leave()


def main() -> None:
    """Play the plan and write the log."""
    plan, file = Path(sys.argv[1]), Path(sys.argv[2])
    asyncio.run(run(json.loads(plan.read_text())))
    file.write_text("".join(json.dumps(line) + "\n" for line in log))


if __name__ == "__main__":
    main()
