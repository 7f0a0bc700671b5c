"""What of a workshop costs money, as the store counts it: hours of workers, files that are kept, bytes that are sent.

Any frontend may look at any time: the store counts each moment and each byte once. A worker counts as long as it is
there, at work or not, since a rented machine costs that long.
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import redis.asyncio

from .connection import store_errors
from .keys import Keys
from .scripts import AsyncScripts

#: Seconds between two looks: by so much, and by its lease, a worker's hours may be wrong each time it comes or goes.
PAUSE = 15.0
HOUR_MS = 3_600_000
MIB = 2**20
_MIB_OF_A_GIB = 1024
#: A place whose size was not measured anew.
_AS_BEFORE = -1


@dataclass
class Moved:
    """Bytes of files and answers that one frontend has moved since its start."""

    to_people: int = 0
    to_workers: int = 0
    from_workers: int = 0


@dataclass(frozen=True)
class WorkerHours:
    """For how long a worker was there, at one price an hour; None where nobody has said what it costs."""

    worker: str
    price_hour: float | None
    hours: float


@dataclass(frozen=True)
class Reading:
    """What was counted up to one moment. Moments are Unix seconds by the store's clock.

    Attributes:
        began: when the counting began.
        most: workers that were there at once.
        here: names of the workers that are there, with what an hour of each costs.
        moved: by all frontends together.
        gib_hours: GiB that were kept times the hours for which they were, by place.
        gib: GiB that are kept now, by place.
    """

    now: float
    began: float
    most: int
    workers: tuple[WorkerHours, ...] = ()
    here: Mapping[str, float | None] = field(default_factory=dict)
    moved: Moved = field(default_factory=Moved)
    gib_hours: Mapping[str, float] = field(default_factory=dict)
    gib: Mapping[str, float] = field(default_factory=dict)


class Meter:
    """Counts, and tells the sums. Methods raise what ``store_errors`` names."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        self._keys = keys
        self._scripts = AsyncScripts(client)
        self._frontend = secrets.token_hex(8)

    async def count(self, moved: Moved, places: Mapping[str, int | None]) -> Reading:
        """Count up to now, as a frontend.

        Args:
            moved: since this process began, so that asking again counts nothing twice.
            places: where it keeps files, and how many bytes; None where that was not measured anew.
        """
        sizes = {place: _AS_BEFORE if size is None else math.ceil(size / MIB) for place, size in places.items()}
        return await self._run(self._frontend, json.dumps(vars(moved)), json.dumps(sizes))

    async def read(self) -> Reading:
        """Count the workers up to now, and tell all of it."""
        return await self._run("", "{}", "{}")

    async def _run(self, *arguments: str) -> Reading:
        with store_errors():
            # Not by a line of its own, of which a client has only so many: nobody presses Run here.
            reply = await self._scripts["meter"](keys=[self._keys.prefix], args=list(arguments))
        return _reading(json.loads(reply))


def _reading(told: dict[str, Any]) -> Reading:
    sums = {name: int(text) for name, text in dict(told["sums"]).items()}
    workers = []
    for name, value in sums.items():
        kind, _, rest = name.partition(":")
        if kind == "worker":
            price, _, worker = rest.partition(":")
            workers.append(WorkerHours(worker, _price(price), value / HOUR_MS))
    of_places = {name[6:]: value for name, value in sums.items() if name.startswith("place:")}
    return Reading(
        told["now"] / 1000,
        told["began"] / 1000,
        told["most"],
        tuple(sorted(workers, key=lambda each: (each.worker, each.price_hour or 0.0))),
        {worker: _price(price) for worker, price in told["here"] or ()},
        Moved(**{way: sums.get(f"bytes:{way}", 0) for way in vars(Moved())}),
        {place: value / _MIB_OF_A_GIB / HOUR_MS for place, value in of_places.items()},
        {place: size / _MIB_OF_A_GIB for place, size in dict(told["kept"]).items()},
    )


def _price(text: str) -> float | None:
    """What a worker has said; the scripts take any text of it."""
    try:
        price = float(text)
    except ValueError:
        return None
    return price if math.isfinite(price) else None
