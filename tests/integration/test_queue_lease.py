"""Leases: a lost worker's job runs again, a late worker changes nothing, and a job ends once."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from comfyume.job_queue.errors import ClaimLost
from comfyume.job_queue.events import Event, Notice
from comfyume.job_queue.jobs import ClaimedJob
from comfyume.server_routes.native_shapes import lost_data
from comfyume.tests.harness.room import ADA, Room, Worker, event, until

pytestmark = pytest.mark.integration


async def lose(room: Room, worker: Worker) -> ClaimedJob:
    job = await worker.take()
    await room.let_lease_run_out(job.job_id)
    return job


async def test_a_renewed_lease_outlives_its_length(room: Room) -> None:
    worker = await room.worker(lease=0.3)
    await room.submit()
    job = await worker.take()
    for _ in range(10):
        await asyncio.sleep(0.1)
        assert await worker.renew(job) == "ok"
        assert await room.queue.sweep() == ([], [])


async def test_a_lease_that_nobody_renews_gives_its_job_back(room: Room) -> None:
    worker = await room.worker(lease=0.3)
    job_id = await room.submit()
    job = await worker.take()
    assert await room.queue.sweep() == ([], [])
    await until(lambda: not room.raw.exists(room.key("lease", job_id)))
    assert await room.queue.sweep() == ([job_id], [])
    assert [(found.job_id, found.state) for found in await room.queue.active(ADA)] == [(job_id, "queued")]
    await worker.register()
    assert await worker.renew(job) == "lost"
    again = await worker.take()
    assert (again.job_id, again.attempt) == (job_id, 2)


async def test_a_job_that_came_back_goes_to_a_waiting_worker_at_once(room: Room) -> None:
    first, second = await room.worker("first"), await room.worker("second")
    job_id = await room.submit()
    await first.take()
    waiting = await second.wait_for_work()
    await room.let_lease_run_out(job_id)
    await room.queue.sweep()
    job = await waiting
    assert job is not None
    assert job.job_id == job_id


async def test_the_third_loss_of_a_job_quarantines_it_with_its_story(room: Room) -> None:
    worker = await room.worker("unlucky")
    job_id = await room.submit()
    for _ in range(2):
        await lose(room, worker)
        assert await room.queue.sweep() == ([job_id], [])
    job = await worker.take()
    payload = b'{"type": "executing", "data": {"node": "7", "prompt_id": "x"}}'
    preview = Event(2, bytes(range(256)), False, True, "tab-1", "binary:9")
    await worker.append(job, Event(1, payload, True, True, "tab-1", "executing"), preview)
    await room.let_lease_run_out(job_id)
    async with room.listening() as receive:
        assert await room.queue.sweep() == ([], [job_id])
        notices = [await receive(), await receive()]
    assert notices[0] == Notice("changed", {"changed": ADA})
    assert (notices[1].kind, notices[1].data["user"], notices[1].data["client"]) == ("lost", ADA, "tab-1")
    assert room.state(job_id) == "quarantined"
    story = (await room.queue.finished(ADA, [job_id]))[job_id].result["lost"]  # type: ignore[index]
    assert story["state"] == "quarantined"
    assert [(loss["worker"], loss["node"]) for loss in story["losses"]] == [
        ("unlucky", ""),
        ("unlucky", ""),
        ("unlucky", "7"),
    ]
    assert all(abs(loss["at"] / 1000 - time.time()) < 60 for loss in story["losses"])
    name, data = lost_data(story)
    assert (name, data["node_id"]) == ("execution_error", "7")
    assert "3 workers" in data["exception_message"]
    assert "at node 7" in data["exception_message"]
    assert await room.queue.count_active(ADA) == 0
    assert await worker.next() is None
    assert await room.queue.sweep() == ([], [])


async def test_other_jobs_go_on_beside_one_that_kills_its_workers(room: Room) -> None:
    await room.submit("poison")
    others = [await room.submit() for _ in range(3)]
    worker = await room.worker()
    while (job := await worker.next()) is not None:
        if job.job_id == "poison":
            await room.let_lease_run_out("poison")
            await room.queue.sweep()
        else:
            await worker.finish(job)
    assert await room.queue.history_ids(ADA) == ["poison", *others]


async def test_a_late_worker_can_neither_append_nor_finish_after_its_job_went_to_another(room: Room) -> None:
    late, other = await room.worker("late"), await room.worker("other")
    job_id = await room.submit()
    stale = await lose(room, late)
    await room.queue.sweep()

    async def try_everything() -> None:
        assert await late.renew(stale) == "lost"
        with pytest.raises(ClaimLost):
            await late.append(stale, event(1, payload=b"stale"))
        with pytest.raises(ClaimLost):
            await late.finish(stale, text="stale")

    await try_everything()
    assert room.state(job_id) == "queued"
    job = await other.take()
    await try_everything()
    assert room.state(job_id) == "claimed"
    await other.append(job, event(1, payload=b"good"))
    await try_everything()
    await other.finish(job, text="good", number=2)
    before = room.raw.hgetall(room.keys.job(job_id))
    await try_everything()
    assert room.raw.hgetall(room.keys.job(job_id)) == before
    assert (await room.queue.finished(ADA, [job_id]))[job_id].result["outputs"]["1"] == {"text": ["good"]}  # type: ignore[index]
    kept = [event.payload for batch in await room.queue.kept_events(job_id) for event in batch.events]
    assert b"stale" not in kept


async def test_what_a_lost_attempt_said_is_not_replayed_to_the_next(room: Room) -> None:
    worker = await room.worker()
    job_id = await room.submit()
    job = await worker.take()
    await worker.append(job, event(1, payload=b"first attempt"))
    await room.let_lease_run_out(job_id)
    await room.queue.sweep()
    assert await room.queue.kept_events(job_id) == []
    again = await worker.take()
    await worker.append(again, event(1, payload=b"second attempt"))
    [batch] = await room.queue.kept_events(job_id)
    assert (batch.attempt, batch.events[0].payload) == (2, b"second attempt")


async def test_a_worker_may_finish_after_its_lease_as_long_as_nobody_took_the_job(room: Room) -> None:
    worker = await room.worker()
    job_id = await room.submit()
    job = await lose(room, worker)
    await worker.finish(job)
    assert room.state(job_id) == "done"
    assert await room.queue.sweep() == ([], [])


async def test_finishing_twice_changes_nothing_the_second_time(room: Room) -> None:
    worker = await room.worker()
    job_id = await room.submit()
    job = await worker.take()
    await worker.finish(job, "done", text="first")
    before = room.raw.hgetall(room.keys.job(job_id)), room.raw.llen(room.keys.events(job_id))
    await worker.finish(job, "error", text="second")
    assert (room.raw.hgetall(room.keys.job(job_id)), room.raw.llen(room.keys.events(job_id))) == before
    assert await room.queue.history_ids(ADA) == [job_id]
    reply = await worker.run_script("finish", job_id, job.claim, "done", "{}", b"{}\n", 10, 1000)
    assert reply == [b"known"]


async def test_an_ended_job_can_be_appended_to_no_more(room: Room) -> None:
    worker = await room.worker()
    await room.submit()
    job = await worker.take()
    await worker.finish(job)
    with pytest.raises(ClaimLost):
        await worker.append(job, event(2))


async def test_a_worker_that_must_register_again_keeps_the_job_it_has(room: Room) -> None:
    worker = await room.worker()
    job_id = await room.submit()
    job = await worker.take()
    await room.let_presence_run_out(worker)
    room.raw.pexpire(room.key("lease", job_id), 1_000)
    assert await worker.renew(job) == "unknown"
    assert room.raw.pttl(room.key("lease", job_id)) > 10_000
    await worker.register()
    assert await worker.renew(job) == "ok"
    await worker.finish(job)
    assert room.state(job_id) == "done"


async def test_many_sweeps_at_once_give_a_job_back_once(room: Room) -> None:
    worker = await room.worker()
    job_id = await room.submit()
    await lose(room, worker)
    answers = await asyncio.gather(*(room.frontend().sweep() for _ in range(20)))
    assert [answer for answer in answers if answer != ([], [])] == [([job_id], [])]
    assert room.field(job_id, "lost") == "1"


async def test_a_finish_that_races_the_sweep_ends_the_job_once(room: Room) -> None:
    worker = await room.worker()
    chosen = random.Random(11)
    outcomes = set()
    for _ in range(60):
        job_id = await room.submit()
        job = await lose(room, worker)

        async def finish(job: ClaimedJob = job) -> bool:
            await asyncio.sleep(chosen.uniform(0, 0.002))
            try:
                await worker.finish(job)
            except ClaimLost:
                return False
            return True

        async def sweep() -> bool:
            await asyncio.sleep(chosen.uniform(0, 0.002))
            return bool((await room.queue.sweep())[0])

        finished, requeued = await asyncio.gather(finish(), sweep())
        assert finished != requeued
        assert room.state(job_id) == ("done" if finished else "queued")
        outcomes.add(finished)
        if requeued:
            await worker.finish(await worker.take())
        assert await room.queue.count_active(ADA) == 0
    assert outcomes == {True, False}, "one side won every race, so this tried nothing"


async def test_a_worker_that_leaves_gives_its_job_back_and_that_is_no_loss(room: Room) -> None:
    leaving, waiting = await room.worker("leaving"), await room.worker("waiting")
    job_id = await room.submit()
    for _ in range(4):
        job = await leaving.take()
        await leaving.append(job, event(1))
        assert await leaving.reports.leave() == job_id
        assert await room.queue.kept_events(job_id) == []
        await leaving.register()
    assert room.field(job_id, "lost") is None
    job = await leaving.take()
    idle = await waiting.wait_for_work()
    await leaving.reports.leave()
    again = await idle
    assert again is not None
    assert again.job_id == job_id
    # A reader tells the runs of a job apart by this number.
    assert again.attempt == 6
    with pytest.raises(ClaimLost):
        await leaving.finish(job)
    await waiting.finish(again)


async def test_a_cancelled_job_whose_worker_is_lost_ends_as_cancelled(room: Room) -> None:
    worker = await room.worker()
    job_id = await room.submit()
    job = await worker.take()
    await room.queue.cancel(ADA, [job_id])
    await room.let_lease_run_out(job_id)
    assert await room.queue.sweep() == ([], [])
    assert room.state(job_id) == "cancelled"
    assert await room.queue.history_ids(ADA) == [job_id]
    with pytest.raises(ClaimLost):
        await worker.finish(job)
