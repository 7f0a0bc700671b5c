"""Which worker gets a job: one that has its models loaded is preferred, while nobody waits too long for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from comfyume.benchmarks.simulator.play import simulate
from comfyume.benchmarks.simulator.workload import Workshop
from comfyume.job_queue.jobs import Policy
from comfyume.tests.harness.room import Room, Worker

X, Y = frozenset({"node:A", "model:checkpoints/x"}), frozenset({"node:A", "model:checkpoints/y"})
BOTH = X | Y


@pytest.fixture
async def room(store: Any) -> AsyncIterator[Room]:
    async with Room(store.url, store.workshop) as made:
        yield made


async def done(worker: Worker) -> str:
    """Run the next job of a worker; says whose it was."""
    job = await worker.take()
    await worker.finish(job)
    return job.user


async def test_a_worker_goes_on_with_the_models_it_has(room: Room) -> None:
    worker = await room.worker(can=BOTH)
    await room.submit(user="first", needs=X)
    assert await done(worker) == "first"
    await room.submit(user="a", needs=Y)
    await room.submit(user="b", needs=X)
    await room.submit(user="c", needs=X)
    assert [await done(worker) for _ in range(3)] == ["b", "c", "a"]


async def test_nobody_is_passed_over_for_longer_than_the_bound(room: Room) -> None:
    worker = await room.worker(can=BOTH)
    await room.submit(user="first", needs=X)
    await done(worker)
    await room.submit(user="a", needs=Y)
    for user in "bcd":
        await room.submit(user=user, needs=X)
    assert await done(worker) == "b"
    since = int(room.raw.hget(room.key("passed"), "a"))
    room.raw.hset(room.key("passed"), "a", since - 601_000)
    assert [await done(worker) for _ in range(3)] == ["a", "c", "d"]
    assert not room.raw.exists(room.key("passed"))


async def test_without_affinity_the_policy_alone_decides(room: Room) -> None:
    await room.queue.configure(Policy(affinity=0))
    worker = await room.worker(can=BOTH)
    await room.submit(user="first", needs=X)
    await done(worker)
    await room.submit(user="a", needs=Y)
    await room.submit(user="b", needs=X)
    assert [await done(worker) for _ in range(2)] == ["a", "b"]


async def test_nobody_overtakes_themselves_for_the_sake_of_a_model(room: Room) -> None:
    worker = await room.worker(can=BOTH)
    await room.submit(user="a", needs=X)
    await done(worker)
    ids = [await room.submit(user="a", needs=needs) for needs in (Y, X, Y)]
    jobs = []
    for _ in ids:
        jobs.append(await worker.take())
        await worker.finish(jobs[-1])
    assert [job.job_id for job in jobs] == ids


async def test_of_the_workers_that_wait_the_one_with_the_models_gets_a_new_job(room: Room) -> None:
    workers = {name: await room.worker(name, can=BOTH) for name in ("w1", "w2", "w3")}
    for worker, needs in zip(workers.values(), (X, Y, X), strict=True):
        await room.submit(needs=needs)
        await done(worker)
    for worker in workers.values():
        assert await worker.next() is None
    job_id = await room.submit(needs=Y)
    assert room.field(job_id, "worker") == "w2"


async def test_a_worker_that_was_started_anew_has_nothing_loaded(room: Room) -> None:
    worker = await room.worker("w1", can=BOTH)
    await room.submit(user="first", needs=X)
    await done(worker)
    again = await room.worker("w1", can=BOTH, register=False)
    await again.register(former_is_dead=True)
    await room.submit(user="a", needs=Y)
    await room.submit(user="b", needs=X)
    assert [await done(again) for _ in range(2)] == ["a", "b"]


def test_a_simulated_workshop_runs_every_prompt_and_affinity_saves_swaps(store: Any) -> None:
    workshop = Workshop(people=8, days=1, hours=1.5, flood=10, seed=3)
    outcomes = {}
    with store.server.client() as client:
        raw = type(client).from_url(store.url)
        for affinity in (0, 600):
            outcome = outcomes[affinity] = simulate(raw, workshop, Policy(affinity=affinity), workers=1)
            assert sum(map(len, outcome.waits.values())) > 100
            assert min(min(waits) for waits in outcome.waits.values()) >= 0
            assert 0 < outcome.use <= 1
        assert not list(raw.scan_iter("comfyume:{simulation*"))
        raw.close()
    assert outcomes[600].swaps < outcomes[0].swaps
