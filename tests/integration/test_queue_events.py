"""Events: in order, each once, none that matters missed, and the result there before its last event."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from comfyume.job_queue.events import Batch, Event, Notice, decode, encode
from comfyume.tests.harness.room import ADA, Room, event

pytestmark = pytest.mark.integration


BATCH = Batch(
    "job \u6f22\n",
    "\u00e4da",
    3,
    [
        Event(4, '{"type": "\u6f22", "x": NaN}\n'.encode(), True, True, "tab", "executed"),
        Event(5, b"\0\0\0\1\0\0\0\2\n\xff\xfe", False, False, None, "binary:1"),
        Event(6, b"", True, True, None, "empty"),
    ],
    kept_before=3,
    ends="done",
    titles={"5": "KSampler \u6f22"},
    since=1_700_000_000.25,
)


def test_a_batch_reads_back_as_it_was_written() -> None:
    assert decode(encode(BATCH)) == BATCH


def test_a_batch_of_no_events_reads_back() -> None:
    batch = Batch("job", "ada", 1, [])
    assert decode(encode(batch)) == batch


def test_what_may_be_missed_is_left_out_of_what_is_kept() -> None:
    kept = decode(encode(BATCH, only_kept=True))
    assert isinstance(kept, Batch)
    assert [event.number for event in kept.events] == [4, 6]
    assert (kept.kept_before, kept.ends, kept.attempt) == (3, "done", 3)


@pytest.mark.parametrize("damage", [lambda message: message[:-1], lambda message: message + b"x"])
def test_a_batch_cut_short_or_too_long_is_refused(damage: Any) -> None:
    with pytest.raises(ValueError, match="not as long"):
        decode(damage(encode(BATCH)))


@pytest.mark.parametrize("message", [b"", b"nonsense", b"{}\n", b'{"other": 1}\n'])
def test_what_is_no_message_of_ours_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json's own, or ours
        decode(message)


def test_the_notices_of_the_scripts_are_read() -> None:
    assert decode(b'{"changed":"ada"}\n') == Notice("changed", {"changed": "ada"})
    assert decode(b'{"workers":true}\n') == Notice("workers", {"workers": True})


async def test_the_stream_keeps_what_matters_and_the_channel_carries_everything(room: Room) -> None:
    worker = await room.worker()
    job_id = await room.submit()
    job = await worker.take()
    async with room.listening() as receive:
        await worker.append(job, event(1), event(2, keep=False), event(3))
        await worker.append(job, event(4, keep=False), kept_before=3)
        published = [await receive(), await receive()]
    assert [[e.number for e in batch.events] for batch in published] == [[1, 2, 3], [4]]
    assert [[e.number for e in batch.events] for batch in await room.queue.kept_events(job_id)] == [[1, 3]]


async def test_the_first_kept_event_makes_a_job_running_and_a_passing_one_writes_nothing(room: Room) -> None:
    worker = await room.worker()
    job_id = await room.submit()
    job = await worker.take()
    await worker.append(job, event(1, keep=False))
    assert room.state(job_id) == "claimed"
    await worker.append(job, event(2))
    assert room.state(job_id) == "running"
    assert room.field(job_id, "started") is not None


async def test_a_subscriber_gets_batches_in_order_and_can_see_a_gap(room: Room) -> None:
    worker = await room.worker()
    await room.submit()
    job = await worker.take()
    async with room.listening() as receive:
        for number in range(1, 201):
            await worker.append(job, event(number), kept_before=number - 1)
        batches = [await receive() for _ in range(200)]
    assert [batch.events[0].number for batch in batches] == list(range(1, 201))
    assert [batch.kept_before for batch in batches] == list(range(200))


async def test_whoever_missed_batches_finds_them_kept(room: Room) -> None:
    worker = await room.worker()
    job_id = await room.submit()
    job = await worker.take()
    await worker.append(job, event(1, payload=b"\0\1\2", text=False))
    await worker.append(job, event(2), kept_before=1)
    async with room.listening() as receive:
        await worker.append(job, event(3), kept_before=2)
        batch = await receive()
    assert batch.kept_before == 2
    kept = [e for batch in await room.queue.kept_events(job_id) for e in batch.events]
    assert [e.number for e in kept] == [1, 2, 3]
    assert kept[0] == event(1, payload=b"\0\1\2", text=False)


async def test_whoever_reads_history_on_the_last_event_always_finds_the_result(room: Room) -> None:
    worker = await room.worker()
    reader = room.frontend()
    async with room.listening() as receive:
        for number in range(100):
            await room.submit(f"job-{number}")
            job = await worker.take()
            finishing = asyncio.create_task(worker.finish(job, text=str(number)))
            while True:
                message = await receive()
                if isinstance(message, Batch) and message.ends is not None:
                    break
            assert message.job_id == f"job-{number}"
            found = await reader.finished(ADA, [message.job_id])
            assert found[message.job_id].result["outputs"] == {"1": {"text": [str(number)]}}
            assert (await reader.history_ids(ADA))[-1] == message.job_id
            assert await reader.active(ADA) == []
            await finishing


async def test_the_last_batch_is_kept_too(room: Room) -> None:
    worker = await room.worker()
    job_id = await room.submit()
    job = await worker.take()
    await worker.append(job, event(1))
    await worker.finish(job, number=2)
    batches = await room.queue.kept_events(job_id)
    assert [batch.ends for batch in batches] == [None, "done"]
    assert [e.number for batch in batches for e in batch.events] == [1, 2]


async def test_a_job_that_never_stops_talking_fills_no_store(room: Room) -> None:
    worker = await room.worker()
    job_id = await room.submit()
    job = await worker.take()
    batch = encode(worker.batch(job, event(1)))
    pipeline = room.raw.pipeline(transaction=False)
    await worker.append(job, event(1))
    script = worker.reports._scripts["append_events"].sha
    for _ in range(6_000):
        pipeline.evalsha(script, 1, room.keys.prefix, job_id, job.claim, batch, batch)
    assert set(pipeline.execute()) == {b"ok"}
    assert room.raw.llen(room.keys.events(job_id)) == 5_000


async def test_the_events_of_an_ended_job_go_within_minutes(room: Room) -> None:
    worker = await room.worker()
    job_id = await room.one_job_done(worker)
    assert 0 < room.raw.ttl(room.keys.events(job_id)) <= 600


async def test_every_change_of_a_persons_queue_is_told(room: Room) -> None:
    worker = await room.worker()
    changed = Notice("changed", {"changed": ADA})
    async with room.listening() as receive:
        await room.submit("a")
        assert await receive() == changed
        job = await worker.take()
        assert await receive() == changed
        await room.submit("b")
        assert await receive() == changed
        await room.queue.cancel(ADA, ["b"])
        assert await receive() == changed
        await worker.finish(job)
        last = await receive()
        assert isinstance(last, Batch)
        assert last.ends == "done"  # which says that the queue changed, too
