"""A node that holds the interpreter cannot keep its job beyond the time limit, nor its worker."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest

from comfyume.job_queue.events import Batch, decode
from comfyume.tests.chaos.record import Record
from comfyume.tests.chaos.room import Room
from comfyume.tests.harness.room import until
from comfyume.tests.harness.script_engine import Script
from comfyume.worker_mode.overdue import PATIENCE

pytestmark = pytest.mark.integration

LIMIT = 1.0


async def test_its_heartbeat_ends_the_job_and_takes_the_workers_place(short_folder: Path, tmp_path: Path) -> None:
    with contextlib.closing(Record(tmp_path / "record.jsonl")) as record:
        await _hold_the_interpreter(Room(short_folder / "room", record, Random(1), gate=asyncio.Semaphore(1)))


async def _hold_the_interpreter(made: Room) -> None:
    async with made as room:
        room.fleet.environment["COMFYUME_JOB_TIMEOUT"] = f"{LIMIT:g}"
        await room.add_workers(1)
        (worker,) = room.fleet.workers.values()
        job = await room.submit(Script(steps=1, gil=600))
        after = await room.submit(Script(steps=1, seconds=0.01))
        assert await room.in_state(job, "claimed", "running")
        began = time.monotonic()
        assert await room.in_state(job, "error", timeout=LIMIT + PATIENCE + 5)
        assert time.monotonic() - began > LIMIT
        assert "timed out" in await room.field(job, "result")
        assert await room.field(job, "lost") == ""
        await until(lambda: not worker.lives)
        assert await room.in_state(after, "done", timeout=20)
        kept = [decode(entry) for entry in await room.raw.lrange(room.keys.events(job), 0, -1)]
        assert names_of(kept)[-2:] == ["execution_error", "executing"]
        assert "starting anew" in worker.log.read_text()


def names_of(batches: list[Any]) -> list[str]:
    return [event.name for batch in batches if isinstance(batch, Batch) for event in batch.events]
