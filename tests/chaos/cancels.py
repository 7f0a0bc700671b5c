"""G11: jobs are cancelled at every state, and while they end; each ends once, and a running one stops soon."""

from __future__ import annotations

import asyncio

from comfyume.tests.harness.script_engine import Script

from . import checks
from .record import History
from .reports import Report, quantile, times
from .room import Room
from .stage import Stage, spread

WORKERS = 2
AT_ONCE = 4
#: Rooms at once.
ROOMS = 4
#: Seconds within which a running job stops, 99 times in 100.
STOPS_WITHIN = 5.0
#: One step is 50 ms; a job of so many runs for longer than anybody waits here.
ENDLESS = 2_000


async def run(stage: Stage, trials: int) -> list[Report]:
    """Cancel ``trials`` jobs."""

    async def in_room(index: int, share: int) -> tuple[History, set[str]]:
        return await _room(stage, index, share)

    outcomes = await spread(trials, ROOMS if stage.is_full else 1, in_room)
    found = []
    for part, endless in outcomes:
        found += checks.sound(part) + one_winner(part, endless)
    history = History(entry for part, _ in outcomes for entry in part)
    stopped = [entry.end - entry.start for entry in history.of("stopped") if entry.data["was"] != "queued"]
    slow = quantile(stopped, 0.99) > STOPS_WITHIN
    states = [entry.data["was"] for entry in history.of("stopped")]
    finals = [entry.data["state"] for entry in history.of("final")]
    return [
        Report(
            "G11",
            "cancel is final",
            "cancel at every state, racing the finish",
            len(states),
            [*found, f"p99 is over {STOPS_WITHIN:g} s"] if slow else found,
            {
                "cancelled when": ", ".join(
                    f"{state or 'gone'} {states.count(state)}" for state in sorted(set(states))
                ),
                "the cancel won": str(finals.count("cancelled")),
                "the finish won": str(finals.count("done")),
                "a running job stops after": times(stopped),
            },
        )
    ]


async def _room(stage: Stage, index: int, trials: int) -> tuple[History, set[str]]:
    """What happened, and the jobs that do not end by themselves."""
    endless: set[str] = set()
    async with stage.room(f"cancels-{index}") as room:
        await room.add_workers(WORKERS)
        for _ in range(0, trials, AT_ONCE):
            await asyncio.gather(*(_trial(room, endless) for _ in range(AT_ONCE)))
        await room.take_stock()
    return room.record.history, endless


async def _trial(room: Room, endless: set[str]) -> None:
    random = room.random
    is_endless = random.random() < 0.4
    script = Script(steps=ENDLESS if is_endless else random.randint(1, 4), seconds=0.05)
    job = await room.submit(script)
    if is_endless:
        endless.add(job)
    # Half of the short jobs are cancelled close to their end.
    near_end = script.steps * script.seconds + random.uniform(-0.02, 0.03)
    if is_endless or random.random() < 0.5:
        await asyncio.sleep(random.choice([0.0, random.uniform(0, 0.02), random.uniform(0, 0.5)]))
    else:
        await room.in_state(job, "running", "done")
        await asyncio.sleep(max(0.0, near_end))
    was = await room.state(job)
    with room.record.operation("stopped", job=job, was=was):
        await room.cancel(job)
        await room.in_state(job, *checks.FINAL)


def one_winner(history: History, endless: set[str]) -> list[str]:
    """What was cancelled while it waited never ran, what cannot end by itself was cancelled, and nothing else was."""
    begins = history.by_job("run begin")
    taken = {entry.job: entry for entry in history.of("cancel") if entry.data.get("taken")}
    found = []
    for entry in history.of("final"):
        state, job = entry.data["state"], entry.job
        if job in endless and state != "cancelled":
            found.append(f"job {job} was cancelled while it ran and is {state}")
        elif state not in ("cancelled", "done"):
            found.append(f"job {job} is {state}")
        elif state == "cancelled" and job not in taken:
            found.append(f"job {job} is cancelled, but no cancel was accepted")
        elif state == "cancelled" and not entry.data["listed"] and begins.get(job):
            # Only a job that never ran is in no history.
            found.append(f"job {job} was cancelled while it waited, and ran")
    return found
