"""G7: a worker is cut off from the store for a while, and takes jobs again by itself when it is not any more."""

from __future__ import annotations

import asyncio
import json
import math
import time
from dataclasses import dataclass
from typing import get_args

from comfyume.tests.harness.processes import free_port
from comfyume.tests.harness.script_engine import Script

from . import checks
from .cutting import BOTH, CuttingProxy, Mode, Way
from .reports import Report, times
from .room import Room
from .stage import Stage, spread

#: Seconds within which a worker that is no longer cut off has a job.
BACK_WITHIN = 10.0
#: Seconds for which a worker is cut off at most.
LONGEST_SHORT = 4.0
LONGEST = 120.0
#: Rooms at once for each kind of cut.
ROOMS = 2


@dataclass(frozen=True)
class Kind:
    """How a worker is cut off: ``mode`` and ``ways`` of ``CuttingProxy.cut``."""

    mode: Mode
    ways: tuple[Way, ...] = BOTH

    @property
    def name(self) -> str:
        """In a few words."""
        return self.mode if self.ways == BOTH else f"{self.mode} {self.ways[0]}"


#: A half-open connection takes long to be noticed, so short runs leave that out.
SHORT_KINDS = (Kind("reset"), Kind("stalled"))
KINDS = tuple(
    Kind(mode, ways) for mode in get_args(Mode) if mode != "open" for ways in (BOTH, *((way,) for way in BOTH))
)


@dataclass
class Outcome:
    """What a room saw: seconds until its worker was back, each time; how often it was deaf then; violations."""

    kind: Kind
    waits: list[float]
    deaf: int
    found: list[str]
    requeued: int


async def run(stage: Stage, trials: int) -> list[Report]:
    """Cut workers off ``trials`` times, each kind of cut in rooms of its own."""
    kinds = KINDS if stage.is_full else SHORT_KINDS
    longest = LONGEST if stage.is_full else LONGEST_SHORT

    async def in_room(index: int, share: int) -> Outcome:
        return await _room(stage, index, kinds[index % len(kinds)], share, longest)

    outcomes = await spread(trials, len(kinds) * (ROOMS if stage.is_full else 1), in_room)
    found = [violation for outcome in outcomes for violation in outcome.found]
    waits = {
        kind.name: [wait for outcome in outcomes if outcome.kind == kind for wait in outcome.waits] for kind in kinds
    }
    for kind in kinds:
        deaf = sum(outcome.deaf for outcome in outcomes if outcome.kind == kind)
        if deaf:
            often = f"{deaf} times of {len(waits[kind.name])}"
            found.append(f"a worker that was cut off ({kind.name}) did not hear frontends {often}")
    for name, waited in waits.items():
        late = [wait for wait in waited if not wait <= BACK_WITHIN]
        found += [
            f"a worker that was cut off ({name}) had no job {BACK_WITHIN:g} s later ({wait:.1f} s)" for wait in late
        ]
    return [
        Report(
            "G7",
            "a worker cut off stops, and rejoins without help",
            f"connections cut for 1 to {longest:g} s: {', '.join(waits)}",
            trials,
            found,
            {
                **{f"{name}: back after": times(waited) for name, waited in waits.items()},
                "given to another claim": str(sum(outcome.requeued for outcome in outcomes)),
            },
        )
    ]


async def _room(stage: Stage, index: int, kind: Kind, trials: int, longest: float) -> Outcome:
    port = free_port()
    waits, deaf = [], 0
    async with CuttingProxy(port) as proxy, stage.room(f"cut-{index}", port=port, worker_url=proxy.url) as room:
        await room.add_workers(1)
        for trial in range(trials):
            waits.append(await _trial(room, proxy, kind, longest, is_busy=bool(trial % 2)))
            deaf += not await _hears(room)
        await room.all_ended(checks.acknowledged(room.record.history))
        await room.take_stock()
    history = room.record.history
    return Outcome(kind, waits, deaf, checks.sound(history), len(history.of("requeued")))


async def _trial(room: Room, proxy: CuttingProxy, kind: Kind, longest: float, *, is_busy: bool) -> float:
    """Seconds until the worker has a job again; infinite when it does not within a minute."""
    random = room.random
    if is_busy:
        job = await room.submit(Script(steps=random.randint(2, 30), seconds=0.1))
        await room.in_state(job, "running", "done")
    with room.record.operation("cut off", mode=kind.mode, ways=kind.ways):
        proxy.cut(kind.mode, kind.ways)
        await asyncio.sleep(random.uniform(1.0, longest))
        proxy.heal()
    healed = time.monotonic()
    last = await room.submit(Script(steps=1, seconds=0.01))
    came = await room.in_state(last, *checks.FINAL)
    room.read_runs()
    begins = [entry.start for entry in room.record.history.of("run begin") if entry.start > healed]
    return min(begins) - healed if came and begins else math.inf


async def _hears(room: Room) -> bool:
    """Whether the worker answers a frontend's question in time."""
    question = {"kind": "validate", "job": "", "prompt": {}, "outputs": ["1"], "reply_to": "chaos", "id": "1"}
    async with room.listening.pubsub(ignore_subscribe_messages=True) as replies:
        await replies.subscribe(room.keys.replies_channel("chaos"))
        await replies.get_message(timeout=1)
        await room.client.publish(room.keys.control_channel, json.dumps(question))
        return await replies.get_message(timeout=BACK_WITHIN) is not None
