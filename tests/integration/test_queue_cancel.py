"""Cancelling: final for what waits, a request to the worker for what runs, nothing for what is another's."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from comfyume.job_queue.errors import ClaimLost
from comfyume.tests.harness.room import ADA, Room

pytestmark = pytest.mark.integration


async def test_a_cancelled_queued_job_never_runs_and_is_in_no_history(room: Room) -> None:
    job_id = await room.submit()
    assert await room.queue.cancel(ADA, [job_id]) == [job_id]
    worker = await room.worker()
    assert await worker.next() is None
    assert room.state(job_id) == "cancelled"
    assert await room.queue.count_active(ADA) == 0
    assert await room.queue.history_ids(ADA) == []


async def test_of_a_cancelled_queued_job_little_is_kept_and_not_for_long(room: Room) -> None:
    job_id = await room.submit()
    await room.queue.cancel(ADA, [job_id])
    assert room.raw.hmget(room.keys.job(job_id), "payload", "secrets", "envelope") == [None, None, None]
    assert 0 < room.raw.ttl(room.keys.job(job_id)) <= 86_400


async def test_cancelling_a_running_job_tells_its_worker_both_ways(room: Room) -> None:
    worker = await room.worker()
    job_id = await room.submit()
    job = await worker.take()
    assert await worker.renew(job) == "ok"
    with room.raw.pubsub(ignore_subscribe_messages=True) as control:
        control.subscribe(room.keys.control_channel)
        control.get_message(timeout=2)
        assert await room.queue.cancel(ADA, [job_id]) == [job_id]
        message = control.get_message(timeout=2)
    assert message is not None
    assert json.loads(message["data"]) == {"kind": "cancel", "worker": worker.name, "job": job_id, "claim": job.claim}
    assert await worker.renew(job) == "cancel"
    assert room.state(job_id) == "claimed"
    await worker.finish(job, "cancelled")
    assert room.state(job_id) == "cancelled"
    assert await room.queue.history_ids(ADA) == [job_id]


async def test_the_wish_to_cancel_does_not_outlive_its_job(room: Room) -> None:
    worker = await room.worker()
    job_id = await room.submit()
    job = await worker.take()
    await room.queue.cancel(ADA, [job_id])
    await worker.finish(job)
    assert room.field(job_id, "cancel") is None
    assert room.state(job_id) == "done"


async def test_cancelling_a_finished_job_does_nothing(room: Room) -> None:
    worker = await room.worker()
    job_id = await room.one_job_done(worker)
    before = room.raw.hgetall(room.keys.job(job_id))
    assert await room.queue.cancel(ADA, [job_id]) == []
    assert room.raw.hgetall(room.keys.job(job_id)) == before


async def test_cancelling_what_another_person_queued_does_nothing(room: Room) -> None:
    worker = await room.worker()
    await room.submit("running")
    await room.submit("queued")
    job = await worker.take()
    assert await room.queue.cancel("eve", ["running", "queued", "no such job"]) == []
    assert await room.queue.cancel_all("eve", "any") == []
    assert await worker.renew(job) == "ok"
    assert room.state("queued") == "queued"


async def test_cancelling_no_jobs_cancels_none(room: Room) -> None:
    await room.submit("queued")
    assert await room.queue.cancel(ADA, []) == []
    assert room.state("queued") == "queued"


@pytest.mark.parametrize(
    ("which", "expected"), [("queued", ["q1", "q2"]), ("running", ["r1"]), ("any", ["q1", "q2", "r1"])]
)
async def test_all_jobs_of_a_state_can_be_cancelled(room: Room, which: Any, expected: list[str]) -> None:
    worker = await room.worker()
    await room.submit("r1")
    await worker.take()
    await room.submit("q1")
    await room.submit("q2")
    await room.submit("other", user="eve")
    assert sorted(await room.queue.cancel_all(ADA, which)) == expected
    assert room.state("other") == "queued"
    left = {"q1", "q2", "r1"} - set(expected)
    assert {name for name in ("q1", "q2") if room.state(name) == "queued"} == left - {"r1"}


async def test_jobs_of_one_state_among_named_ones_are_cancelled_alone(room: Room) -> None:
    worker = await room.worker()
    await room.submit("running")
    await worker.take()
    await room.submit("queued")
    assert await room.queue.cancel(ADA, ["running", "queued"], "queued") == ["queued"]
    assert await room.queue.cancel(ADA, ["running", "queued"], "running") == ["running"]


async def test_a_cancel_that_races_the_claim_has_one_outcome(room: Room) -> None:
    worker = await room.worker()
    chosen = random.Random(3)
    outcomes = set()
    for _ in range(200):
        job_id = await room.submit()

        async def cancel(job_id: str = job_id) -> list[str]:
            await asyncio.sleep(chosen.uniform(0, 0.003))
            return await room.queue.cancel(ADA, [job_id], "queued")

        async def claim() -> Any:
            await asyncio.sleep(chosen.uniform(0, 0.003))
            return await worker.next()

        cancelled, job = await asyncio.gather(cancel(), claim())
        assert (cancelled == [job_id]) != (job is not None)
        assert room.state(job_id) == ("cancelled" if cancelled else "claimed")
        outcomes.add(bool(cancelled))
        if job is not None:
            await worker.finish(job)
    assert outcomes == {True, False}, "one side won every race, so this tried nothing"
    assert room.raw.scard(room.key("running")) == 0
    assert room.raw.exists(room.key("lanes")) == 0


async def test_a_cancel_that_races_the_finish_leaves_one_final_state(room: Room) -> None:
    worker = await room.worker()
    chosen = random.Random(5)
    for _ in range(100):
        job_id = await room.submit()
        job = await worker.take()

        async def cancel(job_id: str = job_id) -> list[str]:
            await asyncio.sleep(chosen.uniform(0, 0.002))
            return await room.queue.cancel(ADA, [job_id])

        async def finish(job: Any = job) -> None:
            await asyncio.sleep(chosen.uniform(0, 0.002))
            await worker.finish(job)

        await asyncio.gather(cancel(), finish())
        assert room.state(job_id) == "done"
        assert room.field(job_id, "cancel") is None
        with pytest.raises(ClaimLost):
            await worker.reports.append(job.claim, worker.batch(job))
    assert len(await room.queue.history_ids(ADA)) == 100


async def test_a_cancelled_job_whose_worker_leaves_ends_with_that(room: Room) -> None:
    worker = await room.worker()
    job_id = await room.submit()
    await worker.take()
    assert await room.queue.cancel(ADA, [job_id]) == [job_id]
    async with room.listening() as receive:
        assert await worker.reports.leave() == ""
        notice = await receive()
        while notice.kind != "lost":
            notice = await receive()
    assert notice.data["lost"]["state"] == "cancelled"
    assert room.state(job_id) == "cancelled"
    assert await room.queue.count_active(ADA) == 0
    assert (await room.queue.finished(ADA, [job_id]))[job_id].result["lost"]["losses"][0]["worker"] == worker.name
