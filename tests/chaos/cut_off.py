"""G7: a worker is cut off from the store for a while, and takes jobs again by itself when it is not any more."""

from __future__ import annotations

import asyncio
import json
import math
import time

from comfyume.tests.harness.processes import free_port
from comfyume.tests.harness.script_engine import Script

from . import checks
from .cutting import CuttingProxy, Mode
from .reports import Report, times
from .room import Room
from .stage import Stage

#: A half-open connection takes long to be noticed, so short runs leave that out.
SHORT_MODES: tuple[Mode, ...] = ("reset", "stalled")
MODES: tuple[Mode, ...] = (*SHORT_MODES, "half open")
#: Seconds within which a worker that is no longer cut off has a job.
BACK_WITHIN = 10.0
#: Seconds for which a worker is cut off at most.
LONGEST_SHORT = 4.0
LONGEST = 60.0


async def run(stage: Stage, trials: int) -> list[Report]:
    """Cut a worker off ``trials`` times, in as many rooms at once as there are ways to be cut off."""
    is_short = trials <= len(SHORT_MODES)
    modes = SHORT_MODES if is_short else MODES
    longest = LONGEST_SHORT if is_short else LONGEST
    share = math.ceil(trials / len(modes))
    parts = await asyncio.gather(*(_part(stage, mode, share, longest) for mode in modes))
    waits = dict(zip(modes, [part[0] for part in parts], strict=True))
    found = [violation for part in parts for violation in part[1]]
    for mode, part in zip(modes, parts, strict=True):
        if part[2]:
            found.append(f"a worker that was cut off ({mode}) did not hear frontends {part[2]} times of {share}")
    for mode, waited in waits.items():
        late = [wait for wait in waited if not wait <= BACK_WITHIN]
        found += [
            f"a worker that was cut off ({mode}) had no job {BACK_WITHIN:g} s later ({wait:.1f} s)" for wait in late
        ]
    return [
        Report(
            "G7",
            "a worker cut off stops, and rejoins without help",
            f"connections cut for 1 to {longest:g} s: {', '.join(modes)}",
            share * len(modes),
            found,
            {f"{mode}: back after": times(waited) for mode, waited in waits.items()},
        )
    ]


async def _part(stage: Stage, mode: Mode, trials: int, longest: float) -> tuple[list[float], list[str], int]:
    """How long the worker took to be back each time, the violations, and how often it was deaf to frontends."""
    port = free_port()
    waits, deaf = [], 0
    name = f"cut-{mode.replace(' ', '-')}"
    async with CuttingProxy(port) as proxy, stage.room(name, port=port, worker_url=proxy.url) as room:
        await room.add_workers(1)
        for trial in range(trials):
            waits.append(await _trial(room, proxy, mode, longest, is_busy=bool(trial % 2)))
            deaf += not await _hears(room)
        await room.all_ended(checks.acknowledged(room.record.history))
        await room.take_stock()
    return waits, checks.sound(room.record.history), deaf


async def _trial(room: Room, proxy: CuttingProxy, mode: Mode, longest: float, *, is_busy: bool) -> float:
    """Seconds until the worker has a job again; infinite when it does not within a minute."""
    random = room.random
    if is_busy:
        job = await room.submit(Script(steps=random.randint(2, 30), seconds=0.1))
        await room.in_state(job, "running", "done")
    with room.record.operation("cut off", mode=mode):
        proxy.cut(mode)
        await asyncio.sleep(random.uniform(1.0, longest))
        proxy.heal()
    healed = time.monotonic()
    last = await room.submit(Script(steps=1, seconds=0.01))
    came = await room.in_state(last, *checks.FINAL)
    room.read_runs()
    begins = [entry.start for entry in room.record.history.of("run begin") if entry.start > healed]
    return min(begins) - healed if came and begins else math.inf


async def _hears(room: Room) -> bool:
    """Whether the worker answers a frontend in time that asks every second."""
    question = {"kind": "validate", "job": "", "prompt": {}, "outputs": ["1"], "reply_to": "chaos", "id": "1"}
    async with room.listening.pubsub(ignore_subscribe_messages=True) as replies:
        await replies.subscribe(room.keys.replies_channel("chaos"))
        await replies.get_message(timeout=1)
        for _ in range(round(BACK_WITHIN)):
            await room.client.publish(room.keys.control_channel, json.dumps(question))
            if await replies.get_message(timeout=1) is not None:
                return True
    return False
