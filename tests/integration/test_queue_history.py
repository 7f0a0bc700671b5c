"""History: each person's own, in order, bounded by number and by age."""

from __future__ import annotations

from typing import Any

import pytest

from comfyume.job_queue.frontend_queue import PayloadCache
from comfyume.tests.harness.room import ADA, Room, prompt_of, until

pytestmark = pytest.mark.integration


async def test_history_is_in_the_order_in_which_jobs_ended(room: Room) -> None:
    first, second = await room.worker("first"), await room.worker("second")
    ids = [await room.submit() for _ in range(2)]
    jobs = [await first.take(), await second.take()]
    await second.finish(jobs[1])
    await first.finish(jobs[0], "error")
    assert await room.queue.history_ids(ADA) == [ids[1], ids[0]]


async def test_history_can_be_read_by_pages_from_either_end(room: Room) -> None:
    worker = await room.worker()
    ids = [await room.one_job_done(worker) for _ in range(7)]
    assert await room.queue.history_ids(ADA, 0, 2) == ids[:3]
    assert await room.queue.history_ids(ADA, 3, 4) == ids[3:5]
    assert await room.queue.history_ids(ADA, -2, -1) == ids[-2:]
    assert await room.queue.history_ids(ADA, 5, 100) == ids[5:]
    assert await room.queue.history_ids(ADA, 7, 100) == []


@pytest.mark.parametrize("size", [1, 2, 5, 8])
async def test_history_keeps_exactly_as_many_jobs_as_it_may(store: Any, size: int) -> None:
    async with Room(store.url, store.workshop, history_size=size) as room:
        worker = await room.worker()
        ids = []
        for _ in range(2 * size + 3):
            ids.append(await room.one_job_done(worker))
            assert await room.queue.history_ids(ADA) == ids[-size:]
        for job_id in ids[:-size]:
            assert not room.raw.exists(room.keys.job(job_id), room.keys.events(job_id))


async def test_a_smaller_bound_takes_hold_a_few_jobs_at_a_time(store: Any) -> None:
    async with Room(store.url, store.workshop) as room:
        worker = await room.worker()
        for _ in range(60):
            await room.one_job_done(worker)
        worker.reports.history[0] = 5
        await room.one_job_done(worker)
        assert len(await room.queue.history_ids(ADA)) == 41
        for _ in range(2):
            await room.one_job_done(worker)
        assert len(await room.queue.history_ids(ADA)) == 5


async def test_each_person_has_a_history_of_their_own_size(store: Any) -> None:
    async with Room(store.url, store.workshop, history_size=2) as room:
        worker = await room.worker()
        mine = [await room.one_job_done(worker) for _ in range(2)]
        for _ in range(5):
            await room.one_job_done(worker, user="eve")
        assert await room.queue.history_ids(ADA) == mine


async def test_history_forgets_what_is_too_old_even_if_the_person_never_comes_back(store: Any) -> None:
    async with Room(store.url, store.workshop, history_days=0.3 / 86_400) as room:
        worker = await room.worker()
        old = await room.one_job_done(worker)
        assert await room.queue.history_ids(ADA) == [old]
        await until(lambda: not room.raw.exists(room.keys.job(old), room.keys.history(ADA)))
        assert await room.frontend().finished(ADA, [old]) == {}


async def test_history_forgets_what_is_too_old_beside_what_is_new(store: Any) -> None:
    async with Room(store.url, store.workshop, history_days=0.5 / 86_400) as room:
        worker = await room.worker()
        old = await room.one_job_done(worker)
        await until(lambda: not room.raw.exists(room.keys.job(old)))
        new = await room.one_job_done(worker)
        assert await room.queue.history_ids(ADA) == [new]


async def test_named_jobs_can_be_forgotten(room: Room) -> None:
    worker = await room.worker()
    ids = [await room.one_job_done(worker) for _ in range(3)]
    assert set(await room.queue.finished(ADA, ids)) == set(ids)
    await room.queue.forget(ADA, [ids[1], "no such job"])
    assert await room.queue.history_ids(ADA) == [ids[0], ids[2]]
    assert set(await room.queue.finished(ADA, ids)) == {ids[0], ids[2]}
    assert not room.raw.exists(room.keys.job(ids[1]), room.keys.events(ids[1]))


