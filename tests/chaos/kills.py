"""G2 and G4: workers are killed at random moments and at each step of a job; every job ends once, and soon.

Each kill has one of two sequels: a new process with the same name, whose coming tells that the old one is dead, or one
with another name, so that only the lease tells it.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from comfyume.tests.harness.script_engine import STEPS, Script

from . import checks
from .record import History
from .reports import Report, quantile, times
from .room import LEASE, Room
from .stage import Stage, spread

WORKERS = 4
#: Workers that are left when one is killed.
FEWEST = 2
BUSY = 3
#: Rooms at once. Starting workers anew takes all cores with so few already.
ROOMS = 2
#: Seconds behind the lease within which a lost job runs again, 99 times in 100.
REQUEUE_SLACK = 6.0


async def run(stage: Stage, trials: int) -> list[Report]:
    """Kill workers ``trials`` times at random, and a fiftieth as often, but at least once, at each step."""

    async def in_room(index: int, share: int) -> History:
        return await _room(stage, index, share)

    return judge(await spread(trials, ROOMS if stage.is_full else 1, in_room))


async def _room(stage: Stage, index: int, trials: int) -> History:
    async with stage.room(f"kills-{index}") as room:
        await room.add_workers(WORKERS)
        room.fleet.keep()
        jobs: list[str] = []
        for _ in range(trials):
            room.fleet.keeps_names = room.random.random() < 0.5
            await _keep_busy(room, jobs)
            await asyncio.sleep(room.random.uniform(0.05, 0.5))
            await _kill_one(room)
        await room.all_ended(jobs)
        # From here on only the lease tells that workers are lost.
        room.fleet.keeps_names = False
        await _die_at_each_step(room, max(1, trials // 50))
        await room.take_stock()
    return room.record.history


async def _die_at_each_step(room: Room, times_each: int) -> None:
    """Have workers kill themselves so often at each step; again where a job came to another worker's death first."""
    for _ in range(2 * times_each + 1):
        room.read_runs()
        died = Counter(entry.data["step"] for entry in room.record.history.of("run dies"))
        steps = [step for step in STEPS if died[step] < times_each]
        jobs = [await room.submit(Script(die_at=step, seconds=0.02)) for step in steps]
        await room.all_ended(jobs)


async def _keep_busy(room: Room, jobs: list[str]) -> None:
    states = await room.states(jobs[-50:])
    unfinished = sum(state in ("queued", "claimed", "running") for state in states)
    for _ in range(BUSY - unfinished):
        script = Script(steps=room.random.randint(1, 6), seconds=room.random.uniform(0.01, 0.15))
        jobs.append(await room.submit(script))


async def _kill_one(room: Room) -> None:
    """Kill a worker, mostly one with a job, while enough others are left."""
    await room.comes(lambda: _enough_live(room), 20)
    busy = [await room.field(job, "worker") for job in await room.running()]
    alive = [worker for worker in room.fleet.workers.values() if worker.lives]
    chosen = [worker for worker in alive if worker.name in busy]
    room.random.choice(chosen if chosen and room.random.random() < 0.9 else alive).kill()


async def _enough_live(room: Room) -> bool:
    names = await room.live_names()
    return sum(worker.lives and worker.name in names for worker in room.fleet.workers.values()) >= FEWEST


def deaths(history: History) -> dict[int, float]:
    """When each process was killed, or killed itself."""
    return {entry.data["pid"]: entry.start for entry in history.of("kill", "run dies")}


def harmed(history: History) -> dict[str, list[float]]:
    """When workers were killed that had begun each job and not ended it."""
    died = deaths(history)
    found: dict[str, list[float]] = {}
    for job, entries in history.by_job("run begin", "run end", "run dies").items():
        open_runs: dict[int, float] = {}
        for entry in entries:
            pid = entry.data["pid"]
            if entry.what == "run end":
                open_runs.pop(pid, None)
            elif pid in died:
                open_runs[pid] = died[pid]
        found[job] = sorted(open_runs.values())
    return found


def waits(history: History) -> list[float]:
    """Seconds from each death of a job's worker to the job's next begin, or to the end if it still waits then."""
    begins = history.by_job("run begin", "run dies")
    final = {entry.job: entry for entry in history.of("final")}
    found = []
    for job, moments in harmed(history).items():
        for moment in moments:
            later = [entry.start for entry in begins.get(job, []) if entry.start > moment]
            if not later and job in final and final[job].data["state"] not in checks.FINAL:
                later = [final[job].start]
            if later:
                found.append(min(later) - moment)
    return found


def judge(histories: list[History]) -> list[Report]:
    """What became of it all, room by room."""
    found: list[str] = []
    left: list[str] = []
    waited: list[float] = []
    for history in histories:
        found += checks.sound(history) + checks.losses_have_a_cause(history, len(deaths(history)))
        tried = {entry.data["step"] for entry in history.of("run dies")}
        found += [f"no worker died at the step {step}" for step in STEPS if step not in tried]
        left += checks.left_behind(history)
        waited += waits(history)
    found += left
    kills = sum(len(history.of("kill")) for history in histories)
    at_steps = sum(len(history.of("run dies")) for history in histories)
    slow = quantile(waited, 0.99) > LEASE + REQUEUE_SLACK
    return [
        Report(
            "G2",
            "every job ends in exactly one final state",
            "kill -9 of a worker at a random moment, and at each step between claim and finish",
            kills + at_steps,
            found,
            {
                "kills at random": str(kills),
                "at a step": str(at_steps),
                "jobs": str(sum(len(checks.acknowledged(history)) for history in histories)),
                "files that a lost attempt left": str(len(left)),
            },
        ),
        Report(
            "G4",
            "a lost worker's job runs again soon",
            "as G2",
            len(waited),
            [f"p99 is {quantile(waited, 0.99):.1f} s, over {LEASE + REQUEUE_SLACK:g} s"] if slow else [],
            {"from kill to running again": times(waited)},
        ),
    ]
