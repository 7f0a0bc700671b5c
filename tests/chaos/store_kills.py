"""G1: the store is killed under load and started again; every job that it acknowledged is there."""

from __future__ import annotations

import asyncio
import contextlib
import time

from comfyume.job_queue.errors import QueueError
from comfyume.tests.harness.script_engine import Script

from . import checks
from .reports import Report, times
from .room import Room
from .stage import Stage

SUBMITTERS = 8
#: Jobs that take next to nothing, so that claims and ends are under way too when the store dies.
QUICK = Script(steps=1, seconds=0.001, bytes=500)


async def run(stage: Stage, trials: int) -> list[Report]:
    """Kill the store ``trials`` times."""
    async with stage.room("store-kills") as room:
        await room.add_workers(1)
        room.fleet.keep()
        recovered = []
        for _ in range(trials):
            recovered.append(await _trial(room))
        await room.all_ended(checks.acknowledged(room.record.history))
        await room.take_stock()
    history = room.record.history
    return [
        Report(
            "G1",
            "an acknowledged submit is never lost",
            "kill -9 of the store under load, restart",
            trials,
            checks.none_lost(history),
            {
                "acknowledged submits": str(len(checks.acknowledged(history))),
                "from the kill to the next acknowledged submit": times(recovered),
            },
        )
    ]


async def _trial(room: Room) -> float:
    ended = asyncio.Event()
    submitters = [asyncio.create_task(_submit_until(room, ended)) for _ in range(SUBMITTERS)]
    await asyncio.sleep(room.random.uniform(0.05, 0.25))
    room.record.note("store killed")
    killed = time.monotonic()
    room.store.kill()
    await asyncio.sleep(room.random.uniform(0, 0.2))
    room.store.start()
    room.record.note("store started")
    with contextlib.suppress(QueueError):
        # The listener and the pool find the store again at their own pace.
        await room.submit(QUICK)
    ended.set()
    await asyncio.gather(*submitters)
    return next(
        (
            entry.end - killed
            for entry in room.record.history.of("submit")
            if entry.start > killed and "error" not in entry.data
        ),
        float("nan"),
    )


async def _submit_until(room: Room, ended: asyncio.Event) -> None:
    while not ended.is_set():
        with contextlib.suppress(QueueError):
            await room.submit(QUICK)
        await asyncio.sleep(0.02)
