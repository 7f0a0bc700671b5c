"""G3: a worker stands still past its lease, its job goes to another one, and what it says later is not accepted."""

from __future__ import annotations

import asyncio

from comfyume.tests.harness.script_engine import Script

from . import checks
from .reports import Report
from .room import LEASE, Room
from .stage import Stage

#: Trials at once, each with a worker that stands still and one that takes over.
AT_ONCE = 2
#: Jobs that may end too soon for a trial.
MOST_TRIES = 5
#: Whether the first worker is through with the job at once when it goes on, and whether the other one is by then.
KINDS = ((False, False), (True, False), (False, True), (True, True))


async def run(stage: Stage, trials: int) -> list[Report]:
    """Stop a worker ``trials`` times in the middle of a job."""
    async with stage.room("pauses") as room:
        await room.add_workers(2 * AT_ONCE)
        room.fleet.keep()
        kinds = [KINDS[trial % len(KINDS)] for trial in range(trials)]
        taken_over = 0
        for start in range(0, trials, AT_ONCE):
            at_once = kinds[start : start + AT_ONCE]
            taken_over += sum(await asyncio.gather(*(_until_taken_over(room, *kind) for kind in at_once)))
        await room.all_ended(checks.acknowledged(room.record.history))
        # The late ones have said what they had to say.
        await asyncio.sleep(1.0)
        await room.take_stock()
    history = room.record.history
    found = checks.sound(history)
    if stage.is_strict:
        found += checks.left_behind(history)
    return [
        Report(
            "G3",
            "only the current claim may write",
            f"SIGSTOP past the lease of {LEASE:g} s, reassigned, SIGCONT",
            taken_over,
            found if taken_over >= trials else [*found, f"only {taken_over} jobs were given to another worker"],
            {
                "jobs": str(len(checks.acknowledged(history))),
                "files that a late attempt left": str(len(checks.left_behind(history))),
            },
        )
    ]


async def _until_taken_over(room: Room, at_end: bool, late: bool) -> bool:
    """Try with further jobs if one ends before its worker is stopped."""
    for _ in range(MOST_TRIES):
        if await _trial(room, at_end=at_end, late=late):
            return True
    return False


async def _trial(room: Room, *, at_end: bool, late: bool) -> bool:
    """Whether another worker had the job when the first one went on.

    Args:
        at_end: let the first one be through with the job at once when it goes on, before it can learn anything.
        late: let the other one be through with it before that.
    """
    random = room.random
    if at_end:
        script = Script(steps=1, seconds=random.uniform(0.6, 0.9))
    else:
        script = Script(steps=random.randint(4, 10), seconds=0.1)
    job = await room.submit(script)
    await room.in_state(job, "running", "done")
    await asyncio.sleep(random.uniform(0, script.steps * script.seconds))
    name = await room.field(job, "worker")
    worker = room.fleet.workers.get(name)
    if worker is None or await room.state(job) not in ("claimed", "running"):
        return False
    worker.pause()

    async def is_taken_over() -> bool:
        return await room.field(job, "attempt") != "1" and await room.state(job) != "queued"

    was_taken_over = await room.comes(is_taken_over, LEASE + 15)
    if late:
        await room.in_state(job, "done")
    await asyncio.sleep(random.uniform(0, 0.5 * script.steps * script.seconds))
    worker.resume_alone()
    await asyncio.sleep(random.choice([0.0, 0.2]) if at_end else 0.2)
    worker.resume()
    await room.in_state(job, "done")
    return was_taken_over
