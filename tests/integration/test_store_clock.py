"""The store's clock, by which a worker and a frontend compare moments."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from comfyume.job_queue import store_clock
from comfyume.job_queue.connection import connect_async
from comfyume.job_queue.store_clock import StoreClock
from comfyume.tests.harness.room import Room

pytestmark = pytest.mark.integration


async def test_it_is_not_known_before_the_store_has_answered_and_then_goes_as_the_stores_does(room: Room) -> None:
    clock = StoreClock(room.client)
    assert clock.now() is None
    await clock.look()
    for _ in range(3):
        await asyncio.sleep(0.05)
        seconds, microseconds = room.raw.time()
        assert clock.now() == pytest.approx(seconds + microseconds / 1e6, abs=0.05)


async def test_a_slow_answer_does_not_make_it_worse(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = StoreClock(room.client)
    await clock.look()
    asked = room.client.time

    async def slow() -> object:
        told = await asked()
        await asyncio.sleep(0.5)
        return told

    monkeypatch.setattr(room.client, "time", slow)
    await clock.look()
    seconds, microseconds = room.raw.time()
    assert clock.now() == pytest.approx(seconds + microseconds / 1e6, abs=0.05)


async def test_it_goes_on_while_no_store_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_clock, "PAUSE", 0.01)
    clock = StoreClock(connect_async("redis://127.0.0.1:1"))
    running = asyncio.create_task(clock.run())
    await asyncio.sleep(0.1)
    assert not running.done()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
