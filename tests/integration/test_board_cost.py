"""How long a frontend needs to look at a whole workshop: 200 people, 1,000 queued jobs, 20 workers that run."""

from __future__ import annotations

import asyncio
import json
import statistics
import time

import pytest

from comfyume.job_queue.forecast import forecast
from comfyume.server_routes.board_rows import Rows, rows_of
from comfyume.tests.harness.room import Room

pytestmark = pytest.mark.alone

WORKERS, PEOPLE, JOBS = 20, 200, 1_000


async def test_a_look_at_a_full_workshop_holds_up_the_loop_for_a_few_milliseconds_at_a_time(room: Room) -> None:
    workers = [await room.worker(f"w{number}") for number in range(WORKERS)]
    for number in range(WORKERS):
        await room.submit(user=f"user{number}")
    for worker in workers:
        await worker.take()
    for number in range(JOBS):
        await room.submit(user=f"user{number % PEOPLE}")
    held, whole = [], []
    rows = Rows()
    for _ in range(5):
        begin = time.perf_counter()
        board, outlook = await asyncio.gather(room.queue.board(), room.queue.outlook())
        expected = await asyncio.to_thread(forecast, outlook)
        loop = time.perf_counter()
        new = rows_of(board, expected, {}, rows, has_store=True)
        json.dumps(new.change_since(rows, 1))
        for number in range(PEOPLE):
            new.for_person(f"user{number}")
        held.append(time.perf_counter() - loop)
        whole.append(time.perf_counter() - begin)
        rows = new
    assert (len(rows.jobs), len(rows.order)) == (WORKERS + JOBS, JOBS)
    assert sum(row["starts_at"] is not None for row in rows.jobs.values()) == JOBS
    print(f"seconds: {statistics.median(whole):.3f}, of which on the loop {statistics.median(held):.3f}")
    assert statistics.median(held) < 0.05
    assert statistics.median(whole) < 0.5
