"""What people may use: GPU time, credits and files, booked when a prompt is queued and settled when it ends."""

from __future__ import annotations

import random
from typing import Any

import pytest

from comfyume.job_queue.allowances import USUAL, Allowance, Allowances, Limits
from comfyume.job_queue.errors import LimitReached
from comfyume.job_queue.jobs import ClaimedJob
from comfyume.job_queue.keys import Keys
from comfyume.tests.harness.processes import RedisServer
from comfyume.tests.harness.room import ADA, Room, Worker, on_both_stores, program_of

#: What a job is taken to cost before one of its kind has ended: ten seconds.
UNKNOWN = 10 / 60


@pytest.fixture
def allowances(room: Room) -> Allowances:
    return Allowances(room.client, room.keys)


async def of_ada(allowances: Allowances) -> Allowance:
    return (await allowances.of([ADA]))[ADA]


async def run_for(room: Room, worker: Worker, seconds: float, **ending: Any) -> str:
    job = await worker.take()
    room.take_time(job, seconds)
    await worker.finish(job, **ending)
    return job.job_id


def let_hours_pass(room: Room, hours: float) -> None:
    """Let what Ada used, and the reckoning of her credits, lie so much further back."""
    key = room.key("allowance", ADA)
    for name, value in room.raw.hgetall(key).items():
        if name == b"reckoned":
            room.raw.hset(key, name, int(value) - int(hours * 3_600_000))
        elif name.startswith(b"hour:"):
            room.raw.hdel(key, name)
            room.raw.hset(key, f"hour:{int(name[5:]) - int(hours)}", value)


async def test_what_a_job_takes_is_booked_when_it_is_queued_and_settled_when_it_ends(
    room: Room, allowances: Allowances
) -> None:
    await allowances.set_limits({"gpu_day": 60})
    worker = await room.worker()
    await room.submit()
    queued = await of_ada(allowances)
    assert (queued.booked, queued.gpu_day, queued.queued) == (pytest.approx(UNKNOWN), 0, 1)
    await run_for(room, worker, 90)
    ended = await of_ada(allowances)
    assert (ended.booked, ended.queued) == (0, 0)
    assert ended.gpu_day == ended.gpu_workshop == pytest.approx(1.5, abs=0.02)
    # From now on it is known how long such a job takes.
    await room.submit()
    assert (await of_ada(allowances)).booked == pytest.approx(1.5, abs=0.02)


@pytest.mark.parametrize("limit", ["gpu_day", "gpu_workshop"])
async def test_a_prompt_that_would_be_over_the_gpu_minutes_is_refused_and_changes_nothing(
    room: Room, allowances: Allowances, limit: str
) -> None:
    await allowances.set_limits({limit: 2})
    worker = await room.worker()
    await room.submit()
    await run_for(room, worker, 70)
    before = sorted(room.raw.scan_iter(room.keys.prefix + "*"))
    with pytest.raises(LimitReached, match=r"take 1\.2 of the 2 GPU minutes.* expected to take 1\.2\.") as refused:
        await room.submit("over")
    assert refused.value.limit == limit
    assert sorted(room.raw.scan_iter(room.keys.prefix + "*")) == before
    await room.submit(user="bob")
    await allowances.set_own_limits(ADA, {limit: None})
    await room.submit("over")


async def test_what_is_queued_counts_so_nobody_queues_more_than_they_may_use(
    room: Room, allowances: Allowances
) -> None:
    await allowances.set_limits({"gpu_day": 1})
    for _ in range(6):
        await room.submit()
    with pytest.raises(LimitReached) as refused:
        await room.submit()
    assert refused.value.limit == "gpu_day"


async def test_gpu_minutes_of_a_day_are_free_again_after_it_and_the_refusal_tells_when(
    room: Room, allowances: Allowances
) -> None:
    await allowances.set_limits({"gpu_day": 1})
    worker = await room.worker()
    await room.submit()
    await run_for(room, worker, 55)
    let_hours_pass(room, 20)
    with pytest.raises(LimitReached, match=r"Try again in \d") as refused:
        await room.submit()
    wait = refused.value.retry_after
    assert wait is not None
    assert 3 * 3600 <= wait <= 4 * 3600
    let_hours_pass(room, 4)
    await room.submit()
    assert (await of_ada(allowances)).gpu_workshop == pytest.approx(55 / 60, abs=0.02)


