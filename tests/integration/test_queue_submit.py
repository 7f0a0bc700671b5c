"""Submitting: one id is one job, whatever is in it and however often it is asked."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from comfyume.job_queue.errors import JobConflict, StoreUnavailable
from comfyume.tests.harness.room import ADA, Room, prompt_of, submission

pytestmark = pytest.mark.integration


async def order_of(room: Room, user: str = ADA) -> list[str]:
    return [job.job_id for job in await room.queue.active(user)]


async def test_a_submitted_job_is_queued_and_can_be_read(room: Room) -> None:
    job_id = await room.submit(payload=prompt_of("hello"))
    [job] = await room.queue.active(ADA)
    assert (job.job_id, job.state, job.number, job.client) == (job_id, "queued", 1, "tab-1")
    stored = (await room.queue.payloads([job_id]))[job_id]
    assert stored.payload == prompt_of("hello")
    assert stored.number == 1
    assert await room.queue.count_active(ADA) == 1


async def test_the_same_submit_again_is_the_same_job(room: Room) -> None:
    asked = submission()
    first = await room.queue.submit(asked)
    assert await room.queue.submit(asked) == first
    assert await room.queue.count_active(ADA) == 1


async def test_the_time_that_the_server_adds_does_not_make_another_job(room: Room) -> None:
    payload = prompt_of()
    await room.submit("one", payload=payload)
    await room.submit("one", payload={**payload, "extra_data": {"create_time": 2}})
    assert await order_of(room) == ["one"]


async def test_fifty_submits_at_once_with_one_id_are_one_job(room: Room) -> None:
    asked = submission()
    numbers = await asyncio.gather(*(room.queue.submit(asked) for _ in range(50)))
    assert set(numbers) == {numbers[0]}
    assert await order_of(room) == [asked.job_id]
    assert room.raw.zcard(room.key("lane", f"2:{ADA}:" + (room.field(asked.job_id, "lane") or ""))) == 1


@pytest.mark.parametrize(
    "change",
    [{"payload": prompt_of("other")}, {"user": "eve"}, {"secrets": b"other"}],
    ids=lambda c: next(iter(c)),
)
async def test_another_job_under_a_known_id_is_refused_and_changes_nothing(room: Room, change: dict[str, Any]) -> None:
    job_id = await room.submit(payload=prompt_of("first"))
    before = room.raw.hgetall(room.keys.job(job_id))
    with pytest.raises(JobConflict, match=job_id):
        await room.submit(job_id, **change)
    assert room.raw.hgetall(room.keys.job(job_id)) == before
    assert await order_of(room, "eve") == []


async def test_an_id_is_known_after_its_job_was_cancelled(room: Room) -> None:
    asked = submission()
    await room.queue.submit(asked)
    await room.queue.cancel(ADA, [asked.job_id])
    await room.queue.submit(asked)
    assert await order_of(room) == []


async def test_jobs_are_in_the_order_back_front_and_number(room: Room) -> None:
    await room.submit("back-1")
    await room.submit("back-2")
    await room.submit("front-1", order="front")
    await room.submit("front-2", order="front")
    await room.submit("number", order=1.5)
    assert await order_of(room) == ["front-2", "front-1", "back-1", "number", "back-2"]


@pytest.mark.parametrize("number", [0.1 + 0.2, 1e15 + 1, -7.0, 2**53 - 1, 1e300])
async def test_a_number_keeps_every_digit(room: Room, number: float) -> None:
    assert await room.queue.submit(submission("n", order=number)) == number
    assert (await room.queue.active(ADA))[0].number == number
    assert room.raw.zscore(room.keys.active(ADA), "n") == number


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
async def test_a_number_that_is_none_counts_as_the_back(room: Room, number: float) -> None:
    await room.submit("first")
    await room.submit("odd", order=number)
    assert await order_of(room) == ["first", "odd"]
    worker = await room.worker()
    assert [(await worker.take()).job_id, (await worker.take()).job_id] == ["first", "odd"]


async def test_a_job_may_have_very_many_needs(room: Room) -> None:
    needs = frozenset(f"model:checkpoints/{number}.safetensors" for number in range(20_000))
    job_id = await room.submit(needs=needs)
    lacking = await room.worker("lacking", can=list(needs)[1:])
    assert await lacking.next() is None
    complete = await room.worker("complete", can=needs)
    assert (await complete.take()).job_id == job_id


async def test_a_job_without_needs_runs_anywhere(room: Room) -> None:
    job_id = await room.submit(needs=frozenset())
    worker = await room.worker(can=())
    assert (await worker.take()).job_id == job_id


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
async def test_a_number_that_is_none_is_refused_since_no_browser_could_read_it(room: Room, number: float) -> None:
    prompt = {"1": {"inputs": {"seed": number}}}
    with pytest.raises(ValueError, match="JSON"):
        await room.submit("odd", payload={"prompt": prompt, "extra_data": {}, "outputs": []})
    assert room.state("odd") is None


async def test_a_job_of_every_kind_of_text_and_number_arrives_as_it_was(room: Room) -> None:
    odd = "\0\r\n\t\"'\\ \u2028 \ud83d \U0001f600 \u00e4\u6f22 " + "".join(map(chr, range(256)))
    prompt = {"1": {"inputs": {odd: [odd, 1e308, 2**70, None, True]}}}
    await room.submit("odd \u6f22", payload={"prompt": prompt, "extra_data": {}, "outputs": []}, user="\u00e4 :\n{}")
    job = await (await room.worker()).take()
    assert job.job_id == "odd \u6f22"
    assert job.user == "\u00e4 :\n{}"
    assert repr(job.payload["prompt"]) == repr(prompt)


async def test_a_handed_over_job_of_every_kind_of_text_arrives_as_it_was(room: Room) -> None:
    worker = await room.worker()
    waiting = await worker.wait_for_work()
    payload = prompt_of("\0\r\n \ud83d \U0001f600" + "x" * 70_000)
    await room.submit(payload=payload, secrets=b"\xe4\0\r\n")
    job = await waiting
    assert job is not None
    assert job.payload == payload
    assert job.secrets == b"\xe4\0\r\n"


async def test_a_payload_of_fifty_megabytes_works(room: Room) -> None:
    payload = prompt_of("x" * 50_000_000)
    worker = await room.worker()
    waiting = await worker.wait_for_work()
    await room.submit(payload=payload)
    try:
        job = await waiting
    except StoreUnavailable:
        # To sync so much to a busy disk may take longer than a worker waits for an answer. It asks again.
        job = await worker.next()
    assert job is not None
    assert len(job.payload["prompt"]["1"]["inputs"]["text"]) == 50_000_000
    await worker.finish(job)
    await room.queue.forget_all(ADA)


async def test_the_keys_of_a_job_go_to_its_worker_and_are_gone_at_its_end(room: Room) -> None:
    job_id = await room.submit(secrets=b"hush-hush")
    worker = await room.worker()
    job = await worker.take()
    assert job.secrets == b"hush-hush"
    await worker.finish(job)
    assert room.field(job_id, "secrets") is None
    everything = b"".join(value for key in room.raw.scan_iter(room.keys.prefix + "*") for value in _dump(room, key))
    assert b"hush-hush" not in everything


def _dump(room: Room, key: bytes) -> list[bytes]:
    kind = room.raw.type(key)
    if kind == b"hash":
        return [part for pair in room.raw.hgetall(key).items() for part in pair]
    if kind == b"list":
        return room.raw.lrange(key, 0, -1)
    return [room.raw.get(key)] if kind == b"string" else []
