"""G18: what is too large, too deep or no prompt at all is posted to a real ComfyUI; it is refused, and nobody waits."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp

from comfyume.tests.harness import discovery, loop_lag
from comfyume.tests.harness.processes import ComfyProcess, RedisServer

from .bodies import KINDS, Body
from .record import History, Record
from .reports import Report, times
from .stage import Stage

#: Seconds for which the event loop is held at most.
LONGEST = 0.1
#: Seconds above which it is noted that the loop was late.
SHORTEST = 0.02
PROMISE = "sizes are bounded"
#: Seconds after which there is no answer, and no ComfyUI.
PATIENCE = 60.0
START = 180.0


async def run(stage: Stage, trials: int) -> list[Report]:
    """Post ``trials`` bodies."""
    try:
        install = discovery.find("new")
    except discovery.ComfyMissingError as error:
        return [Report("G18", PROMISE, "", 0, [], skipped=str(error))]
    folder = stage.folder / "sizes"
    folder.mkdir(parents=True)
    lag = folder / "lag.bin"
    random = stage.random("sizes")
    record = stage.record("sizes")
    with RedisServer(folder / "s", port=None) as store:
        frontend = ComfyProcess(
            install,
            folder / "frontend",
            mode="frontend",
            store_url=store.url,
            env={loop_lag.VARIABLE: str(lag)},
            node_packs=[loop_lag.PACK],
        )
        await asyncio.to_thread(frontend.start)
        try:
            await asyncio.to_thread(frontend.wait_ready, START)
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(PATIENCE)) as session:
                await asyncio.sleep(2.0)
                began = time.monotonic()
                for trial in range(trials):
                    body = await asyncio.to_thread(KINDS[trial % len(KINDS)], random)
                    await _trial(session, frontend.url, body, record)
            await asyncio.to_thread(_note_stalls, lag, began, record)
        finally:
            await asyncio.to_thread(frontend.stop)
    history = record.history
    answers = Counter(entry.data["status"] for entry in history.of("posted"))
    held = list(held_for(history).values())
    return [
        Report(
            "G18",
            PROMISE,
            "bodies of up to 50 MB, 10,000 deep, with NaN, 100,000 nodes, wrong types and no JSON",
            len(history.of("posted")),
            refused_well(history) + never_held(history),
            {
                "answers": ", ".join(f"{status} {count}" for status, count in sorted(answers.items())),
                "the event loop was held for": times(held),
            },
        )
    ]


def _note_stalls(lag: Path, began: float, record: Record) -> None:
    """Note when the event loop was late since then; ``cpu`` is how long its process computed meanwhile."""
    try:
        looks = loop_lag.during(lag, began, time.monotonic())
    except TimeoutError:
        # A frontend that has ended, or is held for good, is told by the answers that are missing.
        if all(entry.data["status"] for entry in record.history.of("posted", "read")):
            raise
        looks = loop_lag.read(lag)
    for look in looks:
        if look.late > SHORTEST:
            record.seen("stall", look.began, "", begin=look.began, end=look.ended, held=look.late, cpu=look.cpu)


async def _trial(session: aiohttp.ClientSession, url: str, body: Body, record: Record) -> None:
    with record.operation("posted", kind=body.kind, size=len(body.content), may_pass=body.may_pass) as data:
        status, said = await _ask(session, "POST", f"{url}/prompt", body.content)
        data["status"] = status
        data["is_told"] = status == 200 or "error" in said
    # What it held up is told by then.
    await asyncio.sleep(0.05)
    began = time.monotonic()
    status, queue = await _ask(session, "GET", f"{url}/queue")
    pending = len(queue.get("queue_pending", ()))
    record.note("read", start=began, kind=body.kind, status=status, pending=pending, accepted=data["status"] == 200)
    await _ask(session, "POST", f"{url}/queue", b'{"clear": true}')


async def _ask(session: aiohttp.ClientSession, method: str, url: str, body: bytes | None = None) -> tuple[int, Any]:
    """The status and the JSON of an answer as a browser reads it; 0 for none that it can read."""
    data = io.BytesIO(body) if body else None
    try:
        async with session.request(method, url, data=data, headers={"Content-Type": "application/json"}) as response:
            text = await response.text()
            try:
                said = json.loads(text, parse_constant=_refuse) if text else {}
            except ValueError:
                return (0 if response.status == 200 else response.status), {}
            return response.status, said if isinstance(said, dict) else {}
    except (aiohttp.ClientError, asyncio.TimeoutError):
        return 0, {}


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def refused_well(history: History) -> list[str]:
    """Each body was refused with 400 or 413 and a reason, or was a prompt; the queue is right and can be read."""
    found = []
    for entry in history.of("posted"):
        kind, status = entry.data["kind"], entry.data["status"]
        if status not in ((200, 400, 413) if entry.data["may_pass"] else (400, 413)):
            found.append(f"{kind} ({entry.data['size']} bytes) was answered with {status or 'nothing'}")
        elif not entry.data["is_told"]:
            found.append(f"{kind} was refused with {status}, and without ComfyUI's word for why")
    for entry in history.of("read"):
        if entry.data["status"] != 200:
            found.append(f"the queue cannot be read after {entry.data['kind']}")
        elif entry.data["pending"] != entry.data["accepted"]:
            found.append(f"{entry.data['pending']} prompts are queued after {entry.data['kind']}")
    return found


def held_for(history: History) -> dict[str, float]:
    """The longest that each request held the event loop, in seconds, by its place and kind.

    Only what its process computed meanwhile counts: a machine has others who want its cores.
    """
    longest = {}
    stalls = history.of("stall")
    for number, entry in enumerate(history.of("posted", "read")):
        own = [stall.data for stall in stalls if stall.data["end"] > entry.start and stall.data["begin"] < entry.end]
        held = max((min(stall["held"], stall["cpu"]) for stall in own), default=0.0)
        longest[f"{entry.what} {number}: {entry.data['kind']}"] = held
    return longest


def never_held(history: History) -> list[str]:
    """The event loop went on within a tenth of a second."""
    return [
        f"{what} held the event loop for {held:.3f} s" for what, held in held_for(history).items() if held > LONGEST
    ]
