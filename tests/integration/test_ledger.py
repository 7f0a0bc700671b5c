"""The ledger: what became of each job that ended, and what its worker was taken for."""

from __future__ import annotations

import pytest

from comfyume.job_queue.ledger import Ledger, LedgerEntry
from comfyume.tests.harness.room import ADA, Room

pytestmark = pytest.mark.integration


async def entries(room: Room) -> list[LedgerEntry]:
    return await Ledger(room.client, room.keys).after()


async def test_it_tells_of_every_end_in_order_and_can_be_read_on(room: Room) -> None:
    worker = await room.worker()
    done, failed, cancelled = [await room.submit() for _ in range(3)]
    await room.queue.cancel(ADA, [cancelled])
    await worker.finish(await worker.take())
    await worker.finish(await worker.take(), "error")
    told = await entries(room)
    assert [(each.job_id, each.state) for each in told] == [(cancelled, "cancelled"), (done, "done"), (failed, "error")]
    assert [each.worker for each in told] == [None, "w1", "w1"]
    rest = await Ledger(room.client, room.keys).after(told[0].entry, 1)
    assert [each.job_id for each in rest] == [done]


async def test_the_board_counts_every_end_once(room: Room) -> None:
    worker = await room.worker()
    assert (await room.queue.board()).ended == 0
    done, cancelled = await room.submit(), await room.submit()
    job = await worker.take()
    await room.queue.cancel(ADA, [cancelled])
    await worker.finish(job)
    await room.queue.forget(ADA, [done])
    assert (await room.queue.board()).ended == 2


async def test_it_says_for_which_jobs_models_were_loaded(room: Room) -> None:
    model = "model:checkpoints/a.safetensors"
    worker = await room.worker(can=["node:A", model])
    for _ in range(2):
        await room.one_job_done(worker, needs=frozenset({"node:A", model}))
    await room.one_job_done(worker)
    assert [each.loads for each in await entries(room)] == [True, False, False]


async def test_it_counts_the_attempts_whose_worker_was_lost(room: Room) -> None:
    worker = await room.worker()
    job_id = await room.submit()
    for _ in range(2):
        await worker.take()
        await room.let_lease_run_out(job_id)
        await room.queue.sweep()
    await worker.finish(await worker.take())
    await room.one_job_done(worker)
    assert [(each.state, each.attempt, each.lost) for each in await entries(room)] == [("done", 3, 2), ("done", 1, 0)]


async def test_a_job_that_is_cancelled_after_its_worker_was_lost_has_no_worker_and_costs_nothing(room: Room) -> None:
    worker = await room.worker()
    await worker.register(price=36.0)
    job_id = await room.submit()
    room.take_time(await worker.take(), 100)
    await room.let_lease_run_out(job_id)
    await room.queue.sweep()
    await room.queue.cancel(ADA, [job_id])
    [entry] = await entries(room)
    assert (entry.state, entry.lost) == ("cancelled", 1)
    assert (entry.worker, entry.claimed, entry.ran, entry.cost) == (None, None, 0.0, None)
