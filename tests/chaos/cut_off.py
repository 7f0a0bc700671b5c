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
    """What a room saw: seconds until its worker had a job again and heard frontends again; the violations."""

    kind: Kind
    backs: list[float]
    deaf: list[float]
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
    figures: dict[str, str] = {}
    for kind in kinds:
        backs = [wait for outcome in outcomes if outcome.kind == kind for wait in outcome.backs]
        deaf = [wait for outcome in outcomes if outcome.kind == kind for wait in outcome.deaf]
        figures[f"{kind.name}: back after"] = times(backs)
        figures[f"{kind.name}: hears frontends after"] = times(deaf)
        found += _late(kind, "had a job again", backs)
        found += _late(kind, "heard frontends again", deaf)
    figures["given to another claim"] = str(sum(outcome.requeued for outcome in outcomes))
    return [
        Report(
            "G7",
            "a worker cut off stops, and rejoins without help",
            f"connections cut for 1 to {longest:g} s: {', '.join(kind.name for kind in kinds)}",
            trials,
            found,
            figures,
        )
    ]


def _late(kind: Kind, what: str, waits: list[float]) -> list[str]:
    return [
        f"a worker that was cut off ({kind.name}) {what} {wait:.1f} s later, not within {BACK_WITHIN:g} s"
        for wait in waits
        if not wait <= BACK_WITHIN
    ]


async def _room(stage: Stage, index: int, kind: Kind, trials: int, longest: float) -> Outcome:
    port = free_port()
    backs: list[float] = []
    deaf: list[float] = []
    async with CuttingProxy(port) as proxy, stage.room(f"cut-{index}", port=port, worker_url=proxy.url) as room:
        await room.add_workers(1)
        for trial in range(trials):
            back, heard = await _trial(room, proxy, kind, longest, is_busy=bool(trial % 2))
            backs.append(back)
            deaf.append(heard)
        await room.all_ended(checks.acknowledged(room.record.history))
        await room.take_stock()
    history = room.record.history
    return Outcome(kind, backs, deaf, checks.sound(history), len(history.of("requeued")))


async def _trial(room: Room, proxy: CuttingProxy, kind: Kind, longest: float, *, is_busy: bool) -> list[float]:
    """Seconds until the worker has a job again, and until it hears frontends; infinite when that lasts too long."""
    random = room.random
    if is_busy:
        job = await room.submit(Script(steps=random.randint(2, 30), seconds=0.1))
        await room.in_state(job, "running", "done")
    with room.record.operation("cut off", mode=kind.mode, ways=kind.ways):
        proxy.cut(kind.mode, kind.ways)
        await asyncio.sleep(random.uniform(1.0, longest))
        proxy.heal()
    healed = time.monotonic()
    return await asyncio.gather(_until_it_has_a_job(room, healed), _until_it_hears(room, healed))


async def _until_it_has_a_job(room: Room, since: float) -> float:
    last = await room.submit(Script(steps=1, seconds=0.01))
    came = await room.in_state(last, *checks.FINAL)
    room.read_runs()
    begins = [entry.start for entry in room.record.history.of("run begin") if entry.start > since]
    return min(begins) - since if came and begins else math.inf


async def _until_it_hears(room: Room, since: float) -> float:
    """Ask the worker what a frontend asks, again and again until it answers."""
    question = {"kind": "validate", "job": "", "prompt": {}, "outputs": ["1"], "reply_to": "chaos", "id": "1"}
    async with room.listening.pubsub(ignore_subscribe_messages=True) as replies:
        await replies.subscribe(room.keys.replies_channel("chaos"))
        await replies.get_message(timeout=1)
        while time.monotonic() < since + room.patience:
            await room.client.publish(room.keys.control_channel, json.dumps(question))
            if await replies.get_message(timeout=0.5) is not None:
                return time.monotonic() - since
    return math.inf
