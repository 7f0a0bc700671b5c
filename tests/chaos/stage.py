"""Where trials take place: a folder, a seed, and the record of everything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from .record import Record
from .room import Room

T = TypeVar("T")
#: Workers that are started at once.
STARTING = 4


@dataclass
class Stage:
    """What a group of trials gets.

    Attributes:
        folder: short, and empty.
        seed: of everything that is chosen at random.
        is_full: whether faults last as long and jobs are as many as the guarantees say, in many rooms at once; else as
            the test suite has time for.
        gate: workers that start go through it, lest many of them take all cores from those that work.
        patience: seconds to wait for jobs that should end.
    """

    folder: Path
    seed: int
    patience: float = 60.0
    is_full: bool = False
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(STARTING))
    _records: list[Record] = field(default_factory=list)

    def random(self, name: str) -> Random:
        """A source of chance for something with a name, so that groups do not disturb each other's."""
        return Random(f"{self.seed}-{name}")

    def record(self, name: str) -> Record:
        """The record of a room with this name."""
        record = Record(self.folder / f"{name}.jsonl")
        self._records.append(record)
        return record

    def room(self, name: str, **options: Any) -> Room:
        """A room of its own."""
        record = self.record(name)
        return Room(self.folder / name, record, self.random(name), gate=self.gate, patience=self.patience, **options)

    def close(self) -> None:
        """Write all records."""
        for record in self._records:
            record.close()


async def spread(trials: int, rooms: int, run: Callable[[int, int], Awaitable[T]]) -> list[T]:
    """Spread trials evenly over rooms at once; ``run`` gets the number of its room and how many trials it has."""
    rooms = min(rooms, trials)
    shares = [trials // rooms + (index < trials % rooms) for index in range(rooms)]
    return await asyncio.gather(*(run(index, share) for index, share in enumerate(shares)))
