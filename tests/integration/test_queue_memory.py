"""Memory: a job that does not fit a worker waits for one that it fits, and what jobs need is learned."""

from __future__ import annotations

import asyncio

import pytest

from comfyume.job_queue.jobs import GIB, ClaimedJob, MemoryNeed
from comfyume.tests.harness.room import Room, Worker, until

pytestmark = pytest.mark.integration


async def ask(worker: Worker, gib: int | None, timeout: float = 0.02) -> ClaimedJob | None:
    return await asyncio.to_thread(worker.claims.next, worker.catalogue, timeout, None if gib is None else gib * GIB)


async def finish(worker: Worker, job: ClaimedJob, peak: int) -> None:
    result = {"outputs": {}, "meta": {}, "status": {}}
    await worker.reports.finish(job.claim, worker.batch(job, ends="done"), result, peak=peak * GIB)


def stating(gib: int) -> MemoryNeed:
    return MemoryNeed(stated=gib * GIB)


async def test_a_job_that_does_not_fit_stays_queued_and_the_worker_hears_what_it_lacks(room: Room) -> None:
    worker = await room.worker()
    job_id = await room.submit(memory=stating(46))
    await room.submit(memory=stating(60))
    assert await ask(worker, 24) is None
    assert worker.claims.short == 46 * GIB
    assert room.state(job_id) == "queued"
    job = await ask(worker, 46)
    assert job is not None
    assert (job.job_id, job.memory) == (job_id, 46 * GIB)


async def test_a_smaller_job_goes_ahead_and_another_worker_takes_the_large_one(room: Room) -> None:
    small_gpu, large_gpu = await room.worker("small"), await room.worker("large")
    large = await room.submit(memory=stating(46))
    small = await room.submit(memory=stating(8))
    taken = await ask(small_gpu, 24)
    assert taken is not None
    assert taken.job_id == small
    taken = await ask(large_gpu, 80)
    assert taken is not None
    assert taken.job_id == large


async def test_a_new_job_is_handed_only_to_a_waiting_worker_that_it_fits(room: Room) -> None:
    small_gpu, large_gpu = await room.worker("small"), await room.worker("large")
    small_waits = asyncio.create_task(ask(small_gpu, 24, 5.0))
    await until(lambda: room.raw.hexists(room.key("idle"), "small"))
    job_id = await room.submit(memory=stating(46))
    assert room.state(job_id) == "queued"
    assert (await ask(large_gpu, 80)) is not None
    light = await room.submit(memory=stating(8))
    taken = await small_waits
    assert taken is not None
    assert taken.job_id == light


async def test_a_worker_that_does_not_count_takes_anything(room: Room) -> None:
    worker = await room.worker()
    await room.submit(memory=stating(1000))
    assert await ask(worker, None) is not None


async def test_what_nothing_is_known_of_fits_anywhere(room: Room) -> None:
    worker = await room.worker()
    await room.submit()
    job = await ask(worker, 1)
    assert job is not None
    assert job.memory is None


async def test_the_estimate_counts_until_a_run_has_shown_the_peak(room: Room) -> None:
    worker = await room.worker()
    kind = MemoryNeed(estimate=20 * GIB, sizes="width=1024")
    for expected, peak in ((20, 30), (30, 40), (40, 30)):
        await room.submit(memory=kind)
        job = await ask(worker, 100)
        assert job is not None
        assert job.memory == expected * GIB
        await finish(worker, job, peak)
    await room.submit(memory=kind)
    job = await ask(worker, 100)
    assert job is not None
    # More counts at once, less bit by bit.
    assert job.memory == 39 * GIB


async def test_graphs_of_other_sizes_learn_for_themselves(room: Room) -> None:
    worker = await room.worker()
    await room.submit(memory=MemoryNeed(sizes="width=1024"))
    job = await ask(worker, 100)
    assert job is not None
    await finish(worker, job, 30)
    await room.submit(memory=MemoryNeed(sizes="width=512"))
    job = await ask(worker, 1)
    assert job is not None
    assert job.memory is None


async def test_what_is_stated_counts_more_than_what_was_learned(room: Room) -> None:
    worker = await room.worker()
    await room.submit(memory=stating(10))
    job = await ask(worker, 100)
    assert job is not None
    await finish(worker, job, 50)
    await room.submit(memory=stating(10))
    job = await ask(worker, 12)
    assert job is not None
    assert job.memory == 10 * GIB


async def test_a_worker_that_has_made_room_asks_again_under_the_same_claim(room: Room) -> None:
    worker = await room.worker()
    job_id = await room.submit(memory=stating(30))
    assert await ask(worker, 24) is None
    assert worker.claims.short == 30 * GIB
    job = await ask(worker, 31)
    assert job is not None
    assert job.job_id == job_id
    assert worker.claims.short is None


async def test_a_worker_that_stays_short_waits_for_work_that_fits(room: Room) -> None:
    worker = await room.worker()
    await room.submit(memory=stating(30))
    assert await ask(worker, 24) is None
    worker.claims.wait_though_short()
    waiting = asyncio.create_task(ask(worker, 24, 5.0))
    await until(worker.is_blocked)
    light = await room.submit(memory=stating(1))
    job = await waiting
    assert job is not None
    assert job.job_id == light


async def test_the_end_of_a_job_tells_that_the_next_one_needs_more(room: Room) -> None:
    worker = await room.worker()
    await room.submit()
    large = await room.submit(memory=stating(30))
    job = await ask(worker, 24)
    assert job is not None
    assert await worker.finish_and_go_on(job, 24 * GIB) is None
    assert worker.claims.short == 30 * GIB
    again = await ask(worker, 32)
    assert again is not None
    assert again.job_id == large