async def test_a_prompt_that_takes_more_than_is_allowed_in_all_is_not_told_to_wait(
    room: Room, allowances: Allowances
) -> None:
    await allowances.set_limits({"gpu_day": 0.1})
    with pytest.raises(LimitReached, match="Ask the instructor for more") as refused:
        await room.submit()
    assert refused.value.retry_after is None


async def test_credits_come_by_the_hour_are_booked_by_the_estimate_and_settled_by_the_truth(
    room: Room, allowances: Allowances
) -> None:
    await allowances.set_limits({"credits_hour": 2})
    worker = await room.worker()
    assert (await of_ada(allowances)).credits == 2
    await room.submit()
    await run_for(room, worker, 90)
    assert (await of_ada(allowances)).credits == pytest.approx(0.5, abs=0.02)
    with pytest.raises(LimitReached, match=r"expected to take 1\.5 credits.*you have 0\.5 .*Try again in 3\d minutes"):
        await room.submit()
    let_hours_pass(room, 0.6)
    await room.submit()
    told = await of_ada(allowances)
    assert (told.credits, told.booked) == (pytest.approx(1.7, abs=0.02), pytest.approx(1.5, abs=0.02))


async def test_credits_gather_for_a_day_at_most_and_what_was_granted_stays_beyond_that(
    room: Room, allowances: Allowances
) -> None:
    await allowances.set_limits({"credits_hour": 2})
    await room.submit()
    let_hours_pass(room, 100)
    assert (await of_ada(allowances)).credits == 48
    await allowances.grant(ADA, 10)
    let_hours_pass(room, 100)
    assert (await of_ada(allowances)).credits == pytest.approx(58, abs=0.01)


async def test_what_was_used_while_credits_stood_at_their_most_is_taken_from_that(
    room: Room, allowances: Allowances
) -> None:
    await allowances.set_limits({"credits_hour": 2})
    worker = await room.worker()
    await room.submit()
    let_hours_pass(room, 100)
    await run_for(room, worker, 60)
    assert (await of_ada(allowances)).credits == pytest.approx(47, abs=0.02)


async def test_a_job_that_took_longer_than_expected_leaves_a_debt_that_later_hours_pay(
    room: Room, allowances: Allowances
) -> None:
    await allowances.set_limits({"credits_hour": 2})
    worker = await room.worker()
    await room.submit()
    await run_for(room, worker, 300)
    assert (await of_ada(allowances)).credits == pytest.approx(-3, abs=0.02)
    with pytest.raises(LimitReached, match="you have 0 that"):
        await room.submit()


async def test_who_waits_for_credits_gets_them_from_the_first_refusal_on(room: Room, allowances: Allowances) -> None:
    await allowances.set_limits({"credits_hour": 0.1})
    with pytest.raises(LimitReached):
        await room.submit()
    let_hours_pass(room, 1)
    await room.submit()


async def test_a_grant_counts_once_however_often_it_is_asked_for(room: Room, allowances: Allowances) -> None:
    await allowances.set_limits({"credits_hour": 0})
    for _ in range(3):
        await allowances.grant(ADA, 5, "the one")
    await allowances.grant(ADA, -2)
    assert (await of_ada(allowances)).credits == 3


async def test_a_cancelled_and_a_given_up_job_cost_nothing_and_a_stopped_one_what_it_took(
    room: Room, allowances: Allowances
) -> None:
    await allowances.set_limits({"credits_hour": 60})
    worker = await room.worker(lease=1)
    await room.submit("queued")
    await room.queue.cancel(ADA, ["queued"])
    await room.submit("lost")
    for _ in range(3):
        job = await worker.take()
        room.take_time(job, 60)
        await room.let_lease_run_out("lost")
        await room.queue.sweep()
    assert room.state("lost") == "quarantined"
    told = await of_ada(allowances)
    assert (told.booked, told.gpu_workshop, told.credits) == (0, 0, pytest.approx(60, abs=0.03))
    await room.submit("stopped")
    job = await worker.take()
    await room.queue.cancel(ADA, ["stopped"])
    room.take_time(job, 30)
    await worker.finish(job, "cancelled")
    told = await of_ada(allowances)
    assert (told.booked, told.gpu_workshop) == (0, pytest.approx(0.5, abs=0.02))
    assert told.credits == pytest.approx(59.5, abs=0.03)


async def test_a_job_that_returns_with_its_worker_keeps_its_booking(room: Room, allowances: Allowances) -> None:
    await allowances.set_limits({"gpu_day": 60})
    worker = await room.worker()
    await room.submit()
    await worker.take()
    await worker.reports.leave()
    assert (await of_ada(allowances)).booked == pytest.approx(UNKNOWN)


