"""The meter: each hour of a worker, of a file and each byte counts once, whoever asks and whoever was away."""

from __future__ import annotations

import asyncio
import json

import pytest

from comfyume.job_queue.connection import connect_async
from comfyume.job_queue.errors import QueueError
from comfyume.job_queue.keys import Keys
from comfyume.job_queue.meter import MIB, Meter, Moved, Reading
from comfyume.tests.harness.processes import RedisServer
from comfyume.tests.harness.room import Room, Worker

pytestmark = pytest.mark.integration

GIB = 2**30


def frontend(room: Room) -> Meter:
    return Meter(room.client, room.keys)


def pass_hours(room: Room, hours: float) -> None:
    """Let all that was counted up to now have been counted up to so much earlier."""
    marks = room.raw.hgetall(room.key("metered"))
    for name, text in marks.items():
        mark = json.loads(text)
        room.raw.hset(room.key("metered"), name, json.dumps(mark | {"at": mark["at"] - round(hours * 3_600_000)}))


def hours(told: Reading) -> dict[tuple[str, float | None], float]:
    """Of each worker at each price, to the second."""
    return {(each.worker, each.price_hour): round(each.hours, 3) for each in told.workers}


async def gpu(room: Room, name: str = "gpu", price: float | None = 1.2) -> Worker:
    worker = await room.worker(name, register=False)
    await worker.register(price=price)
    return worker


async def test_a_worker_counts_while_it_is_there_idle_or_not(room: Room) -> None:
    meter = frontend(room)
    await gpu(room)
    first = await meter.read()
    assert hours(first) == {}
    assert (dict(first.here), first.most) == ({"gpu": 1.2}, 1)
    pass_hours(room, 1.5)
    assert hours(await meter.read()) == {("gpu", 1.2): 1.5}


async def test_a_price_that_is_none_counts_as_not_set(room: Room) -> None:
    meter = frontend(room)
    await gpu(room)
    for price in ("nan", "a:b", ""):
        room.raw.hset(room.keys.worker("gpu"), "price", price)
        await meter.read()
        pass_hours(room, 1)
    assert {each.price_hour for each in (await meter.read()).workers} == {None}


async def test_two_frontends_and_a_command_count_no_hour_twice(room: Room) -> None:
    meters = [frontend(room) for _ in range(3)]
    await gpu(room)
    await meters[0].read()
    for _ in range(4):
        pass_hours(room, 0.5)
        await asyncio.gather(*(meter.count(Moved(), {}) for meter in meters for _ in range(5)))
    assert hours(await meters[0].read()) == {("gpu", 1.2): 2.0}


async def test_a_killed_worker_counts_no_longer_and_comes_back_as_another(room: Room) -> None:
    meter = frontend(room)
    worker = await gpu(room)
    await meter.read()
    pass_hours(room, 1)
    await meter.read()
    await room.let_presence_run_out(worker)
    pass_hours(room, 5)
    gone = await meter.read()
    assert (hours(gone), dict(gone.here), gone.most) == ({("gpu", 1.2): 1.0}, {}, 1)
    # A new process under its name: what lies between is nobody's.
    await gpu(room, price=2.0)
    await meter.read()
    pass_hours(room, 0.25)
    assert hours(await meter.read()) == {("gpu", 1.2): 1.0, ("gpu", 2.0): 0.25}


async def test_a_worker_that_was_cut_off_was_there_all_the_time(room: Room) -> None:
    meter = frontend(room)
    worker = await gpu(room)
    await meter.read()
    await room.let_presence_run_out(worker)
    pass_hours(room, 0.5)
    await meter.read()
    await room.queue.sweep()
    await worker.register(price=1.2)
    assert hours(await meter.read()) == {("gpu", 1.2): 0.5}


