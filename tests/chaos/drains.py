"""G12: a worker is told to end; its job ends in time, or goes back to the queue and no attempt is spent."""

from __future__ import annotations

import asyncio
import time

from comfyume.tests.harness.script_engine import Script

from . import checks
from .reports import Report, times
from .room import Room
from .stage import Stage

WORKERS = 3
#: Seconds of notice.
NOTICE = 1.0
#: Seconds that a worker may take beyond its notice.
SLACK = 6.0


async def run(stage: Stage, trials: int) -> list[Report]:
    """Tell workers to end ``trials`` times."""
    found: list[str] = []
    async with stage.room("drains") as room:
        room.fleet.environment["COMFYUME_DRAIN_NOTICE"] = f"{NOTICE:g}"
        await room.add_workers(WORKERS)
        room.fleet.keep()
        took = [await _trial(room, found, is_long=bool(trial % 2)) for trial in range(trials)]
        await room.all_ended(checks.acknowledged(room.record.history))
        await room.take_stock()
    history = room.record.history
    found += checks.sound(history) + checks.losses_have_a_cause(history, 0)
    finals = [entry.data["attempt"] for entry in history.of("final")]
    return [
        Report(
            "G12",
            "a worker told to stop drains",
            f"SIGTERM with {NOTICE:g} s of notice, jobs that end in time and jobs that do not",
            trials,
            found,
            {
                "ended in time": str(finals.count("1")),
                "went back": str(len(finals) - finals.count("1")),
                "the worker was gone after": times(took),
            },
        )
    ]


async def _trial(room: Room, found: list[str], *, is_long: bool) -> float:
    """How long the worker took to end."""
    random = room.random
    seconds = random.uniform(3.0, 4.0) if is_long else random.uniform(0.1, 0.4)
    job = await room.submit(Script(steps=10, seconds=seconds / 10, deaf=random.random() < 0.3))
    await room.in_state(job, *random.choice([("claimed", "running"), ("running",)]), "done")
    await asyncio.sleep(random.uniform(0, 0.1))
    worker = room.fleet.workers.get(await room.field(job, "worker"))
    if worker is None:
        return 0.0
    worker.terminate()
    told = time.monotonic()

    async def has_ended() -> bool:
        return not worker.lives

    if not await room.comes(has_ended, NOTICE + SLACK):
        found.append(f"worker {worker.name} was told to end and lives {NOTICE + SLACK:g} s later")
    took = time.monotonic() - told
    await room.all_ended([job])
    attempt = await room.field(job, "attempt")
    if not is_long and attempt != "1":
        found.append(f"job {job} needed {seconds:.1f} s of a notice of {NOTICE:g} s and took {attempt} attempts")
    return took
