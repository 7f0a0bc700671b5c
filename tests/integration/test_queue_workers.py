"""Workers: one live process for a name, known by what it can run, and gone without a trace."""

from __future__ import annotations

import asyncio

import pytest

from comfyume.job_queue.catalogue import KEEP, Catalogue, CatalogueStore
from comfyume.job_queue.events import Notice
from comfyume.job_queue.worker_queue import NameTakenBy
from comfyume.tests.harness.room import Room, until

pytestmark = pytest.mark.integration

CATALOGUE = Catalogue(
    nodes={"A": {"input": {"required": {"\u6f22": ["INT", {"default": float("inf")}]}}}, "B": {}},
    folders={"A": ["checkpoints"]},
    checked_by_worker=frozenset({"B"}),
    models={"checkpoints": ["a.safetensors", "sub/b.safetensors"], "vae": []},
    extensions={"pack": {"a.js": "0" * 64}},
)


@pytest.fixture
def catalogues(room: Room) -> CatalogueStore:
    return CatalogueStore(room.client, room.keys)


async def test_the_name_of_a_live_worker_is_taken(room: Room) -> None:
    await room.worker("gpu")
    second = await room.worker("gpu", register=False)
    with pytest.raises(NameTakenBy, match="'gpu' belongs to a live worker on h") as taken:
        await second.register()
    assert taken.value.description == {"host": "h", "pid": 1}


async def test_one_of_many_who_want_a_name_at_once_gets_it(room: Room) -> None:
    workers = [await room.worker("gpu", register=False) for _ in range(10)]
    answers = await asyncio.gather(*(worker.register() for worker in workers), return_exceptions=True)
    assert sum(answer is None for answer in answers) == 1
    assert sum(isinstance(answer, NameTakenBy) for answer in answers) == 9


async def test_a_worker_may_register_again_and_again(room: Room) -> None:
    worker = await room.worker()
    job_id = await room.submit()
    job = await worker.take()
    await worker.register()
    assert await worker.renew(job) == "ok"
    await worker.finish(job)
    assert room.state(job_id) == "done"


async def test_a_silent_workers_name_can_be_had(room: Room) -> None:
    former = await room.worker("gpu")
    await room.let_presence_run_out(former)
    second = await room.worker("gpu")
    assert await second.renew() == "ok"
    assert await former.renew() == "unknown"


async def test_the_job_of_a_worker_known_to_be_dead_runs_again_at_once(room: Room) -> None:
    former = await room.worker("gpu")
    job_id = await room.submit()
    await former.take()
    second = await room.worker("gpu", register=False)
    await second.register(former_is_dead=True)
    assert await room.queue.sweep() == ([job_id], [])
    assert (await second.take()).job_id == job_id


async def test_a_new_process_does_not_get_what_was_handed_to_the_last(room: Room) -> None:
    former = await room.worker("gpu")
    waiting = await former.wait_for_work(timeout=0.1)
    assert await waiting is None
    job_id = await room.submit()
    second = await room.worker("gpu", register=False)
    await second.register(former_is_dead=True)
    assert await second.next() is None
    assert await room.queue.sweep() == ([job_id], [])
    assert (await second.take()).job_id == job_id


async def test_what_a_catalogue_offers_is_stored_once(room: Room) -> None:
    first = await room.worker("first", can=["node:A", "node:B"])
    key = room.keys.capabilities(first.catalogue)
    room.raw.expire(key, 1000)
    await room.worker("second", can=["node:A", "node:B"])
    assert room.raw.smembers(key) == {b"", b"node:A", b"node:B"}
    assert room.raw.ttl(key) > 0, "it was stored a second time"


async def test_a_worker_that_leaves_is_gone_and_leaves_no_record(room: Room) -> None:
    worker = await room.worker()
    await room.one_job_done(worker)
    version = int(room.raw.get(room.keys.catalogue_version))
    async with room.listening() as receive:
        assert await worker.reports.leave() == ""
        assert await receive() == Notice("workers", {"workers": True})
    assert int(room.raw.get(room.keys.catalogue_version)) == version + 1
    assert not room.raw.sismember(room.keys.workers, worker.name)
    assert not room.raw.exists(
        room.keys.worker(worker.name), room.keys.presence(worker.name), room.keys.inbox(worker.name)
    )
    assert await worker.renew() == "unknown"


async def test_only_the_process_that_has_the_name_can_give_it_up(room: Room) -> None:
    former = await room.worker("gpu")
    second = await room.worker("gpu", register=False)
    await second.register(former_is_dead=True)
    assert await former.reports.leave() == ""
    assert await second.renew() == "ok"


async def test_a_silent_worker_is_forgotten_by_the_sweep_and_its_record_within_a_day(room: Room) -> None:
    worker = await room.worker()
    await room.let_presence_run_out(worker)
    async with room.listening() as receive:
        await room.queue.sweep()
        assert await receive() == Notice("workers", {"workers": True})
    assert not room.raw.sismember(room.keys.workers, worker.name)
    assert 0 < room.raw.ttl(room.keys.worker(worker.name)) <= 86_400
    await worker.register()
    assert room.raw.ttl(room.keys.worker(worker.name)) == -1