async def test_a_worker_that_left_in_good_order_counts_no_longer(room: Room) -> None:
    meter = frontend(room)
    worker = await gpu(room)
    await meter.read()
    pass_hours(room, 1)
    await meter.read()
    await worker.reports.leave()
    pass_hours(room, 1)
    assert hours(await meter.read()) == {("gpu", 1.2): 1.0}


async def test_frontends_that_were_away_find_the_hours_of_who_is_still_there(room: Room) -> None:
    await gpu(room)
    await frontend(room).count(Moved(), {})
    pass_hours(room, 8)
    # A new process, which knows of nothing.
    assert hours(await frontend(room).count(Moved(), {})) == {("gpu", 1.2): 8.0}


async def test_the_most_at_once_is_remembered(room: Room) -> None:
    meter = frontend(room)
    workers = [await gpu(room, f"gpu-{number}", None) for number in range(3)]
    await meter.read()
    for worker in workers[1:]:
        await worker.reports.leave()
    await meter.read()
    told = await meter.read()
    assert (told.most, dict(told.here)) == (3, {"gpu-0": None})


async def test_bytes_are_told_since_a_process_began_and_count_once(room: Room) -> None:
    one, other = frontend(room), frontend(room)
    await one.count(Moved(10, 20, 30), {})
    # An answer that was lost: the same once more.
    await one.count(Moved(10, 20, 30), {})
    await one.count(Moved(15, 20, 30), {})
    told = await other.count(Moved(100, 0, 0), {})
    assert told.moved == Moved(115, 20, 30)
    # Started anew it begins with nothing.
    assert (await frontend(room).count(Moved(1, 0, 0), {})).moved == Moved(116, 20, 30)


async def test_files_count_as_long_as_they_are_kept(room: Room) -> None:
    one, other = frontend(room), frontend(room)
    await one.count(Moved(), {"disk a": 2 * GIB})
    pass_hours(room, 3)
    # Who shares the place measures it too; in between nobody measures.
    await other.count(Moved(), {"disk a": 4 * GIB})
    pass_hours(room, 1)
    told = await one.count(Moved(), {"disk a": None})
    assert told.gib_hours == {"disk a": pytest.approx(3 * 2 + 4, abs=0.02)}
    assert told.gib == {"disk a": 4.0}
    # A frontend that never measured it has nothing to count.
    assert (await other.count(Moved(), {"disk b": None})).gib == {"disk a": 4.0}


async def test_the_smallest_file_counts_as_a_mebibyte(room: Room) -> None:
    assert (await frontend(room).count(Moved(), {"disk": 1})).gib == {"disk": MIB / GIB}


async def test_a_place_that_nobody_names_any_more_is_there_no_longer(room: Room) -> None:
    meter = frontend(room)
    await meter.count(Moved(), {"disk": GIB})
    pass_hours(room, 25)
    told = await meter.read()
    assert (told.gib, told.gib_hours) == ({}, {})
    pass_hours(room, 30 * 24)
    await meter.read()
    assert room.raw.hlen(room.key("metered")) == 0


async def test_a_store_that_was_killed_has_kept_the_sums(own_store: RedisServer) -> None:
    async with Room(own_store.url, "kept") as room:
        await gpu(room)
        meter = frontend(room)
        await meter.count(Moved(to_people=5), {"disk": GIB})
        pass_hours(room, 2)
        before = await meter.count(Moved(to_people=7), {"disk": None})
        own_store.kill()
        own_store.start()
        again = connect_async(own_store.url)
        after = await Meter(again, Keys("kept")).read()
        await again.aclose()
    assert hours(after) == hours(before) == {("gpu", 1.2): 2.0}
    assert (after.moved, after.began) == (before.moved, before.began)
    assert after.gib_hours == before.gib_hours


async def test_a_store_that_is_away_is_said(own_store: RedisServer) -> None:
    async with Room(own_store.url, "away") as room:
        own_store.stop()
        with pytest.raises(QueueError):
            await frontend(room).read()
        own_store.start()
        assert (await frontend(room).read()).workers == ()
