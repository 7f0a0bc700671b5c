"""G10: many jobs of many people, one of whom floods the queue; each person's order is kept, and a light user is next.

No worker process: claims and ends are made by hand, as fast as they go, so that thousands of jobs pass.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from itertools import pairwise

from comfyume.job_queue.events import Batch
from comfyume.job_queue.jobs import Policy, QueueMode
from comfyume.job_queue.worker_queue import Claims, Reports, WorkerIdentity
from comfyume.tests.harness.script_engine import NODE, Script

from .insisting import insist
from .record import History
from .reports import Report
from .room import HISTORY, Room
from .stage import Stage

MODES: tuple[QueueMode, ...] = ("fair", "round_robin")
#: Of a full run; a short one has a twentieth.
JOBS = 10_000
PEOPLE = 50
#: The flooding person's part of the jobs.
FLOOD = 0.6
#: Above this come people who queue one job and are never seen again.
VISITS = 0.95
CATALOGUE = "by-hand"


async def run(stage: Stage, trials: int) -> list[Report]:
    """Let ``trials`` queues pass under each policy."""
    jobs = JOBS if stage.is_full else JOBS // 20
    people = PEOPLE if stage.is_full else PEOPLE // 5
    found: list[str] = []
    most: dict[str, int] = {}
    passed = 0

    async def in_room(mode: QueueMode, trial: int) -> History:
        async with stage.room(f"order-{mode}-{trial}") as room:
            await _pass(room, mode, jobs, people)
            return room.record.history

    for trial in range(trials):
        for mode, history in zip(MODES, await asyncio.gather(*(in_room(mode, trial) for mode in MODES)), strict=True):
            passed += len(history.of("claimed"))
            found += in_order(history) + rounds_kept(history, mode)
            most[mode] = max(most.get(mode, 0), *served_meanwhile(history, visitors_only=mode == "fair").values())
    return [
        Report(
            "G10",
            "order and fair share",
            f"{jobs} jobs, {people} people, one of whom has {FLOOD:.0%} of them; fair and round robin",
            trials * len(MODES),
            found,
            {
                "jobs": str(passed),
                "others served before a light user, each at most": ", ".join(f"{m} {n}" for m, n in most.items()),
            },
        )
    ]


async def _pass(room: Room, mode: QueueMode, jobs: int, people: int) -> None:
    await room.queue.configure(Policy(mode=mode, per_person=None, in_all=None))
    names = [f"person-{index:02}" for index in range(people)]
    light = names[1:]
    flood = int(jobs * FLOOD)
    for _ in range(flood // 2):
        await _submit(room, names[0])
    left = jobs - flood // 2
    identity = WorkerIdentity("by-hand", "instance", 600.0)
    claims = Claims(room.store.url, room.keys, identity)
    reports = Reports(room.client, room.keys, identity, history_size=HISTORY, history_days=1.0)
    await reports.register({"host": "h", "pid": 1}, CATALOGUE, frozenset({f"node:{NODE}"}))
    while left or await room.raw.zcard(f"{room.keys.prefix}queued"):
        # A few come, then one goes, until all have come.
        for _ in range(min(left, room.random.randint(0, 3))):
            left -= 1
            chance = room.random.random()
            visitor = f"visitor-{left}"
            await _submit(
                room, names[0] if chance < FLOOD else visitor if chance > VISITS else room.random.choice(light)
            )
        job = await insist(partial(asyncio.to_thread, claims.next, CATALOGUE, 0.01))
        if job is not None:
            room.record.note("claimed", job=job.job_id, user=job.user)
            result = {"outputs": {}, "meta": {}, "status": {"completed": True}}
            batch = Batch(job.job_id, job.user, job.attempt, [], 0, "done")
            await insist(partial(reports.finish, job.claim, batch, result))
    claims._client.close()


async def _submit(room: Room, user: str) -> None:
    asked = room.submission(Script(files=0), user=user)
    with room.record.operation("submit", job=asked.job_id, user=user, files=0):
        await insist(partial(room.queue.submit, asked))


def in_order(history: History) -> list[str]:
    """The jobs of one person begin in the order in which they were queued."""
    place = {entry.job: index for index, entry in enumerate(history.of("submit"))}
    claimed: dict[str, list[str]] = {}
    for entry in history.of("claimed"):
        claimed.setdefault(entry.data["user"], []).append(entry.job)
    found = []
    for user, jobs in claimed.items():
        for earlier, later in pairwise(jobs):
            if place[later] < place[earlier]:
                found.append(f"job {later} of {user} was queued first and began behind {earlier}")
    missing = set(place) - {entry.job for entry in history.of("claimed")}
    return [*found, *(f"job {job} never began" for job in missing)]


def served_meanwhile(history: History, *, visitors_only: bool) -> dict[str, int]:
    """For each job that was its person's only one: how often one other person was served while it waited.

    Args:
        visitors_only: look at people alone who have never had a job before. Under ``fair`` whoever has used less goes
            first, and may go twice.
    """
    waiting: Counter[str] = Counter()
    seen: set[str] = set()
    served: dict[str, Counter[str]] = {}
    alone: dict[str, str] = {}
    for entry in history.of("submit", "claimed"):
        user = entry.data["user"]
        if entry.what == "submit":
            if not waiting[user] and not (visitors_only and user in seen):
                alone[user] = entry.job
                served[entry.job] = Counter()
            waiting[user] += 1
            seen.add(user)
            continue
        waiting[user] -= 1
        if alone.get(user) == entry.job:
            del alone[user]
        for job in alone.values():
            served[job][user] += 1
    return {job: max(others.values(), default=0) for job, others in served.items()}


def rounds_kept(history: History, mode: QueueMode) -> list[str]:
    """While a person waits who has one job, nobody else has two turns."""
    return [
        f"{mode}: somebody was served {count} times while the only job {job} of a person waited"
        for job, count in served_meanwhile(history, visitors_only=mode == "fair").items()
        if count > 1
    ]
