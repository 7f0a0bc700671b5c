"""Which worker gets a job: one that has its models loaded is preferred, while nobody waits too long for it."""

from __future__ import annotations

import time
from typing import Any

from comfyume.benchmarks.simulator.play import simulate
from comfyume.benchmarks.simulator.workload import Crowd, Workshop
from comfyume.job_queue.jobs import ClaimedJob, Policy
from comfyume.tests.harness.room import Room, Worker

X, Y = frozenset({"node:A", "model:checkpoints/x"}), frozenset({"node:A", "model:checkpoints/y"})
Z = frozenset({"node:A", "model:checkpoints/z"})
BOTH = X | Y


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


def let_time_pass(room: Room, seconds: int, *workers: str) -> None:
    """Let what workers loaded, and whoever is passed over, look as if it had been so much longer."""
    for user, since in room.raw.hgetall(room.key("passed")).items():
        room.raw.hset(room.key("passed"), user, int(since) - seconds * 1000)
    for worker in workers or ("w1",):
        record = room.keys.worker(worker)
        since = room.raw.hget(record, "loaded_since")
        room.raw.hset(record, "loaded_since", int(since) - seconds * 1000)


def says_how_long_loading_takes(room: Room, seconds: float) -> None:
    """Let jobs of every kind be known to need this long for loading their models."""
    for kind in room.raw.scan_iter(room.key("kind:*")):
        room.raw.hset(kind, "load", int(seconds * 1000))


async def test_each_of_the_other_models_gets_its_share_of_the_bound(room: Room) -> None:
    worker = await room.worker(can=BOTH | Z)
    await room.submit(user="first", needs=X)
    await done(worker)
    await room.submit(user="a", needs=Y)
    await room.submit(user="b", needs=Z)
    for user in "cde":
        await room.submit(user=user, needs=X)
    assert await done(worker) == "c"
    let_time_pass(room, 590)
    assert await done(worker) == "d"
    let_time_pass(room, 11)
    # Half of 1,200 s are over for two groups; who was passed over longest goes first, and then nobody wants that model.
    assert [await done(worker) for _ in range(3)] == ["a", "b", "e"]


async def test_whoever_waited_for_the_models_is_served_before_others_are_loaded(room: Room) -> None:
    worker = await room.worker(can=BOTH)
    await room.submit(user="first", needs=X)
    await done(worker)
    for user, needs in (("a", Y), ("b", Y), ("c", X), ("d", X)):
        await room.submit(user=user, needs=needs)
    assert await done(worker) == "c"
    let_time_pass(room, 1201)
    await room.submit(user="e", needs=X)
    assert [await done(worker) for _ in range(2)] == ["a", "b"]


async def one_busy_and_one_with_other_models(room: Room) -> tuple[dict[str, Worker], ClaimedJob]:
    """Worker w1 has the models of X and runs a long job with them; w2 has those of Y. Loading takes 30 s."""
    workers = {name: await room.worker(name, can=BOTH) for name in ("w1", "w2")}
    for worker, needs in zip(workers.values(), (X, Y), strict=True):
        await room.submit(needs=needs)
        await done(worker)
    says_how_long_loading_takes(room, 30)
    await room.submit(user="long", needs=X)
    return workers, await workers["w1"].take()


async def test_a_job_is_left_to_the_worker_that_has_its_models_until_loading_them_pays(room: Room) -> None:
    workers, running = await one_busy_and_one_with_other_models(room)
    assert running.user == "long"
    assert await workers["w2"].next() is None
    job_id = await room.submit(user="a", needs=X)
    await room.queue.sweep()
    assert room.state(job_id) == "queued"
    let_time_pass(room, 170, "w2")
    await room.queue.sweep()
    assert room.state(job_id) == "queued"
    let_time_pass(room, 11, "w2")
    await room.queue.sweep()
    assert room.field(job_id, "worker") == "w2"


