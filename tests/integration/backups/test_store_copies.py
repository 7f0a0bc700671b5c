"""A workshop is copied while it runs, and put back on an empty store: each job once, and all else as it was."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import pytest

from comfyume.job_queue import copies
from comfyume.job_queue.connection import connect
from comfyume.job_queue.copies import CopiedKey
from comfyume.job_queue.copying import Copying
from comfyume.job_queue.keys import Keys
from comfyume.job_queue.putting_back import Group, PutBack, PuttingBack
from comfyume.store_copies import StoreParts, unpacked
from comfyume.tests.harness.room import ADA, Room
from comfyume.tests.integration.test_queue_scripts import keys_in_python, keys_in_scripts

HISTORY = (1000, 30 * 86_400_000)


def copy_of(room: Room) -> dict[str, bytes]:
    """The parts of a copy, by name."""
    client = connect(room.url, timeout=60)
    parts = StoreParts(Copying(client, room.keys))
    made = {part.name: part.make() for part in parts.parts()}
    client.close()
    return made


def put_back(room: Room, parts: dict[str, bytes], group: Group = "all") -> PutBack:
    client = connect(room.url, timeout=60)
    copy = unpacked(parts, parts.__getitem__)
    done = PuttingBack(client, room.keys, *HISTORY).put_back(copy.keys, copy.live, copy.taken, group)
    client.close()
    return done


def content(room: Room) -> dict[str, Any]:
    """What the store has that a copy keeps or makes anew, by name."""
    raw = room.raw
    found: dict[str, Any] = {}
    for name in sorted(raw.scan_iter(f"{room.keys.prefix}*")):
        short = name.decode().removeprefix(room.keys.prefix)
        if short.partition(":")[0] in copies.PASSING:
            continue
        kind = raw.type(name)
        if kind == b"stream":
            found[short] = raw.xrange(name)
        elif kind == b"hash":
            found[short] = raw.hgetall(name)
        elif kind == b"zset":
            found[short] = raw.zrange(name, 0, -1, withscores=True)
        else:
            found[short] = raw.smembers(name) if kind == b"set" else raw.get(name)
    return found


def test_every_kind_of_key_is_known_to_copies_in_one_way() -> None:
    known = [copies.PASSING, copies.DERIVED, copies.OF_ONE_MOMENT, copies.STREAMS, copies.PLAIN]
    channels = {"control", "replies"}
    assert set().union(*known) == (set(keys_in_python().values()) | keys_in_scripts()) - channels
    assert sum(map(len, known)) == len(set().union(*known))
    assert copies.OF_USERS <= copies.PLAIN
    assert copies.STAYING <= copies.PASSING


def test_what_a_key_holds_survives_being_written_down() -> None:
    keys = [
        CopiedKey("users", "hash", -1, [b"a\xff\x00\n", b"\xe2\x82\xac"]),
        CopiedKey("ledger", "stream", -1, [[b"1-0", [b"f", b"v"]]]),
        CopiedKey("seen:\u00e9", "string", 5, b""),
    ]
    assert list(copies.decode(b"".join(copies.encode(keys)))) == keys


async def test_a_workshop_is_put_back_as_it_was(room: Room) -> None:
    worker = await room.worker()
    done = [await room.one_job_done(worker, user=user) for user in (ADA, "bob", ADA)]
    waiting = [await room.submit(user=user) for user in ("bob", ADA, "bob")]
    held = await room.submit(user=ADA)
    await room.queue.hold([held])
    await room.queue.set_level([waiting[2]], "front")
    room.raw.hset(room.keys.users, "ada", '{"name": "ada"}')
    before = content(room)
    parts = await asyncio.to_thread(copy_of, room)
    for key in room.raw.scan_iter(f"{room.keys.prefix}*"):
        room.raw.delete(key)
    assert (await asyncio.to_thread(put_back, room, parts)).queued == 4
    after = content(room)
    assert after == before
    room.check_lanes()
    assert room.raw.pttl(room.keys.job(done[0])) > 29 * 86_400_000
    assert set(await room.queue.cancel(ADA, [waiting[1]])) == {waiting[1]}


async def test_a_job_that_a_worker_had_is_queued_again_and_loses_no_attempt(room: Room) -> None:
    worker = await room.worker()
    first, second = await room.submit(), await room.submit()
    job = await worker.take()
    assert job.job_id == first
    parts = await asyncio.to_thread(copy_of, room)
    await worker.finish(job)
    back = await asyncio.to_thread(put_back, room, parts)
    assert (back.queued, back.returned) == (2, 1)
    room.check_lanes()
    assert not room.raw.exists(room.key("lease", first))
    assert room.field(first, "losses") is None
    # The worker's claim is one of before; it registers anew, and each job ends once.
    assert await worker.renew(job) in ("lost", "unknown")
    await worker.register()
    for expected in (first, second):
        again = await worker.take()
        assert again.job_id == expected
        await worker.finish(again)
    entries = room.raw.xrange(room.keys.ledger)
    assert [fields[b"job"].decode() for _, fields in entries] == [first, second]


async def test_a_running_job_that_was_to_be_cancelled_ends_with_that(room: Room) -> None:
    worker = await room.worker()
    job_id = await room.submit()
    await worker.take()
    await room.queue.cancel(ADA, [job_id])
    parts = await asyncio.to_thread(copy_of, room)
    assert (await asyncio.to_thread(put_back, room, parts)).queued == 0
    assert room.state(job_id) == "cancelled"
    assert room.raw.zcard(room.keys.active(ADA)) == 0


@pytest.mark.parametrize("group", ["users", "queue"])
async def test_users_and_the_queue_are_put_back_each_by_itself(room: Room, group: Group) -> None:
    room.raw.hset(room.keys.users, "ada", "old")
    job_id = await room.submit()
    parts = await asyncio.to_thread(copy_of, room)
    room.raw.hset(room.keys.users, mapping={"ada": "new", "bob": "new"})
    room.raw.set(room.keys.session("s"), "1")
    await room.queue.cancel(ADA, [job_id])
    await asyncio.to_thread(put_back, room, parts, group)
    users, state = room.raw.hgetall(room.keys.users), room.state(job_id)
    if group == "users":
        assert (users, state) == ({b"ada": b"old"}, "cancelled")
        assert not room.raw.exists(room.keys.session("s")), "who was signed in is somebody of before"
    else:
        assert (users, state) == ({b"ada": b"new", b"bob": b"new"}, "queued")
        assert room.raw.exists(room.keys.session("s"))


async def test_what_was_being_put_back_when_it_was_cut_off_is_no_part_of_anything(room: Room) -> None:
    await room.submit()
    room.raw.set(room.keys.restoring("job:left"), "1")
    parts = await asyncio.to_thread(copy_of, room)
    assert "restoring" not in str(unpacked(parts, parts.__getitem__))
    await asyncio.to_thread(put_back, room, parts)
    assert not list(room.raw.scan_iter(room.keys.restoring("*")))
    assert not room.raw.exists(room.keys.job("left"))


async def test_what_has_ended_is_read_again_only_in_hours_in_which_something_ended(room: Room) -> None:
    worker = await room.worker()
    first = await room.one_job_done(worker)
    hour = 3600 * 10**6
    room.raw.zadd(room.keys.history(ADA), {first: int(time.time() * 1e6) - 5 * hour})
    client = connect(room.url)
    copying = Copying(client, Keys(room.keys.workshop))
    versions = {each.name: each.version for each in copying.ended(copying.live())}
    await room.one_job_done(worker)
    later = {each.name: each.version for each in copying.ended(copying.live())}
    client.close()
    assert versions.items() <= later.items()
    assert len(later) == 2


async def test_the_store_is_held_up_for_less_than_a_second_by_five_thousand_jobs(room: Room) -> None:
    for number in range(20):
        await asyncio.gather(*(room.submit(user=f"user{number:03}") for _ in range(250)))
    client = connect(room.url, timeout=60)
    room.raw.config_resetstat()
    begin = time.monotonic()
    live = Copying(client, room.keys).live()
    whole = time.monotonic() - begin
    client.close()
    assert len(live.jobs) == 5_000
    stats = room.raw.info("commandstats")
    slowest = max(
        stats[name]["usec_per_call"] for name in stats if re.fullmatch("cmdstat_(evalsha|eval|scan|hgetall)", name)
    )
    print(f"5,000 queued jobs: the store was held up for {slowest / 1000:.0f} ms, the copy took {whole:.2f} s")
    assert slowest < 1_000_000
