"""Draining: a worker ends what it has, and gets no more until it is told to go on."""

from __future__ import annotations

import json

import pytest

from comfyume.job_queue.catalogue import CatalogueStore
from comfyume.tests.harness.room import Room, Worker

pytestmark = pytest.mark.integration


async def test_a_drained_worker_ends_its_job_and_gets_no_other(room: Room) -> None:
    worker = await room.worker()
    first, second = await room.submit(), await room.submit()
    job = await worker.take()
    assert await room.queue.drain("w1")
    await worker.finish(job)
    assert room.state(first) == "done"
    assert await worker.next() is None
    assert room.state(second) == "queued"


async def test_a_drained_worker_that_waits_is_handed_nothing_until_it_may_go_on(room: Room) -> None:
    worker = await room.worker()
    waiting = await worker.wait_for_work()
    assert await room.queue.drain("w1")
    job_id = await room.submit()
    assert room.state(job_id) == "queued"
    assert await room.queue.drain("w1", is_drained=False)
    # The empty item wakes it, and it asks again.
    assert await waiting is None
    assert (await worker.take()).job_id == job_id


async def test_another_worker_takes_what_a_drained_one_leaves(room: Room) -> None:
    await room.worker("tired")
    fresh = await room.worker("fresh")
    assert await room.queue.drain("tired")
    waiting = await fresh.wait_for_work()
    job_id = await room.submit()
    job = await waiting
    assert job is not None
    assert job.job_id == job_id


async def test_the_end_of_a_job_brings_a_drained_worker_no_other(room: Room) -> None:
    worker = await room.worker()
    await room.submit()
    second = await room.submit()
    job = await worker.take()
    assert await room.queue.drain("w1")
    assert await worker.finish_and_go_on(job) is None
    assert room.state(second) == "queued"


async def test_it_is_shown_and_forgotten_with_the_process(room: Room) -> None:
    await room.worker("gpu")
    assert await room.queue.drain("gpu")
    live = CatalogueStore(room.client, room.keys).live
    assert (await live())["gpu"]["drained"] is True
    again = Worker(room, "gpu", 30.0, ["node:A"])
    await again.register(former_is_dead=True)
    assert (await live())["gpu"]["drained"] is False
    again.claims._client.close()


async def test_a_worker_that_is_not_there_is_not_drained(room: Room) -> None:
    assert not await room.queue.drain("nobody")


async def test_a_drained_worker_hears_of_it_since_its_machine_may_go(room: Room) -> None:
    heard = room.raw.pubsub()
    heard.subscribe(room.keys.control_channel)
    assert heard.get_message(timeout=5)["type"] == "subscribe"
    await room.worker()
    assert await room.queue.drain("w1")
    assert json.loads(heard.get_message(timeout=5)["data"]) == {"kind": "drained", "worker": "w1"}
    assert await room.queue.drain("w1", is_drained=False)
    assert heard.get_message(timeout=0.2) is None
    heard.close()
