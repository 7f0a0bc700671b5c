"""G17: the clocks of workers and frontend are off by an hour and jump; all is as without.

Beside that, every argument of every script is looked at: none is a time of the day.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from unittest import mock

from comfyume.tests.harness.script_engine import Script

from . import checks
from .kills import waits
from .reports import Report, quantile, times
from .room import LEASE, Room
from .stage import Stage, spread

OFF = 3600.0
FOLDER = Path(__file__).parent / "shifted_clock"
#: Seconds behind the lease within which a lost job runs again.
SLACK = 6.0
#: Rooms at once.
ROOMS = 4
_WORD = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_NUMBER = re.compile(rb"-?[0-9]+(\.[0-9]+)?")


async def run(stage: Stage, trials: int) -> list[Report]:
    """Run ``trials`` rounds of jobs, with a worker killed in each, a cancel and a long job that nobody may take."""

    async def in_room(index: int, share: int) -> tuple[list[float], list[str]]:
        return await _room(stage, index, share)

    with wrong_clock():
        outcomes = await spread(trials, ROOMS if stage.is_full else 1, in_room)
    waited = [wait for waits_of_room, _ in outcomes for wait in waits_of_room]
    found = [violation for _, violations in outcomes for violation in violations]
    if quantile(waited, 0.99) > LEASE + SLACK:
        found.append(f"a lost job ran again after {quantile(waited, 0.99):.1f} s")
    return [
        Report(
            "G17",
            "clocks do not matter",
            f"clocks of workers and frontend off by {OFF:g} s, jumping to and fro; a worker killed in each trial",
            trials,
            found,
            {"from kill to running again": times(waited)},
        )
    ]


async def _room(stage: Stage, index: int, trials: int) -> tuple[list[float], list[str]]:
    """How long lost jobs waited, and the violations."""
    async with stage.room(f"clocks-{index}") as room:
        room.fleet.environment |= {"CHAOS_CLOCK": str(OFF), "PYTHONPATH": str(FOLDER)}
        async with arguments_of_scripts(room) as seen:
            await room.add_workers(3)
            room.fleet.keep()
            for _ in range(trials):
                await _trial(room)
        await room.all_ended(checks.acknowledged(room.record.history))
        await room.take_stock()
    history = room.record.history
    found = checks.sound(history) + checks.losses_have_a_cause(history, trials)
    found += [f"{script} was given {argument}, which is a time of the day" for script, argument in seen]
    return waits(history), found


async def _trial(room: Room) -> None:
    doomed = await room.submit(Script(steps=10, seconds=0.1))
    long = await room.submit(Script(steps=2, seconds=0.75 * LEASE))
    unwanted = await room.submit(Script(steps=1000, seconds=0.1))
    room.fleet.keeps_names = room.random.random() < 0.5
    await room.in_state(doomed, "running", "done")
    worker = room.fleet.workers.get(await room.field(doomed, "worker"))
    if worker is not None:
        worker.kill()
    await room.cancel(unwanted)
    await room.all_ended([doomed, long, unwanted])


@contextlib.contextmanager
def wrong_clock() -> Iterator[None]:
    """This process, which is the frontend, has a wrong clock too."""
    right = time.time

    def wrong() -> float:
        return right() - OFF if int(time.monotonic() / 2) % 2 else right() + OFF

    def wrong_ns() -> int:
        return int(wrong() * 1_000_000_000)

    with mock.patch("time.time", wrong), mock.patch("time.time_ns", wrong_ns):
        yield


@contextlib.asynccontextmanager
async def arguments_of_scripts(room: Room) -> AsyncIterator[set[tuple[str, str]]]:
    """Look at all that the store is told; yields what looks like a time of the day: the script and the argument."""
    reader, writer = await asyncio.open_unix_connection(str(room.store.socket), limit=16 * 1024 * 1024)
    writer.write(b"MONITOR\r\n")
    seen: set[tuple[str, str]] = set()

    async def look() -> None:
        async for line in reader:
            words = _WORD.findall(line)
            # What scripts themselves ask the store for is marked with "lua"; its times are the store's.
            if len(words) > 3 and words[0].upper() in (b"EVALSHA", b"EVAL") and b" lua]" not in line:
                seen.update((words[1].decode()[:12], word.decode()) for word in words[3:] if is_time_of_day(word))

    task = asyncio.create_task(look(), name="chaos-monitor")
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        writer.close()


def is_time_of_day(word: bytes) -> bool:
    """Whether an argument is a number within two days of now, in seconds or parts of them."""
    if not _NUMBER.fullmatch(word):
        return False
    return any(abs(float(word) / scale - time.time()) < 2 * 86_400 for scale in (1, 1e3, 1e6, 1e9))
