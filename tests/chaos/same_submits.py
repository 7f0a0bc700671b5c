"""G8: one submit many times at once is one job; another content under its id is refused."""

from __future__ import annotations

import asyncio
from collections import Counter

from comfyume.job_queue.connection import connect_async
from comfyume.job_queue.errors import JobConflict
from comfyume.job_queue.frontend_queue import FrontendQueue
from comfyume.job_queue.jobs import Submission
from comfyume.tests.harness.script_engine import Script

from . import checks
from .record import History
from .reports import Report
from .room import HISTORY, Room
from .stage import Stage

SAME = 50
OTHERS = 5
FRONTENDS = 3


async def run(stage: Stage, trials: int) -> list[Report]:
    """Submit ``trials`` jobs, each many times at once and through several frontends."""
    async with stage.room("same-submits") as room:
        await room.add_workers(1)
        clients = [connect_async(room.store.url) for _ in range(FRONTENDS)]
        frontends = [FrontendQueue(client, room.keys, history_size=HISTORY, history_days=1.0) for client in clients]
        for _ in range(trials):
            await _trial(room, frontends)
        await room.all_ended(checks.acknowledged(room.record.history))
        await room.take_stock()
        for client in clients:
            await client.aclose()
    history = room.record.history
    return [
        Report(
            "G8",
            "same submit twice is one job",
            f"{SAME} at once with one id; {OTHERS} with that id and another body",
            trials,
            checks.sound(history) + one_job_each(history),
            {"refused with a conflict": str(sum(entry.data["conflicts"] for entry in history.of("same")))},
        )
    ]


async def _trial(room: Room, frontends: list[FrontendQueue]) -> None:
    random = room.random
    one = room.submission(Script(steps=1, seconds=0.002, bytes=500))
    other = room.submission(Script(steps=2, seconds=0.002, bytes=500), job=one.job_id)
    asked = [one] * SAME + [other] * OTHERS
    random.shuffle(asked)
    room.record.note("submit", job=one.job_id, files=1)

    async def submit(submission: Submission) -> tuple[bool, float | None]:
        try:
            return submission is one, await random.choice(frontends).submit(submission)
        except JobConflict:
            return submission is one, None

    answers = await asyncio.gather(*(submit(submission) for submission in asked))
    bodies = {is_one for is_one, number in answers if number is not None}
    numbers = {number for _, number in answers if number is not None}
    conflicts = sum(number is None for _, number in answers)
    expected = OTHERS if bodies == {True} else SAME
    room.record.note(
        "same", job=one.job_id, bodies=len(bodies), numbers=len(numbers), conflicts=conflicts, expected=expected
    )


def one_job_each(history: History) -> list[str]:
    """One body won, all of its submits got one number, all others a conflict, and the job ran once."""
    runs = Counter(entry.job for entry in history.of("run begin"))
    found = []
    for entry in history.of("same"):
        if entry.data["bodies"] != 1:
            found.append(f"job {entry.job}: {entry.data['bodies']} bodies were accepted")
        elif entry.data["numbers"] != 1:
            found.append(f"job {entry.job} has {entry.data['numbers']} places in the queue")
        elif entry.data["conflicts"] != entry.data["expected"]:
            found.append(f"job {entry.job}: {entry.data['conflicts']} conflicts, not {entry.data['expected']}")
        if runs[entry.job] != 1:
            found.append(f"job {entry.job} ran {runs[entry.job]} times")
    return found
