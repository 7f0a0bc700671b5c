"""G12: a worker is told to end; its job ends in time, or goes back to the queue and no attempt is spent."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from comfyume.tests.harness.script_engine import Script

from . import checks
from .reports import Report, times
from .room import Room
from .stage import Stage, spread

#: Seconds that a worker may take beyond its notice.
SLACK = 6.0
#: Seconds of its notice that a job at least leaves which ends in time.
SPARE = 0.6


@dataclass(frozen=True)
class Notice:
    """A room's workers get so many seconds of notice, and so many of them are told to end at once."""

    seconds: float
    at_once: int


SHORT = (Notice(1.0, 2),)
FULL = (Notice(30.0, 10), Notice(120.0, 25))


@dataclass
class Outcome:
    """How long workers took to end, at which attempt jobs ended, and what does not hold."""

    took: list[float]
    attempts: list[str]
    found: list[str]


async def run(stage: Stage, trials: int) -> list[Report]:
    """Tell workers to end ``trials`` times."""
    notices = FULL if stage.is_full else SHORT

    async def in_room(index: int, share: int) -> Outcome:
        return await _room(stage, notices[index], share)

    outcomes = await spread(trials, len(notices), in_room)
    attempts = [attempt for outcome in outcomes for attempt in outcome.attempts]
    in_words = " and ".join(f"{notice.seconds:g} s" for notice in notices)
    return [
        Report(
            "G12",
            "a worker told to stop drains",
            f"SIGTERM with {in_words} of notice, jobs that end in time and jobs that do not",
            sum(len(outcome.took) for outcome in outcomes),
            [violation for outcome in outcomes for violation in outcome.found],
            {
                "ended in time": str(attempts.count("1")),
                "went back": str(len(attempts) - attempts.count("1")),
                **{
                    f"with {notice.seconds:g} s the worker was gone after": times(outcome.took)
                    for notice, outcome in zip(notices, outcomes, strict=False)
                },
            },
        )
    ]


async def _room(stage: Stage, notice: Notice, trials: int) -> Outcome:
    found: list[str] = []
    took: list[float] = []
    ahead = iter(range(trials))
    async with stage.room(f"drains-{notice.seconds:g}") as room:
        room.fleet.environment["COMFYUME_DRAIN_NOTICE"] = f"{notice.seconds:g}"
        at_once = min(notice.at_once, trials)
        # One more, which takes what goes back.
        await room.add_workers(at_once + 1)
        room.fleet.keep()

        async def tell_one_by_one() -> None:
            for trial in ahead:
                took.extend(await _trial(room, notice.seconds, found, is_long=bool(trial % 2)))

        await asyncio.gather(*(tell_one_by_one() for _ in range(at_once)))
        await room.all_ended(checks.acknowledged(room.record.history))
        await room.take_stock()
    history = room.record.history
    found += checks.sound(history) + checks.losses_have_a_cause(history, 0)
    return Outcome(took, [entry.data["attempt"] for entry in history.of("final")], found)


async def _trial(room: Room, notice: float, found: list[str], *, is_long: bool) -> list[float]:
    """How long the worker took to end; nothing when the job has ended before it was told to."""
    random = room.random
    seconds = random.uniform(3, 4) * notice if is_long else random.uniform(0.25, 1) * (notice - max(SPARE, notice / 10))
    deaf = random.random() < 0.3
    job = await room.submit(Script(steps=10, seconds=seconds / 10, deaf=deaf, hurries=True))
    await room.in_state(job, *random.choice([("claimed", "running"), ("running",)]), "done")
    await asyncio.sleep(random.uniform(0, 0.1))
    worker = room.fleet.workers.get(await room.field(job, "worker"))
    if worker is None or await room.state(job) not in ("claimed", "running"):
        return []
    worker.terminate()
    told = time.monotonic()

    async def has_ended() -> bool:
        return not worker.lives

    if not await room.comes(has_ended, notice + SLACK):
        found.append(f"worker {worker.name} was told to end and lives {notice + SLACK:g} s later")
    took = time.monotonic() - told
    await room.all_ended([job])
    attempt = await room.field(job, "attempt")
    if not is_long and attempt != "1":
        found.append(f"job {job} needed {seconds:.1f} s of a notice of {notice:g} s and took {attempt} attempts")
    return [took]