async def test_gpu_time_is_counted_before_anybody_sets_a_limit(room: Room, allowances: Allowances) -> None:
    worker = await room.worker()
    await room.submit()
    await run_for(room, worker, 60)
    assert (await of_ada(allowances)).gpu_day == pytest.approx(1, abs=0.02)
    assert (await of_ada(allowances)).credits is None


async def test_the_files_that_a_person_has_are_held_against_what_they_may_keep(
    room: Room, allowances: Allowances
) -> None:
    await allowances.set_limits({"disk": 2})
    gib = 1024**3
    await room.submit(disk=gib)
    await room.submit(disk=None)
    with pytest.raises(LimitReached, match=r"Your files take 2\.5 GiB, and one person may keep 2 GiB"):
        await room.submit(disk=int(2.5 * gib))
    await allowances.set_own_limits(ADA, {"disk": 3})
    assert await allowances.disk_limit(ADA) == 3 * gib
    assert await allowances.disk_limit("bob") == 2 * gib
    await room.submit(disk=int(2.5 * gib))


async def test_a_person_has_limits_of_their_own_until_they_are_given_back_those_of_all(
    room: Room, allowances: Allowances
) -> None:
    await allowances.set_limits({"per_person": 1, "gpu_day": 30})
    await allowances.set_own_limits(ADA, {"per_person": 2, "gpu_day": None})
    told = await of_ada(allowances)
    assert (told.limits, told.own) == (Limits(per_person=2), {"per_person", "gpu_day"})
    await room.submit()
    await room.submit()
    with pytest.raises(LimitReached, match="2 prompts"):
        await room.submit()
    await room.submit(user="bob")
    with pytest.raises(LimitReached, match="1 prompts"):
        await room.submit(user="bob")
    await allowances.set_own_limits(ADA, {"per_person": USUAL, "gpu_day": USUAL})
    told = await of_ada(allowances)
    assert (told.limits, told.own) == (Limits(per_person=1, gpu_day=30), frozenset())
    assert await allowances.limits() == Limits(per_person=1, gpu_day=30)


@on_both_stores
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_whatever_happens_to_jobs_what_is_booked_is_that_of_the_live_ones_and_what_ran_is_settled_once(
    short_folder: Any, kind: str, seed: int
) -> None:
    chance = random.Random(seed)
    with RedisServer(short_folder / f"a{kind}{seed}", port=None, program=program_of(kind)) as server:
        async with Room(server.url, "w") as room:
            allowances = Allowances(room.client, Keys("w"))
            await allowances.set_limits({"per_person": None, "gpu_day": 10_000, "credits_hour": 6_000})
            workers = [await room.worker(f"w{number}") for number in range(2)]
            has: dict[str, ClaimedJob] = {}
            ran = {ADA: 0.0, "bob": 0.0}
            for _ in range(150):
                step = chance.choice(["submit", "submit", "claim", "claim", "finish", "cancel", "lose", "leave"])
                worker = chance.choice(workers)
                job = has.get(worker.name)
                if step == "submit":
                    await room.submit(user=chance.choice([ADA, "bob"]))
                elif step == "claim" and job is None:
                    found = await worker.next()
                    if found is not None:
                        has[worker.name] = found
                elif step == "finish" and job is not None:
                    seconds = chance.uniform(1, 100)
                    room.take_time(job, seconds)
                    await worker.finish(has.pop(worker.name), chance.choice(["done", "error", "cancelled"]))
                    ran[job.user] += seconds / 60
                elif step == "cancel":
                    await room.queue.cancel_all(chance.choice([ADA, "bob"]), "any")
                elif step == "lose" and job is not None:
                    await room.let_lease_run_out(has.pop(worker.name).job_id)
                    await room.queue.sweep()
                elif step == "leave":
                    has.pop(worker.name, None)
                    await worker.reports.leave()
                    await worker.register()
                told = await allowances.of([ADA, "bob"])
                for user, allowance in told.items():
                    live = [job.job_id for job in await room.queue.active(user)]
                    booked = sum(int(room.field(job_id, "booked") or 0) for job_id in live)
                    assert allowance.booked * 60_000 == pytest.approx(booked), step
                    assert allowance.gpu_workshop == pytest.approx(ran[user], abs=0.05)
                    assert allowance.queued == len(live)
            assert min(ran.values()) > 0
