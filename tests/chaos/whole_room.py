"""G19: a queue of thousands, dozens of workers and hundreds of browsers, on one real ComfyUI.

The workers claim, tell and end jobs as real ones do, and run nothing; the browsers are sockets that read, and do not
fetch lists. As a workshop without accounts has one person, who gets no more than a fair share, the jobs that wait are
other people's, put into the store beside the frontend, and their events go to the browsers all the same. Everything
shares one machine, which is told with the figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from comfyume.accounts.sessions import Sessions
from comfyume.accounts.users import Users
from comfyume.job_queue.connection import connect_async
from comfyume.job_queue.frontend_queue import FrontendQueue
from comfyume.job_queue.jobs import Policy, Submission
from comfyume.job_queue.keys import Keys
from comfyume.tests.harness import discovery, graphs
from comfyume.tests.harness.processes import ComfyProcess, RedisServer, die_with_parent

from .record import History, Record
from .reports import Report, quantile
from .room import TooLate
from .stage import Stage

WORKERS_SCRIPT = Path(__file__).with_name("crowd_workers.py")
#: Seconds that a submit and a claim take at most, 99 times in 100.
SUBMIT = 0.1
CLAIM = 0.02
#: Seconds that a ComfyUI takes to start at most.
START = 180.0
#: Seconds within which a browser has heard of an end.
HEARD = 3.0
PROMISE = "it carries the room"


@dataclass(frozen=True)
class Size:
    """How large the room is.

    Attributes:
        queued: jobs that wait at the begin, of so many people as there are browsers.
        seconds: for which people submit.
        every: seconds between two submits.
        job: seconds that a job lasts, on average.
        slack: by which times may be longer, on a machine that does other things too.
    """

    queued: int
    workers: int
    browsers: int
    seconds: float
    every: float
    job: float
    slack: float


FULL = Size(10_000, 40, 200, 60.0, 0.1, 2.0, 1.0)
SMALL = Size(400, 6, 20, 4.0, 0.2, 0.3, 5.0)


@dataclass
class Browser:
    """A page that is open, of a person who is signed in.

    Attributes:
        heard: the jobs whose end it was told.
    """

    client: str
    user: str
    headers: dict[str, str] = field(default_factory=dict)
    heard: set[str] = field(default_factory=set)

    async def read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Read as long as there is something."""
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT and '"node": null' in message.data:
                self.heard.add(json.loads(message.data)["data"]["prompt_id"])


async def run(stage: Stage, trials: int) -> list[Report]:
    """Fill the room ``trials`` times; a single trial is a small one."""
    try:
        install = discovery.find("new")
    except discovery.ComfyMissingError as error:
        return [Report("G19", PROMISE, "", 0, [], skipped=str(error))]
    size = FULL if trials > 1 else SMALL
    found: list[str] = []
    submits: list[float] = []
    claims: list[float] = []
    for trial in range(trials):
        record = stage.record(f"room-{trial}")
        folder = stage.folder / f"room-{trial}"
        folder.mkdir(parents=True)
        await _trial(folder, record, size, install)
        history = record.history
        found += all_took(history) + all_heard(history) + in_time(history, size)
        submits += _times(history, "submit")
        claims += _times(history, "claim")
    return [
        Report(
            "G19",
            PROMISE,
            f"{size.queued} queued, {size.workers} workers, {size.browsers} browsers, a submit every {size.every:g} s",
            trials,
            found,
            {
                f"{len(submits)} submits": _told(submits),
                f"{len(claims)} claims": _told(claims),
                "machine": f"{os.cpu_count()} cores ({platform.machine()}) for all of it",
            },
        )
    ]


async def _trial(folder: Path, record: Record, size: Size, install: discovery.ComfyInstall) -> None:
    keys = Keys("room")
    log = folder / "workers.jsonl"
    with RedisServer(folder / "s", port=None) as store:
        client = connect_async(store.url)
        queue = FrontendQueue(client, keys, history_size=1_000, history_days=1.0)
        await queue.configure(Policy(per_person=None, in_all=None))
        frontend = ComfyProcess(
            install, folder / "frontend", mode="frontend", store_url=store.url, workshop=keys.workshop
        )
        await asyncio.to_thread(frontend.start)
        try:
            browsers = [Browser(uuid.uuid4().hex, f"person-{number}") for number in range(size.browsers)]
            users, sessions = Users(client, keys), Sessions(client, keys)
            for browser in browsers:
                await users.add(browser.user, "participant", "no password")
                browser.headers["Authorization"] = f"Bearer {await sessions.begin(browser.user, 'a page')}"
            await _fill(queue, size, browsers)
            await asyncio.to_thread(frontend.wait_ready, START)
            async with _open(frontend, browsers) as session, _working(store, keys, size, log):
                await _submit_for_a_while(session, frontend, browsers, size, record)
                # What has ended by now is told by the time that is waited then.
                stopped = time.monotonic()
                await asyncio.sleep(HEARD)
        finally:
            await asyncio.to_thread(frontend.stop)
            await client.aclose()
    _take_over(log, record)
    record.note("stopped", start=stopped)
    for browser in browsers:
        record.note("browser", client=browser.client, heard=sorted(browser.heard))


