"""A store without memory left: submitting is refused as a whole, and everything that is under way goes on."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from comfyume.job_queue.errors import StoreRefused
from comfyume.tests.harness.processes import RedisServer
from comfyume.tests.harness.room import ADA, Room, event, on_both_stores, program_of, prompt_of

pytestmark = [pytest.mark.integration, on_both_stores]

MEGABYTE = 2**20


@pytest.fixture
async def room(short_folder: Path, kind: str) -> AsyncIterator[Room]:
    with RedisServer(short_folder / uuid.uuid4().hex[:8], port=None, program=program_of(kind)) as server:
        async with Room(server.url, "w") as room:
            yield room


def fill(room: Room) -> None:
    room.raw.set("ballast", "x" * 4 * MEGABYTE)
    room.raw.config_set("maxmemory", "1mb")
    with pytest.raises(Exception, match="maxmemory"):
        room.raw.set("one more", "x")


def keys_of(room: Room) -> set[bytes]:
    return set(room.raw.scan_iter(room.keys.prefix + "*"))


async def test_a_submit_is_refused_and_leaves_nothing(room: Room) -> None:
    await room.worker()
    fill(room)
    before = keys_of(room)
    with pytest.raises(StoreRefused):
        await room.submit(payload=prompt_of("x" * 1000))
    assert keys_of(room) == before
    assert await room.queue.count_active(ADA) == 0
    room.raw.delete("ballast")
    room.raw.config_set("maxmemory", "0")
    await room.submit()


async def test_a_running_job_renews_reports_and_finishes(room: Room) -> None:
    worker = await room.worker()
    job_id = await room.submit()
    job = await worker.take()
    fill(room)
    assert await worker.renew(job) == "ok"
    await worker.append(job, event(1, payload=b"progress" * 1000))
    assert await worker.renew(job) == "ok"
    await worker.finish(job, text="ready", number=2)
    assert room.state(job_id) == "done"
    assert (await room.queue.finished(ADA, [job_id]))[job_id].result["outputs"] == {"1": {"text": ["ready"]}}  # type: ignore[index]


async def test_the_queue_drains(room: Room) -> None:
    worker = await room.worker()
    ids = [await room.submit() for _ in range(3)]
    fill(room)
    for _ in ids:
        await worker.finish(await worker.take())
    assert await worker.next() is None
    assert await room.queue.history_ids(ADA) == ids


async def test_a_job_can_be_cancelled_in_every_state(room: Room) -> None:
    worker = await room.worker()
    await room.submit("running")
    await room.submit("queued")
    job = await worker.take()
    fill(room)
    assert sorted(await room.queue.cancel_all(ADA, "any")) == ["queued", "running"]
    assert room.state("queued") == "cancelled"
    assert await worker.renew(job) == "cancel"
    await worker.finish(job, "cancelled")
    assert room.state("running") == "cancelled"


async def test_a_running_job_alone_can_be_cancelled(room: Room) -> None:
    worker = await room.worker()
    await room.submit("running")
    job = await worker.take()
    fill(room)
    assert await room.queue.cancel(ADA, ["running"]) == ["running"]
    assert await worker.renew(job) == "cancel"


async def test_lost_jobs_are_given_back_and_quarantined(room: Room) -> None:
    worker = await room.worker()
    await room.submit("lost")
    fill(room)
    for expected in ((["lost"], []), (["lost"], []), ([], ["lost"])):
        await worker.take()
        await room.let_lease_run_out("lost")
        assert await room.queue.sweep() == expected


async def test_a_worker_can_leave_and_come_back(room: Room) -> None:
    worker = await room.worker()
    await room.submit("job")
    await worker.take()
    fill(room)
    assert await worker.reports.leave() == "job"
    await worker.register()
    assert (await worker.take()).job_id == "job"


async def test_history_can_be_forgotten_to_make_room(room: Room) -> None:
    worker = await room.worker()
    await room.one_job_done(worker)
    fill(room)
    await room.queue.forget_all(ADA)
    assert await room.queue.history_ids(ADA) == []


async def test_all_of_this_holds_for_a_store_that_has_just_restarted_full(short_folder: Path, kind: str) -> None:
    # Scripts are gone after a restart, and loading one must not be refused.
    with RedisServer(short_folder / uuid.uuid4().hex[:8], port=None, program=program_of(kind)) as server:
        async with Room(server.url, "w") as room:
            worker = await room.worker(lease=60)
            job_id = await room.submit()
            job = await worker.take()
            room.raw.set("ballast", "x" * 4 * MEGABYTE)
            server._options["maxmemory"] = "1mb"
            server.restart(kill=True)
            await room.client.connection_pool.disconnect()
            with pytest.raises(StoreRefused):
                await room.submit()
            assert await worker.renew(job) == "ok"
            await worker.append(job, event(1))
            await worker.finish(job, number=2)
            assert room.state(job_id) == "done"
