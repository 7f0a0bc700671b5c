"""G9: a job that kills each worker is given up after three of them; the jobs beside it end as ever."""

from __future__ import annotations

from comfyume.tests.harness.script_engine import Script

from . import checks
from .record import History
from .reports import Report
from .stage import Stage, spread

OTHERS = 4
STEPS = ("check", "start", "middle", "written", "end")
WORKERS = 3
#: Poison jobs at once in a room.
AT_ONCE = 2
#: Rooms at once.
ROOMS = 2


async def run(stage: Stage, trials: int) -> list[Report]:
    """Queue ``trials`` jobs that kill their worker, among others that do not."""

    async def in_room(index: int, share: int) -> tuple[History, list[str]]:
        return await _room(stage, index, share)

    outcomes = await spread(trials, ROOMS if stage.is_full else 1, in_room)
    found = []
    for history, poison in outcomes:
        found += checks.sound(history) + given_up_after_three(history, poison)
    finals = [entry.data["state"] for history, _ in outcomes for entry in history.of("final")]
    return [
        Report(
            "G9",
            "a poison job cannot take the fleet",
            "a job that kills its worker",
            sum(len(poison) for _, poison in outcomes),
            found,
            {
                "other jobs done": str(finals.count("done")),
                "workers killed": str(sum(len(history.of("run dies")) for history, _ in outcomes)),
            },
        )
    ]


async def _room(stage: Stage, index: int, trials: int) -> tuple[History, list[str]]:
    """What happened, and the poison jobs."""
    poison: list[str] = []
    async with stage.room(f"poison-{index}") as room:
        await room.add_workers(WORKERS)
        room.fleet.keep()
        while len(poison) < trials:
            jobs = []
            for _ in range(min(AT_ONCE, trials - len(poison))):
                script = Script(die_at=room.random.choice(STEPS), die_times=1000, seconds=0.02)
                poison.append(await room.submit(script, user="mallory"))
                jobs.append(poison[-1])
                for _ in range(OTHERS):
                    jobs.append(await room.submit(Script(seconds=0.05)))
            room.fleet.keeps_names = room.random.random() < 0.7
            await room.all_ended(jobs)
        await room.take_stock()
    return room.record.history, poison


def given_up_after_three(history: History, poison: list[str]) -> list[str]:
    """The poison jobs killed three workers each and no more; all others are done."""
    deaths = history.by_job("run dies")
    found = []
    for entry in history.of("final"):
        state, killed = entry.data["state"], len(deaths.get(entry.job, []))
        if entry.job in poison and (state, killed) != ("quarantined", checks.MOST_LOSSES):
            found.append(f"poison job {entry.job} is {state} after it killed {killed} workers")
        elif entry.job not in poison and state != "done":
            found.append(f"job {entry.job} beside a poison job is {state}")
    return found
