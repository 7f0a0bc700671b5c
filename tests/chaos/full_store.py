"""G15: the store reaches its ``maxmemory``; submits are refused, and what runs renews its lease and ends."""

from __future__ import annotations

import asyncio

from comfyume.job_queue.errors import QueueError, StoreRefused
from comfyume.tests.harness.script_engine import Script

from . import checks
from .reports import Report
from .room import LEASE, Room
from .stage import Stage, spread

MEMORY = {"maxmemory": "24mb", "maxmemory-policy": "noeviction"}
#: Characters of a prompt that fills the store.
LARGE = 400_000
STUFFING = "stuffing"
#: More such prompts than the store can hold.
MOST_STUFFING = 300
#: Rooms at once.
ROOMS = 5


async def run(stage: Stage, trials: int) -> list[Report]:
    """Fill the store ``trials`` times while jobs run."""

    async def in_room(index: int, share: int) -> tuple[int, list[str]]:
        return await _room(stage, index, share)

    outcomes = await spread(trials, ROOMS if stage.is_full else 1, in_room)
    return [
        Report(
            "G15",
            "a full store degrades safely",
            f"maxmemory of {MEMORY['maxmemory']} reached while jobs run for two leases",
            trials,
            [violation for _, found in outcomes for violation in found],
            {"refused when it filled up": str(sum(refused for refused, _ in outcomes))},
        )
    ]


async def _room(stage: Stage, index: int, trials: int) -> tuple[int, list[str]]:
    """How often a prompt was refused, and the violations."""
    found: list[str] = []
    refused = 0
    async with stage.room(f"full-store-{index}", options=MEMORY) as room:
        await room.add_workers(2)
        for _ in range(trials):
            refused += await _trial(room, found)
        await room.all_ended(checks.acknowledged(room.record.history))
        await room.take_stock()
    history = room.record.history
    return refused, found + checks.sound(history) + checks.losses_have_a_cause(history, 0)


async def _trial(room: Room, found: list[str]) -> int:
    """How often a prompt was refused."""
    seconds = room.random.uniform(2.0, 2.5) * LEASE
    stuffing: list[str] = []
    refused = await _fill(room, stuffing, found)
    # Room for the jobs that run.
    await room.queue.cancel(STUFFING, [stuffing.pop()])
    running = [await room.submit(Script(steps=20, seconds=seconds / 20)) for _ in range(2)]
    await asyncio.gather(*(room.in_state(job, "running") for job in running))
    # At the limit a small write passes now and then; a store whose clients' buffers take memory is well above it.
    used = (await room.raw.info("memory"))["used_memory"]
    await room.raw.config_set("maxmemory", int(used * 0.9))
    if await _stuff(room, stuffing, 2):
        found.append("a full store took a submit")
    cancelled = running[1] if room.random.random() < 0.5 else ""
    if cancelled:
        await room.cancel(cancelled)
    await room.all_ended(running)
    for job in running:
        state = await room.state(job)
        if state != ("cancelled" if job == cancelled else "done"):
            found.append(f"job {job} ran while the store was full and is {state}")
    await room.raw.config_set("maxmemory", MEMORY["maxmemory"])
    await room.queue.cancel(STUFFING, stuffing)
    if not await room.comes(lambda: _takes(room), 5):
        found.append("the store takes no submit although there is room again")
    return refused


async def _fill(room: Room, stuffing: list[str], found: list[str]) -> bool:
    """Whether the store refused a prompt in the end."""
    try:
        for _ in range(MOST_STUFFING):
            if not await _stuff(room, stuffing, LARGE):
                return True
        found.append("a full store takes more and more")
    except QueueError as error:
        found.append(f"a full store answered a submit with {type(error).__name__}: {error}")
    return False


async def _stuff(room: Room, stuffing: list[str], size: int) -> bool:
    """Whether the store took another prompt of this size, for which there is no worker."""
    envelope = {"stuffing": room.random.randbytes(size // 2).hex()}
    asked = room.submission(user=STUFFING, envelope=envelope, needs=frozenset({"node:Nobody"}))
    try:
        await room.queue.submit(asked)
    except StoreRefused:
        return False
    stuffing.append(asked.job_id)
    return True


async def _takes(room: Room) -> bool:
    try:
        await room.submit(Script(steps=1, seconds=0.01))
    except StoreRefused:
        return False
    return True
