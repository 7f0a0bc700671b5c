"""The activity log: bounded, read from the newest on, and never waited for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from comfyume.accounts import activity
from comfyume.accounts.activity import ActivityLog
from comfyume.job_queue.connection import connect_async
from comfyume.job_queue.keys import Keys
from comfyume.tests.harness.processes import RedisServer
from comfyume.tests.harness.room import until


@pytest.fixture
async def log(store: Any) -> AsyncIterator[ActivityLog]:
    client = connect_async(store.url)
    yield ActivityLog(client, Keys(store.workshop))
    await client.aclose()


async def test_what_is_noted_is_written_soon_and_read_from_the_newest_on(log: ActivityLog) -> None:
    writing = asyncio.create_task(log.run())
    try:
        log.note("ada", "sign-in", address="192.0.2.1")
        log.note("bob", "submit", job="1")
        log.note("ada", "submit", job="2")

        async def are_there() -> bool:
            return len(await log.read()) == 3

        await until(are_there)
    finally:
        writing.cancel()
    told = await log.read()
    assert [(entry.who, entry.what, dict(entry.details)) for entry in told] == [
        ("ada", "submit", {"job": "2"}),
        ("bob", "submit", {"job": "1"}),
        ("ada", "sign-in", {"address": "192.0.2.1"}),
    ]
    assert [entry.what for entry in await log.read(who="ada")] == ["submit", "sign-in"]
    assert await log.read(most=1, before=told[0].id) == told[1:2]
    for first in ("0-0", "000-00"):
        assert await log.read(before=first) == []
    assert await log.read(before="0-1") == []
    assert await log.read(before=f"{10**18 - 1}-{10**18 - 1}") == told


async def test_the_oldest_entries_make_room(log: ActivityLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "MOST_ENTRIES", 500)
    for number in range(3_000):
        log.note("ada" if number % 1500 else "bob", "submit", job=str(number))
    await log.flush()
    kept = await log.read(most=1_000)
    assert 500 <= len(kept) < 1_000
    assert kept[0].details == {"job": "2999"}
    assert [entry.details["job"] for entry in await log.read(who="bob")] == []


async def test_while_the_store_is_away_entries_wait_in_bounds_and_nobody_waits_for_them(
    own_store: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(activity, "MOST_WAITING", 100)
    client = connect_async(own_store.url)
    log = ActivityLog(client, Keys("w"))
    writing = asyncio.create_task(log.run())
    try:
        own_store.stop()
        began = asyncio.get_running_loop().time()
        for number in range(110):
            log.note("ada", "submit", job=str(number))
        assert asyncio.get_running_loop().time() - began < 0.5
        assert sum("has lost submit of ada" in record.message for record in caplog.records) == 10
        await asyncio.sleep(0.5)
        own_store.start()

        async def are_there() -> bool:
            with contextlib.suppress(Exception):
                return len(await log.read(most=1_000)) == 100
            return False

        await until(are_there)
    finally:
        writing.cancel()
        await client.aclose()
