"""Claiming: one job for one claim, in order, to a worker that can run it, and at once to one that waits."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from comfyume.job_queue.jobs import ClaimedJob
from comfyume.job_queue.worker_queue import NotRegistered
from comfyume.tests.harness.processes import RedisServer
from comfyume.tests.harness.room import ADA, Room, Worker, on_both_stores, program_of, until

pytestmark = pytest.mark.integration


@pytest.fixture
def chosen_store(short_folder: Path, kind: str) -> Iterator[RedisServer]:
    with RedisServer(short_folder / uuid.uuid4().hex[:8], port=None, program=program_of(kind)) as server:
        yield server


def id_in(reply: list[bytes]) -> str:
    return reply[0].decode()


@on_both_stores
async def test_a_job_goes_from_submit_over_a_waiting_worker_to_history(chosen_store: RedisServer) -> None:
    async with Room(chosen_store.url, "w") as room:
        worker = await room.worker()
        waiting = await worker.wait_for_work()
        job_id = await room.submit()
        job = await waiting
        assert job is not None
        assert (job.job_id, job.user, job.attempt) == (job_id, ADA, 1)
        await worker.finish(job, text="ready")
        assert await room.queue.history_ids(ADA) == [job_id]
        assert (await room.queue.finished(ADA, [job_id]))[job_id].result["outputs"] == {"1": {"text": ["ready"]}}  # type: ignore[index]


@on_both_stores
async def test_the_scripts_run_on_both_stores(chosen_store: RedisServer) -> None:
    async with Room(chosen_store.url, "w") as room:
        worker = await room.worker()
        await room.submit("cancelled")
        assert await room.queue.cancel_all(ADA, "any") == ["cancelled"]
        await room.submit("lost")
        job = await worker.take()
        await room.let_lease_run_out("lost")
        assert await room.queue.sweep() == (["lost"], [])
        job = await worker.take()
        assert await worker.renew(job) == "ok"
        assert await worker.reports.leave() == "lost"
        await room.queue.forget_all(ADA)


async def test_one_claim_id_brings_one_job_however_often_it_is_asked(room: Room) -> None:
    await room.submit("first")
    await room.submit("second")
    worker = await room.worker()
    replies = [await worker.ask("c" * 32) for _ in range(5)]
    assert {id_in(reply) for reply in replies} == {"first"}
    assert all(reply == replies[0] for reply in replies)
    assert room.state("second") == "queued"
    assert room.field("first", "attempt") == "1"


async def test_one_claim_id_asked_many_times_at_once_brings_one_job(room: Room) -> None:
    for number in range(10):
        await room.submit(f"job-{number}")
    worker = await room.worker()
    replies = await asyncio.gather(*(worker.ask("c" * 32) for _ in range(20)))
    assert {id_in(reply) for reply in replies} == {"job-0"}
    assert await room.queue.count_active(ADA) == 10
    assert room.raw.scard(room.key("running")) == 1


async def test_a_socket_closed_between_hand_over_and_reading_loses_no_job(room: Room) -> None:
    worker = await room.worker()
    assert await worker.ask(worker.claims.upcoming.claim, worker.claims.upcoming.turn) == []
    pool = worker.claims._client.connection_pool
    connection = pool.get_connection()
    connection.send_command("BLPOP", room.keys.inbox(worker.name), 5)
    await until(worker.is_blocked)
    job_id = await room.submit()
    await until(lambda: not room.raw.exists(room.keys.inbox(worker.name)))
    connection.disconnect()
    pool.release(connection)
    assert (await worker.take()).job_id == job_id


async def test_a_claim_whose_job_was_taken_away_does_not_starve_its_worker(room: Room) -> None:
    worker = await room.worker()
    assert await worker.ask(worker.claims.upcoming.claim, worker.claims.upcoming.turn) == []
    first = await room.submit()
    room.raw.delete(room.keys.inbox(worker.name))
    await room.let_lease_run_out(first)
    # It is not the worker's any more, and not yet anyone else's.
    assert await worker.next() is None
    await room.queue.sweep()
    assert (await worker.take()).job_id == first
    second = await room.submit()
    assert (await worker.take()).job_id == second


async def test_a_claim_that_arrives_late_takes_no_job(room: Room) -> None:
    worker = await room.worker()
    await room.submit("first")
    await room.submit("second")
    await room.submit("third")
    await worker.ask("a" * 32, 1)
    await worker.ask("b" * 32, 2)
    assert await worker.ask("a" * 32, 1) == [b"spent"]
    assert room.state("third") == "queued"


async def test_a_claim_that_arrives_late_does_not_wait_in_the_place_of_the_present_one(room: Room) -> None:
    worker = await room.worker()
    late, late_turn = worker.claims.upcoming.claim, worker.claims.upcoming.turn
    await room.one_job_done(worker)
    waiting = await worker.wait_for_work()
    assert await worker.ask(late, late_turn) == [b"spent"]
    job_id = await room.submit()
    job = await waiting
    assert job is not None
    assert job.job_id == job_id


async def test_a_claim_whose_job_has_ended_brings_nothing_again(room: Room) -> None:
    worker = await room.worker()
    await room.submit("ended")
    await worker.finish(ClaimedJob.from_fields(await worker.ask("a" * 32, 1)))
    await room.submit("next")
    assert await worker.ask("a" * 32, 1) == [b"spent"]
    assert room.state("next") == "queued"


async def test_an_idle_worker_has_a_new_job_within_milliseconds(room: Room) -> None:
    worker = await room.worker()
    took = []
    for _ in range(20):
        waiting = await worker.wait_for_work()
        began = time.monotonic()
        await room.submit()
        job = await waiting
        took.append(time.monotonic() - began)
        assert job is not None
        await worker.finish(job)
    assert sorted(took)[10] < 0.1


async def test_two_waiting_workers_and_one_job_make_one_claim(room: Room) -> None:
    workers = [await room.worker(f"w{number}") for number in range(2)]
    waiting = [await worker.wait_for_work(timeout=0.5) for worker in workers]
    job_id = await room.submit()
    jobs = [job for job in await asyncio.gather(*waiting) if job is not None]
    assert [job.job_id for job in jobs] == [job_id]


async def test_many_workers_at_once_share_the_jobs_without_doubling_one(room: Room) -> None:
    ids = [await room.submit() for _ in range(40)]
    workers = [await room.worker(f"w{number}") for number in range(8)]

    async def drain(worker: Worker) -> list[str]:
        done = []
        while (job := await worker.next()) is not None:
            await worker.finish(job)
            done.append(job.job_id)
        return done

    done = [job_id for part in await asyncio.gather(*map(drain, workers)) for job_id in part]
    assert sorted(done) == sorted(ids)
    assert await room.queue.count_active(ADA) == 0


async def test_a_worker_gets_only_what_it_can_run(room: Room) -> None:
    await room.submit("model", needs=frozenset({"node:A", "model:checkpoints/big.safetensors"}))
    await room.submit("node", needs=frozenset({"node:A"}))
    small = await room.worker("small", can=["node:A", "node:B"])
    big = await room.worker("big", can=["node:A", "model:checkpoints/big.safetensors"])
    assert (await small.take()).job_id == "node"
    assert await small.next() is None
    assert (await big.take()).job_id == "model"


async def test_a_job_waits_until_a_worker_comes_that_can_run_it(room: Room) -> None:
    small = await room.worker("small", can=["node:B"])
    waiting = await small.wait_for_work(timeout=1.0)
    job_id = await room.submit()
    assert await waiting is None
    assert room.state(job_id) == "queued"
    assert (await (await room.worker("able")).take()).job_id == job_id


async def test_among_waiting_workers_the_one_that_can_run_the_job_gets_it(room: Room) -> None:
    small = [await room.worker(f"small{number}", can=["node:B"]) for number in range(3)]
    able = await room.worker("able")
    waiting = [await worker.wait_for_work(timeout=1.0) for worker in [*small, able]]
    job_id = await room.submit()
    jobs = await asyncio.gather(*waiting)
    assert [job and job.job_id for job in jobs] == [None, None, None, job_id]


async def test_whether_a_lane_fits_is_worked_out_once_and_forgotten_within_a_day(room: Room) -> None:
    worker = await room.worker()
    for number in range(3):
        await room.submit(f"can-{number}")
        await room.submit(f"cannot-{number}", needs=frozenset({"node:X"}))
        await worker.take()
    memo = room.key("fits", worker.catalogue)
    assert sorted(room.raw.hvals(memo)) == [b"0", b"1"]
    assert 0 < room.raw.ttl(memo) <= 86_400


async def test_jobs_are_claimed_by_number_within_a_lane_and_across_lanes(room: Room) -> None:
    chosen = random.Random(7)
    numbers = [chosen.uniform(-100, 100) for _ in range(60)]
    kinds = ["node:A", "node:B", "node:C"]
    for number in numbers:
        await room.submit(order=number, needs=frozenset({chosen.choice(kinds)}))
    worker = await room.worker(can=kinds)
    assert [(await worker.take()).number for _ in numbers] == sorted(numbers)


async def test_a_job_that_came_back_keeps_its_place(room: Room) -> None:
    for number in (3.3, 1.1, 2.2):
        await room.submit(f"at-{number}", order=number)
    worker = await room.worker()
    assert (await worker.take()).job_id == "at-1.1"
    await room.let_lease_run_out("at-1.1")
    await room.queue.sweep()
    assert [(await worker.take()).job_id for _ in range(3)] == ["at-1.1", "at-2.2", "at-3.3"]


async def test_a_waiting_worker_whose_heartbeat_stopped_is_not_fed(room: Room) -> None:
    worker = await room.worker()
    waiting = await worker.wait_for_work(timeout=0.5)
    await room.let_presence_run_out(worker)
    job_id = await room.submit()
    assert await waiting is None
    assert room.state(job_id) == "queued"
    assert not room.raw.hexists(room.key("idle"), worker.name)


async def test_a_worker_whose_heartbeat_stopped_must_register_before_it_claims(room: Room) -> None:
    worker = await room.worker()
    await room.let_presence_run_out(worker)
    job_id = await room.submit()
    with pytest.raises(NotRegistered):
        await worker.next()
    await worker.register()
    assert (await worker.take()).job_id == job_id


async def test_a_worker_that_nobody_knows_must_register_before_it_claims(room: Room) -> None:
    worker = await room.worker(register=False)
    with pytest.raises(NotRegistered):
        await worker.next()


async def test_a_waiting_worker_can_be_woken(room: Room) -> None:
    worker = await room.worker()
    waiting = await worker.wait_for_work(timeout=5)
    began = time.monotonic()
    await worker.reports.wake()
    assert await waiting is None
    assert time.monotonic() - began < 2


async def test_a_wake_that_nobody_heard_leaves_no_key(room: Room) -> None:
    worker = await room.worker(lease=0.1)
    await worker.reports.wake()
    await until(lambda: not room.raw.exists(room.keys.inbox(worker.name)))


async def test_lanes_stand_in_the_order_of_their_first_jobs_whatever_happens(room: Room) -> None:
    chosen = random.Random(23)
    kinds = ["node:A", "node:B", "node:C", "node:D"]
    able = await room.worker("able", can=kinds)
    choosy = await room.worker("choosy", can=kinds[1:])
    for _ in range(150):
        step = chosen.choice(["submit", "submit", "claim", "cancel", "lose", "leave"])
        if step == "submit":
            await room.submit(
                order=chosen.choice(["back", "front", chosen.uniform(-9, 9)]), needs=frozenset({chosen.choice(kinds)})
            )
        elif step == "cancel":
            queued = [job.job_id for job in await room.queue.active(ADA) if not job.is_running]
            await room.queue.cancel(ADA, chosen.sample(queued, min(1, len(queued))))
        else:
            worker = chosen.choice([able, choosy])
            queued_numbers = [
                job.number
                for job in await room.queue.active(ADA)
                if not job.is_running and (worker is able or needs_of(room, job.job_id) != {b"node:A"})
            ]
            job = await worker.next(0.001)
            assert (job and job.number) == min(queued_numbers, default=None)
            if job is None:
                # It would be handed the next job that is submitted.
                await worker.register()
            elif step == "leave":
                await worker.reports.leave()
                await worker.register()
            elif step == "lose":
                await room.let_lease_run_out(job.job_id)
                await room.queue.sweep()
            else:
                await worker.finish(job)
        room.check_lanes()


def needs_of(room: Room, job_id: str) -> set[bytes]:
    return room.raw.smembers(room.key("needs", room.field(job_id, "lane") or ""))


async def test_a_worker_that_hangs_up_while_it_waits_asks_anew_at_once(room: Room) -> None:
    worker = await room.worker()
    waiting = await worker.wait_for_work(timeout=60)
    worker.claims.hang_up()
    assert await asyncio.wait_for(waiting, 2) is None
    job_id = await room.submit()
    assert (await worker.take()).job_id == job_id


async def test_hanging_up_between_two_claims_costs_nothing(room: Room) -> None:
    worker = await room.worker()
    await room.one_job_done(worker)
    job_id = await room.submit()
    worker.claims.hang_up()
    assert (await worker.take()).job_id == job_id
