"""G9: a job that kills each worker is given up after three of them; the jobs beside it end as ever."""

from __future__ import annotations

from comfyume.tests.harness.script_engine import Script

from . import checks
from .record import History
from .reports import Report
from .stage import Stage

OTHERS = 4
STEPS = ("check", "start", "middle", "written", "end")
WORKERS = 3
#: Poison jobs at once.
AT_ONCE = 2


async def run(stage: Stage, trials: int) -> list[Report]:
    """Queue ``trials`` jobs that kill their worker, among others that do not."""
    poison: list[str] = []
    async with stage.room("poison") as room:
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
    history = room.record.history
    return [
        Report(
            "G9",
            "a poison job cannot take the fleet",
            "a job that kills its worker",
            trials,
            checks.sound(history) + given_up_after_three(history, poison),
            {
                "other jobs done": str(sum(entry.data["state"] == "done" for entry in history.of("final"))),
                "workers killed": str(len(history.of("run dies"))),
            },
        )
    ]


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
