"""Who goes next: the three policies, the instructor's word over them, and the limits."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from comfyume.job_queue.errors import LimitReached
from comfyume.job_queue.jobs import Policy, QueueMode
from comfyume.tests.harness.room import ADA, Room, Worker

ALL_MODES: tuple[QueueMode, ...] = ("fifo", "round_robin", "fair")


async def submit_as(room: Room, users: Sequence[str]) -> list[str]:
    return [await room.submit(user=user) for user in users]


async def users_served(worker: Worker, count: int) -> str:
    """The people whose jobs a worker gets one after the other, as one word of their initials."""
    served = ""
    for _ in range(count):
        job = await worker.take()
        served += job.user
        await worker.finish(job)
    return served


async def test_fifo_takes_the_lowest_number_whoever_it_is(room: Room) -> None:
    await room.queue.set_mode("fifo")
    await submit_as(room, "aaabcab")
    assert await users_served(await room.worker(), 7) == "aaabcab"


async def test_fifo_takes_the_lowest_number_that_fits_the_worker(room: Room) -> None:
    await room.queue.set_mode("fifo")
    worker = await room.worker(can=["node:A"])
    first = await room.submit(user="a", needs=frozenset({"node:B"}))
    await submit_as(room, "b")
    await room.submit(user="a")
    assert await users_served(worker, 2) == "ba"
    assert await worker.next() is None
    assert room.state(first) == "queued"


async def test_round_robin_goes_round(room: Room) -> None:
    await room.queue.set_mode("round_robin")
    await submit_as(room, "aaaabbc")
    assert await users_served(await room.worker(), 7) == "abcabaa"


async def test_fair_counts_what_jobs_cost_and_not_how_many_they_are(room: Room) -> None:
    worker = await room.worker()
    await submit_as(room, "a" + "b" * 12)
    film = await worker.take()
    assert film.user == "a"
    room.take_time(film, 600)
    await worker.finish(film)
    await submit_as(room, "a")
    served = ""
    for _ in range(13):
        job = await worker.take()
        room.take_time(job, 30)
        await worker.finish(job)
        served += job.user
    # Twelve images of thirty seconds are less than one film of ten minutes.
    assert served == "b" * 12 + "a"


async def test_fair_does_not_give_one_person_all_workers_at_once(room: Room) -> None:
    workers = [await room.worker(f"w{number}") for number in range(4)]
    await submit_as(room, "aaaaaabbcc")
    claimed = [(await worker.take()).user for worker in workers]
    assert claimed == ["a", "b", "c", "a"]


async def test_fair_forgets_by_half_every_ten_minutes(room: Room) -> None:
    worker = await room.worker()
    for user, seconds in (("a", 100), ("b", 60)):
        await submit_as(room, user)
        job = await worker.take()
        room.take_time(job, seconds)
        await worker.finish(job)
    # a's hundred seconds were twenty minutes ago, so twenty-five of them are left.
    room.raw.zincrby(room.key("usage"), -2, "a")
    await submit_as(room, "ba")
    assert await users_served(worker, 2) == "ab"


async def test_a_job_that_did_not_run_to_its_end_costs_nothing(room: Room) -> None:
    worker = await room.worker()
    await submit_as(room, "a")
    job = await worker.take()
    charged = room.raw.zscore(room.key("usage"), "a")
    await room.let_lease_run_out(job.job_id)
    await room.queue.sweep()
    assert room.raw.zscore(room.key("usage"), "a") < charged - 10
    await worker.take()
    await worker.reports.leave()
    assert room.raw.zscore(room.key("usage"), "a") < charged - 10


async def test_what_a_kind_of_job_is_expected_to_cost_is_learned(room: Room) -> None:
    worker = await room.worker()
    for _ in range(12):
        await submit_as(room, "a")
        job = await worker.take()
        room.take_time(job, 90)
        await worker.finish(job)
    await submit_as(room, "a")
    job = await worker.take()
    assert 85_000 < float(room.field(job.job_id, "charged") or 0) < 95_000


@pytest.mark.parametrize("mode", ALL_MODES)
async def test_nobody_overtakes_themselves(room: Room, mode: QueueMode) -> None:
    chosen = random.Random(5)
    await room.queue.set_mode(mode)
    worker = await room.worker(can=["node:A", "node:B"])
    numbers: dict[str, list[float]] = {}
    for step in range(120):
        if step < 60 or chosen.random() < 0.4:
            needs = frozenset({chosen.choice(["node:A", "node:B"])})
            await room.submit(user=chosen.choice("abcde"), needs=needs)
        job = await worker.take()
        room.take_time(job, chosen.uniform(1, 600))
        await worker.finish(job)
        numbers.setdefault(job.user, []).append(job.number)
        await room.submit(user=chosen.choice("abcde"))
    for served in numbers.values():
        assert served == sorted(served)
    room.check_lanes()


async def test_a_light_user_waits_one_round_at_most_while_another_floods(room: Room) -> None:
    worker = await room.worker()
    await submit_as(room, "f" * 200)
    assert await users_served(worker, 20) == "f" * 20
    await submit_as(room, "abc")
    assert sorted(await users_served(worker, 3)) == ["a", "b", "c"]


@pytest.mark.parametrize("mode", ALL_MODES)
async def test_a_lower_level_goes_first_under_each_policy(room: Room, mode: QueueMode) -> None:
    await room.queue.set_mode(mode)
    ids = await submit_as(room, "abcd")
    assert await room.queue.set_level([ids[3]], "0") == [ids[3]]
    assert await room.queue.set_level([ids[2]], "1") == [ids[2]]
    assert await room.queue.set_level([ids[0]], "3") == [ids[0]]
    room.check_lanes()
    assert await users_served(await room.worker(), 4) == "dcba"


async def test_the_front_is_ahead_of_every_level_and_the_last_one_there_is_first(room: Room) -> None:
    ids = await submit_as(room, "abcd")
    await room.queue.set_level([ids[3]], "0")
    await room.queue.set_level([ids[1]], "front")
    await room.queue.set_level([ids[2]], "front")
    room.check_lanes()
    assert await users_served(await room.worker(), 4) == "cbda"


async def test_of_several_that_go_to_the_front_at_once_the_first_named_is_first(room: Room) -> None:
    ids = await submit_as(room, "abcd")
    await room.queue.set_level(ids[1:3], "front")
    assert await users_served(await room.worker(), 4) == "bcad"


async def test_a_job_keeps_its_number_at_the_front_and_stands_where_it_stood_when_it_leaves_it(room: Room) -> None:
    ids = [await room.submit() for _ in range(5)]
    before = await room.queue.active(ADA)
    await room.queue.set_level([ids[3], ids[1]], "front")
    moved = {job.job_id: job.number for job in await room.queue.active(ADA)}
    assert list(moved) == [ids[3], ids[1], ids[0], ids[2], ids[4]]
    assert moved == {job.job_id: job.number for job in before}
    assert await room.queue.set_level([ids[1], ids[3]], "2") == [ids[1], ids[3]]
    room.check_lanes()
    assert await room.queue.active(ADA) == before
    worker = await room.worker()
    for job_id in ids:
        job = await worker.take()
        assert job.job_id == job_id
        await worker.finish(job)


async def test_no_level_waits_for_ever(room: Room) -> None:
    worker = await room.worker()
    ids = await submit_as(room, "zaaaa")
    await room.queue.set_level(ids[:1], "3")
    assert await users_served(worker, 2) == "aa"
    waited_since = int(room.raw.hget(room.key("served"), "3"))
    room.raw.hset(room.key("served"), "3", waited_since - 11 * 60 * 1000)
    assert await users_served(worker, 3) == "zaa"


async def test_a_held_job_waits_until_it_is_released(room: Room) -> None:
    worker = await room.worker()
    ids = await submit_as(room, "aab")
    assert await room.queue.hold(ids[:2]) == ids[:2]
    assert await room.queue.hold(ids[:1]) == []
    room.check_lanes()
    assert await users_served(worker, 1) == "b"
    waiting = await worker.wait_for_work()
    assert await room.queue.release(ids[:1]) == ids[:1]
    job = await waiting
    assert job is not None
    assert job.job_id == ids[0]
    assert [job.job_id for job in await room.queue.active("a")] == ids[:2]
    assert await room.queue.cancel("a", [ids[1]]) == [ids[1]]
    room.check_lanes()


async def test_a_paused_queue_begins_nothing_until_it_goes_on(room: Room) -> None:
    worker = await room.worker()
    await room.queue.configure(Policy(paused=True))
    ids = await submit_as(room, "a")
    waiting = await worker.wait_for_work()
    ids += await submit_as(room, "b")
    assert room.state(ids[0]) == room.state(ids[1]) == "queued"
    await room.queue.configure(Policy(paused=False))
    job = await waiting
    assert job is not None
    assert job.job_id == ids[0]


async def test_a_reserved_worker_serves_one_person_alone(room: Room) -> None:
    worker, other = await room.worker("w1"), await room.worker("w2")
    await room.queue.reserve("w1", "teacher")
    await submit_as(room, "a")
    assert await worker.next() is None
    demonstration = await submit_as(room, ["teacher"])
    waiting = await worker.next()
    assert waiting is not None
    assert waiting.job_id == demonstration[0]
    await worker.finish(waiting)
    assert (await other.take()).user == "a"
    again = await worker.wait_for_work()
    await submit_as(room, "b")
    assert not again.done()
    await room.queue.reserve("w1", None)
    job = await again
    assert job is not None
    assert job.user == "b"


async def test_the_mode_can_be_changed_while_jobs_wait(room: Room) -> None:
    worker = await room.worker()
    await submit_as(room, "aaabbb")
    await room.queue.set_mode("fifo")
    assert await users_served(worker, 2) == "aa"
    await room.queue.set_mode("round_robin")
    assert await users_served(worker, 2) == "ba"


async def test_what_an_instructor_has_set_is_not_overwritten_by_a_frontend_that_starts(room: Room) -> None:
    chosen = Policy("fifo", per_person=3, in_all=None, per_minute=7)
    await room.queue.configure_if_new(Policy())
    assert await room.queue.policy() == Policy()
    await room.queue.configure(chosen)
    await room.queue.configure_if_new(Policy())
    assert await room.queue.policy() == chosen


@pytest.mark.parametrize("limit", ["per_person", "in_all", "per_minute"])
async def test_a_submit_over_a_limit_is_refused_with_the_number_and_changes_nothing(room: Room, limit: str) -> None:
    free = Policy(per_person=None, in_all=None)
    await room.queue.configure(replace(free, **{limit: 2}))
    await room.submit("one")
    await room.submit("two")
    before = sorted(room.raw.scan_iter(room.keys.prefix + "*"))
    with pytest.raises(LimitReached, match="2 prompts") as refused:
        await room.submit("three")
    assert (refused.value.limit, refused.value.most) == (limit, 2)
    assert sorted(room.raw.scan_iter(room.keys.prefix + "*")) == before
    await room.submit("two")  # what is known already is no further job
    await room.queue.configure(free)
    await room.submit("three")


async def test_a_limit_is_of_each_person_and_ends_with_their_jobs(room: Room) -> None:
    await room.queue.configure(Policy(per_person=1))
    worker = await room.worker()
    await submit_as(room, [ADA, "bob"])
    with pytest.raises(LimitReached):
        await room.submit(user=ADA)
    assert await users_served(worker, 2) == ADA + "bob"
    await submit_as(room, [ADA, "bob"])


async def test_a_worker_that_was_cut_off_keeps_its_job_if_nobody_took_it(room: Room) -> None:
    worker = await room.worker()
    await room.submit("cut-off")
    job = await worker.take()
    await room.let_lease_run_out("cut-off")
    assert await worker.renew(job) == "ok"
    assert await room.queue.sweep() == ([], [])
    await worker.finish(job)
    assert room.state("cut-off") == "done"


def let_nobody_sweep(room: Room, seconds: float) -> None:
    """Let the last sweep have been so much longer ago."""
    room.raw.set(room.key("swept"), int(room.raw.get(room.key("swept"))) - int(seconds * 1000))


@pytest.mark.parametrize(("lease", "away"), [(30.0, 5.0), (8.0, 4.0)])
async def test_five_seconds_without_a_sweep_or_half_a_lease_count_as_away(
    room: Room, lease: float, away: float
) -> None:
    frontend = room.frontend(lease)
    worker = await room.worker()
    await frontend.sweep()
    for job_id in ("in time", "late"):
        await room.submit(job_id)
    for gap, requeued in ((away - 1, ["in time"]), (away + 0.1, [])):
        job = await worker.take()
        await room.let_lease_run_out(job.job_id)
        let_nobody_sweep(room, gap)
        assert (await frontend.sweep())[0] == requeued


async def test_frontends_sweep_often_enough_not_to_be_taken_for_away(room: Room) -> None:
    assert room.frontend(30).sweep_pause == 1.0
    assert room.frontend(2).sweep_pause == 0.2


async def test_after_the_store_was_away_workers_get_the_time_to_come_back(room: Room) -> None:
    worker = await room.worker()
    await room.queue.sweep()
    await room.submit("patient")
    job = await worker.take()
    await room.let_lease_run_out("patient")
    let_nobody_sweep(room, 60)
    assert await room.queue.sweep() == ([], [])
    assert room.field("patient", "claim") == job.claim
    room.raw.delete(room.key("grace"))
    assert await room.queue.sweep() == (["patient"], [])


async def test_a_worker_that_was_started_anew_gives_back_its_job_even_then(room: Room) -> None:
    worker = await room.worker("w1")
    await room.queue.sweep()
    await room.submit("orphan")
    await worker.take()
    let_nobody_sweep(room, 60)
    again = await room.worker("w1", register=False)
    await again.register(former_is_dead=True)
    assert await room.queue.sweep() == (["orphan"], [])
    assert room.raw.exists(room.key("grace"))
    assert (await again.take()).job_id == "orphan"