async def test_a_lost_worker_is_shown_as_lost_for_ten_minutes_and_its_job_as_queued(room: Room) -> None:
    worker = await room.worker()
    job_id = await room.submit()
    await worker.take()
    await room.let_lease_run_out(job_id)
    await room.let_presence_run_out(worker)
    await room.queue.sweep()
    board = await room.queue.board()
    lost = board.workers[worker.name]
    assert (lost.lease <= 0, lost.job, board.jobs[job_id].is_running) == (True, None, False)
    assert lost.lost == pytest.approx(board.now, abs=5)
    room.raw.zadd(room.key("lost"), {worker.name: (board.now - 601) * 1000})
    await room.queue.sweep()
    assert (await room.queue.board()).workers == {}


async def test_a_lost_worker_is_shown_no_longer_once_it_is_back_or_dismissed_or_has_left(room: Room) -> None:
    worker = await room.worker()
    assert await room.queue.dismiss(worker.name) == "live"
    for end in ("back", "dismissed", "left"):
        await room.let_presence_run_out(worker)
        await room.queue.sweep()
        assert (await room.queue.board()).workers[worker.name].lost is not None
        if end == "back":
            await worker.register()
            assert (await room.queue.board()).workers[worker.name].lost is None
        elif end == "dismissed":
            async with room.listening() as receive:
                assert await room.queue.dismiss(worker.name) == "ok"
                assert await receive() == Notice("workers", {"workers": True})
            assert (await room.queue.board()).workers == {}
            await worker.register()
        else:
            await worker.reports.leave()
            assert (await room.queue.board()).workers == {}
        await room.queue.sweep()
    assert await room.queue.dismiss("nobody") == "unknown"


async def test_no_more_than_fifty_lost_workers_are_kept(room: Room) -> None:
    workers = [await room.worker(f"w{number}") for number in range(55)]
    for worker in workers:
        await room.let_presence_run_out(worker)
    await room.queue.sweep()
    assert len((await room.queue.board()).workers) == 50


async def test_a_waiting_worker_that_can_run_something_new_is_asked_again_at_once(room: Room) -> None:
    worker = await room.worker(can=["node:B"])
    waiting = await worker.wait_for_work(timeout=5)
    job_id = await room.submit()
    worker.capabilities = frozenset({"node:A"})
    worker.catalogue = "catalogue-new"
    await worker.register()
    assert await asyncio.wait_for(waiting, 2) is None
    assert (await worker.take()).job_id == job_id


async def test_a_catalogue_reads_back_as_it_was_stored(catalogues: CatalogueStore) -> None:
    await catalogues.store(CATALOGUE)
    await catalogues.store(CATALOGUE)
    assert await catalogues.load(CATALOGUE.digest) == CATALOGUE
    assert await catalogues.load("no such digest") is None
    assert CATALOGUE.counts() == (2, 2)
    assert "model:checkpoints/sub/b.safetensors" in CATALOGUE.capabilities


async def test_live_workers_are_listed_with_the_job_that_they_run_now(room: Room, catalogues: CatalogueStore) -> None:
    worker = await room.worker("gpu")
    assert await catalogues.live() == {
        "gpu": {"description": {"host": "h", "pid": 1}, "catalogue": worker.catalogue, "job": None, "drained": False}
    }
    job_id = await room.submit()
    job = await worker.take()
    assert (await catalogues.live())["gpu"]["job"] == job_id
    await worker.finish(job)
    assert (await catalogues.live())["gpu"]["job"] is None
    await room.submit("lost")
    await worker.take()
    await room.let_lease_run_out("lost")
    await room.queue.sweep()
    assert (await catalogues.live())["gpu"]["job"] is None
    await worker.reports.leave()
    assert await catalogues.live() == {}


async def test_the_catalogues_seen_last_are_remembered(catalogues: CatalogueStore) -> None:
    assert await catalogues.last_known() == []
    await catalogues.note_seen(["a", "b"])
    await catalogues.note_seen([])
    assert await catalogues.last_known() == ["a", "b"]
    await catalogues.note_seen(["c"])
    assert await catalogues.last_known() == ["c"]


async def test_a_script_of_a_node_pack_reads_back(catalogues: CatalogueStore) -> None:
    await catalogues.store_script("0" * 64, b"\0 alert()")
    assert await catalogues.load_script("0" * 64) == b"\0 alert()"
    assert await catalogues.load_script("1" * 64) is None


async def test_what_a_live_worker_can_run_does_not_expire(room: Room, catalogues: CatalogueStore) -> None:
    worker = await room.worker()
    worker.catalogue = CATALOGUE.digest
    await catalogues.store(CATALOGUE)
    await worker.register()
    keys = room.keys.catalogue(CATALOGUE.digest), room.keys.capabilities(CATALOGUE.digest)
    for key in keys:
        room.raw.expire(key, 100)
    await room.queue.sweep()
    assert [room.raw.ttl(key) for key in keys] == [KEEP, KEEP]
    await worker.reports.leave()
    room.raw.pexpire(keys[1], 1)
    await until(lambda: not room.raw.exists(keys[1]))
    await room.queue.sweep()
    assert not room.raw.exists(keys[1])
