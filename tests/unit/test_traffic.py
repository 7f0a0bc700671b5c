"""How much one person may ask for at once, and how late the answer is to what is more."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack

import pytest

from comfyume.server_routes import traffic
from comfyume.server_routes.traffic import Rate, TooMuch, Traffic


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "HELD_BACK", 0.2)
    monkeypatch.setattr(traffic, "OF_A_PERSON", Rate(20, 10))
    monkeypatch.setattr(traffic, "OF_AN_ADDRESS", Rate(5, 10))
    monkeypatch.setattr(traffic, "MOST_AT_ONCE", 8)


async def ask(traffic_: Traffic, person: str = "ada") -> None:
    with await traffic_.admit(person):
        pass


async def test_a_burst_is_answered_what_is_more_late_and_after_a_while_all_again() -> None:
    room = Traffic()
    began = time.monotonic()
    for _ in range(20):
        await ask(room)
    assert time.monotonic() - began < 0.1
    with pytest.raises(TooMuch, match="20 requests"):
        await ask(room)
    assert time.monotonic() - began >= 0.2
    await ask(room, "bob")
    await asyncio.sleep(0.5)
    for _ in range(4):
        await ask(room)


async def test_no_more_requests_of_a_person_than_so_many_are_answered_at_once() -> None:
    room = Traffic()
    with ExitStack() as under_way:
        for _ in range(8):
            under_way.enter_context(await room.admit("ada"))
        began = time.monotonic()
        with pytest.raises(TooMuch, match="8 of your requests"):
            await ask(room)
        # At once: what is held back is counted among them, so nobody fills the memory with it.
        assert time.monotonic() - began < 0.1
        await ask(room, "bob")
        with await room.admit("ada", is_socket=True):
            pass
    await ask(room)


async def test_a_script_that_asks_again_at_once_is_answered_no_faster_than_the_rate() -> None:
    room = Traffic()
    answers = 0
    began = time.monotonic()
    while time.monotonic() - began < 1.0:
        try:
            await ask(room)
        except TooMuch:
            continue
        answers += 1
    assert 20 <= answers <= 20 + 1.3 * 10


async def test_an_address_has_a_rate_of_its_own() -> None:
    room = Traffic()
    for _ in range(5):
        await room.admit_address("192.0.2.1")
    with pytest.raises(TooMuch):
        await room.admit_address("192.0.2.1")
    await room.admit_address("192.0.2.2")
    await ask(room, "192.0.2.1")


async def test_whoever_is_being_answered_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "MOST_KNOWN", 10)
    room = Traffic()
    with ExitStack() as under_way:
        for _ in range(8):
            under_way.enter_context(await room.admit("ada"))
        for number in range(100):
            await ask(room, f"user{number}")
        with pytest.raises(TooMuch):
            await ask(room)