def _lines(log: Path) -> int:
    return len(log.read_text().splitlines()) if log.exists() else 0


def _take_over(log: Path, record: Record) -> None:
    """What the workers did; the first claim of each, which connects it to the store, is not measured."""
    known = set()
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        if entry["what"] == "claim" and entry["worker"] not in known:
            known.add(entry["worker"])
        else:
            record.seen(entry.pop("what"), entry.pop("at"), entry.pop("job"), **entry)


async def _fill(queue: FrontendQueue, size: Size, browsers: list[Browser]) -> None:
    """Queue what waits at the begin."""
    graph = graphs.image("room")

    def submission(number: int) -> Submission:
        browser = browsers[number % len(browsers)]
        return Submission(
            job_id=str(uuid.uuid4()),
            user=browser.user,
            order="back",
            payload={"prompt": graph, "extra_data": {"client_id": browser.client, "create_time": 1}, "outputs": ["2"]},
            secrets=b"",
            envelope={"files": [], "features": {}},
            brief={"extra_data": {"create_time": 1}},
            client=browser.client,
            needs=frozenset({"node:EmptyImage", "node:SaveImage"}),
        )

    for start in range(0, size.queued, 50):
        numbers = range(start, min(start + 50, size.queued))
        await asyncio.gather(*(queue.submit(submission(number)) for number in numbers))


@contextlib.asynccontextmanager
async def _open(frontend: ComfyProcess, browsers: list[Browser]) -> AsyncIterator[aiohttp.ClientSession]:
    """Open all pages; their sockets share one session, which can be used for requests too."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        readers = []
        for browser in browsers:
            address = f"{frontend.url}/ws?clientId={browser.client}"
            socket = await session.ws_connect(address, max_msg_size=0, headers=browser.headers)
            readers.append(asyncio.create_task(browser.read(socket)))
        try:
            yield session
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)


@contextlib.asynccontextmanager
async def _working(store: RedisServer, keys: Keys, size: Size, log: Path) -> AsyncIterator[None]:
    """Let the workers work, once all of them do."""
    words = [store.url, keys.workshop, str(size.workers), f"{size.job:g}", str(log)]
    with log.with_suffix(".log").open("ab") as output:
        process = subprocess.Popen(  # noqa: ASYNC220 - started before anything is measured
            [sys.executable, str(WORKERS_SCRIPT), *words],
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, no lock taken
        )
    try:
        deadline = time.monotonic() + 30
        while await asyncio.to_thread(_lines, log) < size.workers:
            if time.monotonic() > deadline:
                raise TooLate("the workers did not come within 30 s")
            await asyncio.sleep(0.1)
        yield
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)


async def _submit_for_a_while(
    session: aiohttp.ClientSession, frontend: ComfyProcess, browsers: list[Browser], size: Size, record: Record
) -> None:
    """Submit at a steady pace, whether the last one is answered or not."""
    tasks = []
    for number in range(round(size.seconds / size.every)):
        browser = browsers[number * 7 % len(browsers)]
        tasks.append(asyncio.create_task(_submit(session, frontend, browser, record)))
        await asyncio.sleep(size.every)
    await asyncio.gather(*tasks)


async def _submit(session: aiohttp.ClientSession, frontend: ComfyProcess, browser: Browser, record: Record) -> None:
    job = str(uuid.uuid4())
    body = {"prompt": graphs.image(graphs.name()), "client_id": browser.client, "prompt_id": job}
    with record.operation("submit", job=job) as data:
        async with session.post(f"{frontend.url}/prompt", json=body, headers=browser.headers) as response:
            data["status"] = response.status
            await response.read()


def _times(history: History, what: str) -> list[float]:
    if what == "claim":
        return [entry.data["took"] for entry in history.of("claim")]
    return [entry.end - entry.start for entry in history.of(what)]


def _told(seconds: list[float]) -> str:
    return f"p50 {quantile(seconds, 0.5) * 1000:.1f} ms, p99 {quantile(seconds, 0.99) * 1000:.1f} ms"


def all_took(history: History) -> list[str]:
    """Each submit was taken."""
    statuses = [entry.data.get("status", entry.data.get("error")) for entry in history.of("submit")]
    return [f"a submit was answered with {status}" for status in statuses if status != 200]


def all_heard(history: History) -> list[str]:
    """Each browser was told of the end of each of its jobs."""
    stopped = max(entry.start for entry in history.of("stopped"))
    heard = {entry.data["client"]: set(entry.data["heard"]) for entry in history.of("browser")}
    return [
        f"a browser did not hear of the end of job {entry.job}"
        for entry in history.of("end")
        if entry.start < stopped and entry.job not in heard.get(entry.data["client"], ())
    ]


def in_time(history: History, size: Size) -> list[str]:
    """Submits and claims took as long as they may."""
    return [
        f"p99 of a {what} is {quantile(_times(history, what), 0.99):.3f} s, over {most * size.slack:g} s"
        for what, most in (("submit", SUBMIT), ("claim", CLAIM))
        if not quantile(_times(history, what), 0.99) <= most * size.slack
    ]
