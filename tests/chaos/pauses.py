"""G3: a worker stands still past its lease, its job goes to another one, and what it says later is not accepted."""

from __future__ import annotations

import asyncio

from comfyume.tests.harness.script_engine import Script

from . import checks
from .record import History
from .reports import Report
from .room import LEASE, Room
from .stage import Stage, spread

#: Trials at once in a room, each with a worker that stands still and one that takes over.
AT_ONCE_SHORT = 2
AT_ONCE = 4
#: Rooms at once.
ROOMS = 5
#: Jobs that may end too soon for a trial.
MOST_TRIES = 5
#: Whether the first worker is through with the job at once when it goes on, and whether the other one is by then.
KINDS = ((False, False), (True, False), (False, True), (True, True))


async def run(stage: Stage, trials: int) -> list[Report]:
    """Stop a worker ``trials`` times in the middle of a job."""
    at_once = AT_ONCE if stage.is_full else AT_ONCE_SHORT

    async def in_room(index: int, share: int) -> tuple[History, int]:
        return await _room(stage, index, share, at_once)

    outcomes = await spread(trials, ROOMS if stage.is_full else 1, in_room)
    taken_over = sum(count for _, count in outcomes)
    found = [violation for history, _ in outcomes for violation in checks.sound(history)]
    left = [violation for history, _ in outcomes for violation in checks.left_behind(history)]
    found += left
    return [
        Report(
            "G3",
            "only the current claim may write",
            f"SIGSTOP past the lease of {LEASE:g} s, reassigned, SIGCONT",
            taken_over,
            found if taken_over >= trials else [*found, f"only {taken_over} jobs were given to another worker"],
            {
                "jobs": str(sum(len(checks.acknowledged(history)) for history, _ in outcomes)),
                "files that a late attempt left": str(len(left)),
            },
        )
    ]


async def _room(stage: Stage, index: int, trials: int, at_once: int) -> tuple[History, int]:
    """What happened, and how often another worker took over."""
    kinds = iter([KINDS[trial % len(KINDS)] for trial in range(trials)])
    async with stage.room(f"pauses-{index}") as room:
        await room.add_workers(2 * at_once)
        room.fleet.keep()

        async def stop_one_by_one() -> int:
            return sum([await _until_taken_over(room, *kind) for kind in kinds])

        taken_over = sum(await asyncio.gather(*(stop_one_by_one() for _ in range(at_once))))
        await room.all_ended(checks.acknowledged(room.record.history))
        # The late ones have said what they had to say.
        await asyncio.sleep(1.0)
        await room.take_stock()
    return room.record.history, taken_over


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
