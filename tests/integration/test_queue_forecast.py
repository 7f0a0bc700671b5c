"""Forecast: a queued job's place and expected start, from what jobs of its kind took."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import Any

import pytest

from comfyume.job_queue.forecast import MOST_PLAYED, Lane, Outlook, forecast
from comfyume.job_queue.jobs import MemoryNeed, Policy, QueueMode, lane_of
from comfyume.tests.harness.room import ADA, Room, Worker

pytestmark = pytest.mark.integration


async def expect(room: Room) -> dict[str, Any]:
    return forecast(await room.queue.outlook())


def set_duration(room: Room, seconds: float) -> None:
    """As if jobs of the usual kind had taken so long."""
    room.raw.hset(room.key("kind", lane_of(frozenset({"node:A"}))), "duration", int(seconds * 1000))


async def use(room: Room, worker: Worker, user: str, seconds: float) -> None:
    """Let a person use a GPU for so long, with a job of another kind."""
    await room.submit(user=user, memory=MemoryNeed(sizes="long"))
    job = await worker.take()
    room.take_time(job, seconds)
    await worker.finish(job)


async def test_each_job_begins_when_those_before_it_have_ended(room: Room) -> None:
    worker = await room.worker()
    set_duration(room, 30)
    jobs = [await room.submit() for _ in range(4)]
    await worker.take()
    expected = await expect(room)
    assert set(expected) == set(jobs[1:])
    assert [expected[job].position for job in jobs[1:]] == [1, 2, 3]
    assert [expected[job].starts_in for job in jobs[1:]] == pytest.approx([30, 60, 90], abs=2)


async def test_who_waits_for_an_overdue_job_is_told_no_start_at_once(room: Room) -> None:
    worker = await room.worker()
    set_duration(room, 30)
    await room.submit()
    waiting = await room.submit()
    room.take_time(await worker.take(), 200)
    assert (await expect(room))[waiting].starts_in == pytest.approx(100, abs=2)


async def test_two_workers_halve_the_wait(room: Room) -> None:
    for name in ("w1", "w2"):
        await (await room.worker(name)).register()
    for name in ("w1", "w2"):
        await room.queue.drain(name)
    jobs = [await room.submit() for _ in range(4)]
    for name in ("w1", "w2"):
        room.raw.hdel(room.keys.worker(name), "drained")
    expected = await expect(room)
    assert [expected[job].starts_in for job in jobs] == [0, 0, 10, 10]


async def test_it_is_corrected_as_jobs_end(room: Room) -> None:
    worker = await room.worker()
    jobs = [await room.submit() for _ in range(3)]
    assert [(await expect(room))[job].starts_in for job in jobs] == [0, 10, 20]
    job = await worker.take()
    await worker.finish(job)
    # It took no time, and so will the others.
    assert (await expect(room))[jobs[2]].starts_in < 1


async def test_a_light_user_goes_before_the_flood(room: Room) -> None:
    await use(room, await room.worker(), "flood", 60)
    flood = [await room.submit(user="flood") for _ in range(10)]
    light = await room.submit()
    expected = await expect(room)
    assert expected[light].position == 1
    assert expected[flood[0]].position == 2


@pytest.mark.parametrize("mode", ["fifo", "round_robin", "fair"])
async def test_the_order_is_that_in_which_the_jobs_are_then_claimed(room: Room, mode: QueueMode) -> None:
    await room.queue.configure(Policy(mode))
    worker = await room.worker()
    # So far apart that the few milliseconds which the jobs take in truth decide nothing.
    for user, seconds in (("a", 1e3), ("b", 1e4), ("c", 1e5)):
        await use(room, worker, user, seconds)
    for user, count in (("a", 4), ("b", 2), ("c", 3)):
        for _ in range(count):
            await room.submit(user=user)
    await room.queue.set_level([await room.submit(user="d")], "0")
    expected = await expect(room)
    claimed = []
    while (job := await worker.next()) is not None:
        claimed.append(job.job_id)
        await worker.finish(job)
    assert sorted(expected, key=lambda job_id: expected[job_id].position) == claimed


async def test_a_job_that_no_worker_can_run_has_no_time_and_no_workers(room: Room) -> None:
    worker = await room.worker()
    assert await asyncio.to_thread(worker.claims.next, worker.catalogue, 0.02, 24 * 2**30) is None
    stuck = await room.submit(memory=MemoryNeed(stated=46 * 2**30))
    foreign = await room.submit(needs=frozenset({"node:Foreign"}))
    expected = await expect(room)
    assert (expected[stuck].starts_in, expected[stuck].workers, expected[stuck].memory) == (None, (), 46 * 2**30)
    assert (expected[foreign].starts_in, expected[foreign].workers) == (None, ())


@pytest.mark.parametrize("has_worker", [True, False])
async def test_in_a_pause_jobs_have_no_times_but_the_order_in_which_they_begin_when_it_goes_on(
    room: Room, has_worker: bool
) -> None:
    await room.queue.configure(Policy("fifo", paused=True))
    worker = await room.worker() if has_worker else None
    ids = [await room.submit(user=user) for user in "aaabb"]
    await room.queue.set_level([ids[2]], "1")
    await room.queue.set_level([ids[4]], "front")
    expected = await expect(room)
    assert {told.starts_in for told in expected.values()} == {None}
    worker = worker or await room.worker()
    await room.queue.pause(is_paused=False)
    claimed = []
    for _ in ids:
        job = await worker.take()
        claimed.append(job.job_id)
        await worker.finish(job)
    assert sorted(ids, key=lambda job_id: expected[job_id].position) == claimed
    assert claimed[:2] == [ids[4], ids[2]]


async def test_what_no_worker_can_run_stands_behind_what_one_can_in_the_order_of_the_levels(room: Room) -> None:
    await room.worker()
    stuck = [await room.submit(needs=frozenset({"node:Foreign"})) for _ in range(2)]
    await room.queue.set_level([stuck[1]], "0")
    job = await room.submit()
    expected = await expect(room)
    assert sorted(expected, key=lambda job_id: expected[job_id].position) == [job, stuck[1], stuck[0]]


async def test_a_reserved_worker_is_expected_to_run_that_persons_jobs_alone(room: Room) -> None:
    await room.worker()
    await room.queue.reserve("w1", "guest")
    other, guest = await room.submit(), await room.submit(user="guest")
    expected = await expect(room)
    assert expected[guest].starts_in == 0
    assert expected[other].starts_in is None


async def test_an_empty_workshop_has_an_empty_forecast(room: Room) -> None:
    assert await expect(room) == {}


async def test_a_held_job_is_in_no_forecast(room: Room) -> None:
    await room.worker()
    job_id = await room.submit()
    await room.queue.hold([job_id])
    assert await expect(room) == {}


def test_jobs_too_far_back_are_told_no_time() -> None:
    jobs = deque((float(number), str(number)) for number in range(MOST_PLAYED + 5))
    lane = Lane("2", ADA, 1000, None, frozenset({"w"}), jobs)
    expected = forecast(Outlook("fair", False, {"w": (0, "")}, [lane]))
    assert expected[str(MOST_PLAYED - 1)].position == MOST_PLAYED
    assert expected[str(MOST_PLAYED)].position is None


def test_a_reply_without_anything_is_read() -> None:
    empty = {"now": 1, "mode": "fair", "paused": False, "workers": {}, "lanes": {}, "usage": {}, "turns": {}}
    assert forecast(Outlook.from_reply(json.dumps(empty).encode())) == {}