async def test_all_of_a_persons_history_can_be_forgotten_and_no_other(room: Room) -> None:
    worker = await room.worker()
    mine = [await room.one_job_done(worker) for _ in range(3)]
    hers = await room.one_job_done(worker, user="eve")
    await room.queue.finished(ADA, mine)
    await room.queue.finished_briefs(mine)
    await room.queue.forget_all(ADA)
    assert await room.queue.history_ids(ADA) == []
    assert await room.queue.finished(ADA, mine) == {}
    assert await room.queue.finished_briefs(mine) == {}
    assert await room.queue.history_ids("eve") == [hers]


async def test_forgetting_touches_no_job_that_has_not_ended_and_none_of_another(room: Room) -> None:
    worker = await room.worker()
    hers = await room.one_job_done(worker, user="eve")
    queued = await room.submit()
    await room.queue.forget(ADA, [queued, hers])
    await room.queue.forget(ADA, [])
    await room.queue.forget_all(ADA)
    assert room.state(queued) == "queued"
    assert await room.queue.history_ids("eve") == [hers]


async def test_anothers_finished_job_cannot_be_read(room: Room) -> None:
    worker = await room.worker()
    hers = await room.one_job_done(worker, user="eve")
    assert await room.queue.finished(ADA, [hers]) == {}
    assert set(await room.queue.finished("eve", [hers])) == {hers}
    # Also when it lies in this frontend's memory by now.
    assert await room.queue.finished(ADA, [hers]) == {}


async def test_a_job_that_has_not_ended_is_in_no_history(room: Room) -> None:
    worker = await room.worker()
    job_id = await room.submit()
    assert await room.queue.finished(ADA, [job_id]) == {}
    job = await worker.take()
    assert await room.queue.finished(ADA, [job_id]) == {}
    await worker.finish(job)
    assert set(await room.queue.finished(ADA, [job_id])) == {job_id}


async def test_lists_of_jobs_come_without_their_prompts(room: Room) -> None:
    worker = await room.worker()
    job_id = await room.one_job_done(worker, payload=prompt_of("x" * 1000), brief={"extra_data": {"create_time": 5}})
    brief = (await room.queue.finished_briefs([job_id]))[job_id]
    assert brief.payload == {"extra_data": {"create_time": 5}}
    assert brief.result is not None


async def test_after_all_work_is_done_and_forgotten_little_is_left(room: Room) -> None:
    worker = await room.worker()
    for number in range(5):
        await room.one_job_done(worker, user=f"user-{number}")
        await room.queue.forget_all(f"user-{number}")
    await worker.reports.leave()
    left = {key.decode().removeprefix(room.keys.prefix) for key in room.raw.scan_iter(room.keys.prefix + "*")}
    lasting = {name for name in left if room.raw.ttl(room.keys.prefix + name) == -1}
    of_the_workshop = {"submitted", "ended", "catalogue-version", "served", f"capabilities:{worker.catalogue}"}
    # A line for each person, which the sweep takes out when it says nothing any more.
    # Bounded by the number of their entries.
    assert lasting <= of_the_workshop | {"usage", "turns", "ledger"}


def test_what_frontends_remember_is_bounded_by_its_bytes() -> None:
    cache = PayloadCache(limit=100)
    for number in range(50):
        cache.put("payload", str(number), (b"x" * 10, b"y" * 15))
        assert cache._size == sum(len(part) for entry in cache._entries.values() for part in entry) <= 100
    assert [job_id for _, job_id in cache._entries] == ["46", "47", "48", "49"]


def test_what_frontends_remember_goes_by_last_use_and_an_entry_that_is_too_large_goes_at_once() -> None:
    cache = PayloadCache(limit=100)
    cache.put("payload", "a", (b"x" * 40,))
    cache.put("payload", "b", (b"x" * 40,))
    cache.get("payload", "a")
    cache.put("payload", "c", (b"x" * 40,))
    assert cache.get("payload", "b") is None
    assert cache.get("payload", "a") == (b"x" * 40,)
    cache.put("payload", "a", (b"x" * 20,))
    assert cache._size == 60
    cache.put("payload", "large", (b"x" * 101,))
    assert cache.get("payload", "large") is None
    assert cache._size == 0
