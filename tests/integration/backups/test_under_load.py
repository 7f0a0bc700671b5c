"""Copies taken while jobs are submitted, claimed, finished and cancelled by real workers: no job is lost or doubled."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from pathlib import Path
from random import Random

from comfyume.job_queue.connection import connect
from comfyume.job_queue.copying import Copying
from comfyume.job_queue.putting_back import PutBack, PuttingBack
from comfyume.store_copies import StoreCopy, StoreParts, unpacked
from comfyume.tests.chaos.record import Record
from comfyume.tests.chaos.room import Room
from comfyume.tests.harness.script_engine import Script

QUICK = Script(steps=1, seconds=0.005, bytes=500)
COPIES = 3


def copy_of(room: Room) -> dict[str, bytes]:
    client = connect(room.store.url, timeout=60)
    with contextlib.closing(client):
        return {part.name: part.make() for part in StoreParts(Copying(client, room.keys)).parts()}


def put_back(room: Room, copy: StoreCopy) -> PutBack:
    client = connect(room.store.url, timeout=60)
    with contextlib.closing(client):
        return PuttingBack(client, room.keys, 1_000_000, 86_400_000).put_back(copy.keys, copy.live, copy.taken)


def ended_in(copy: StoreCopy) -> list[str]:
    """The ended jobs of a copy, by the entries that tell of their ends."""
    return [
        fields[fields.index(b"job") + 1].decode()
        for key in copy.keys
        if key.kind == "ledger"
        for _, fields in key.value
    ]


async def test_each_job_is_in_a_copy_once_and_ends_once_after_it_was_put_back(short_folder: Path) -> None:
    record, random = Record(short_folder / "load.jsonl"), Random(5)
    async with Room(short_folder / "load", record, random, gate=asyncio.Semaphore(2)) as room:
        await room.add_workers(2)
        stop = asyncio.Event()

        async def submit_and_cancel(user: str) -> None:
            while not stop.is_set():
                job = await room.submit(QUICK, user=user)
                if random.random() < 0.1:
                    await room.cancel(job, user)
                await asyncio.sleep(0.03)

        people = [asyncio.create_task(submit_and_cancel(f"user{number:03}")) for number in range(4)]
        copies = []
        for _ in range(COPIES):
            await asyncio.sleep(random.uniform(0.1, 0.4))
            begin = time.monotonic()
            parts = await asyncio.to_thread(copy_of, room)
            copies.append((begin, time.monotonic(), parts))
        stop.set()
        await asyncio.gather(*people)
        submits = record.history.of("submit")
        assert await room.all_ended([entry.job for entry in submits])
        running = 0
        for begin, end, parts in copies:
            copy = unpacked(parts, parts.__getitem__)
            live, ended = list(copy.live), ended_in(copy)
            assert not [job for job, count in Counter(live + ended).items() if count > 1]
            held = set(live) | set(ended)
            assert held >= {entry.job for entry in submits if entry.end < begin}, (
                "what was acknowledged before is there"
            )
            assert held <= {entry.job for entry in submits if entry.start < end}
            # Back on the same store, whose workers go on.
            copy = unpacked(parts, parts.__getitem__)
            back = await asyncio.to_thread(put_back, room, copy)
            running += back.returned
            assert await room.all_ended(sorted(held))
            ledger = Counter(fields[b"job"].decode() for _, fields in await room.raw.xrange(room.keys.ledger))
            assert ledger == dict.fromkeys(held, 1), "each has ended once"
            assert set(await room.states(sorted(held))) <= {"done", "cancelled"}
            assert int(await room.raw.get(f"{room.keys.prefix}ended")) == len(held)
            assert not [job for job in held if await room.field(job, "losses")], "no attempt was lost"
        print(f"{COPIES} copies of {len(submits)} jobs under load; {running} jobs were running and were queued again")
        assert running > 0
    record.close()