async def test_a_job_is_not_left_longer_to_many_workers_than_to_two(room: Room) -> None:
    workers = {name: await room.worker(name, can=BOTH) for name in ("w1", "w2", "w3", "w4")}
    for worker, needs in zip(workers.values(), (X, Y, X, X), strict=True):
        await room.submit(needs=needs)
        await done(worker)
    says_how_long_loading_takes(room, 30)
    for name in ("w1", "w3", "w4"):
        await room.submit(user="long", needs=X)
        await workers[name].take()
    assert await workers["w2"].next() is None
    job_id = await room.submit(user="a", needs=X)
    await room.queue.sweep()
    let_time_pass(room, 350, "w2")
    await room.queue.sweep()
    assert room.state(job_id) == "queued"
    let_time_pass(room, 11, "w2")
    await room.queue.sweep()
    assert room.field(job_id, "worker") == "w2"


async def test_a_worker_that_waits_for_its_models_gets_the_next_job_that_needs_them(room: Room) -> None:
    workers, running = await one_busy_and_one_with_other_models(room)
    assert await workers["w2"].next() is None
    left, taken = await room.submit(user="a", needs=X), await room.submit(user="b", needs=Y)
    assert room.field(taken, "worker") == "w2"
    assert room.state(left) == "queued"
    own = await room.submit(user="a", needs=Y)
    await workers["w1"].finish(running)
    assert (await workers["w1"].take()).job_id == left
    assert room.state(own) == "queued"


async def test_nobody_is_charged_for_loading_models(room: Room) -> None:
    worker = await room.worker(can=BOTH)

    async def run(needs: frozenset[str], seconds: float) -> None:
        await room.submit(user="a", needs=needs)
        job = await worker.take()
        room.take_time(job, seconds)
        await worker.finish(job)

    for needs, seconds in ((X, 40), (X, 10), (Y, 40)):
        await run(needs, seconds)
    for _ in range(20):
        await run(X, 10)
    await run(Y, 10)
    room.raw.delete(room.key("usage"))
    await run(X, 40)
    used = 2 ** (room.raw.zscore(room.key("usage"), "a") - time.time() / 600)
    assert 9_000 < used < 12_000


async def test_whoever_has_nothing_queued_any_more_was_passed_over_for_nothing(room: Room) -> None:
    worker = await room.worker(can=BOTH)
    await room.submit(user="first", needs=X)
    await done(worker)
    job_id = await room.submit(user="a", needs=Y)
    await room.submit(user="b", needs=X)
    assert await done(worker) == "b"
    assert room.raw.hlen(room.key("passed")) == 1
    await room.queue.cancel("a", [job_id])
    assert not room.raw.exists(room.key("passed"))


async def test_a_person_whose_other_jobs_are_served_elsewhere_is_not_passed_over_for_ever(room: Room) -> None:
    large = await room.worker(can=BOTH)
    small = await room.worker("w2", can=X)
    await room.submit(user="first", needs=X)
    await done(large)
    film = await room.submit(user="a", needs=Y)
    await room.submit(user="b", needs=X)
    assert await done(large) == "b"
    let_time_pass(room, 700)
    await room.submit(user="a", needs=X)
    assert await done(small) == "a"
    await room.submit(user="b", needs=X)
    let_time_pass(room, 671)
    assert (await large.take()).job_id == film


async def test_a_worker_that_is_reserved_for_another_has_no_models_for_the_rest(room: Room) -> None:
    first = await room.worker(can=BOTH)
    other = await room.worker("w2", can=BOTH)
    await room.submit(user="first", needs=X)
    await done(first)
    await room.submit(user="first", needs=Y)
    await done(other)
    says_how_long_loading_takes(room, 20)
    await room.queue.reserve("w2", "ada")
    job_id = await room.submit(user="a", needs=Y)
    assert (await first.take()).job_id == job_id


async def test_nobody_is_passed_over_for_longer_than_the_bound(room: Room) -> None:
    worker = await room.worker(can=BOTH)
    await room.submit(user="first", needs=X)
    await done(worker)
    await room.submit(user="a", needs=Y)
    for user in "bcd":
        await room.submit(user=user, needs=X)
    assert await done(worker) == "b"
    let_time_pass(room, 1201)
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
            outcome = outcomes[affinity] = simulate(raw, Crowd(workshop), Policy(affinity=affinity), workers=1)
            assert sum(map(len, outcome.waits.values())) > 100
            assert min(min(waits) for waits in outcome.waits.values()) >= 0
            assert 0 < outcome.use <= 1
        assert not list(raw.scan_iter("comfyume:{simulation*"))
        raw.close()
    assert outcomes[600].swaps < outcomes[0].swaps
