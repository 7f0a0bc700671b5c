"""Where trials take place: a folder, a seed, and the record of everything."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from .record import Record
from .room import Room


@dataclass
class Stage:
    """What a group of trials gets.

    Attributes:
        folder: short, and empty.
        seed: of everything that is chosen at random.
        patience: seconds to wait for jobs that should end.
        is_strict: whether that is a violation too which is known and waits to be mended: a file that a lost attempt
            left at its person's, and a job that is given to another worker since its handing over was not heard.
    """

    folder: Path
    seed: int
    patience: float = 60.0
    is_strict: bool = False
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
        return Room(self.folder / name, self.record(name), self.random(name), patience=self.patience, **options)

    def close(self) -> None:
        """Write all records."""
        for record in self._records:
            record.close()
