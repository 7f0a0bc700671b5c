"""What became of the workshop's jobs: a bounded stream in the store, which nobody's clearing of a history changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis.asyncio

from .connection import store_errors
from .keys import Keys

#: Entries that are read at once.
MOST_READ = 1_000


@dataclass(frozen=True)
class LedgerEntry:
    """A job that ended. Moments are Unix seconds.

    Attributes:
        entry: its id in the stream.
        name: of its workflow; empty where nobody has told.
        state: ``done``, ``error``, ``cancelled`` or ``quarantined``.
        claimed: when its last attempt began; None for one that no worker had when it ended.
        worker: which ran that.
        files: how many it has made.
        frames: images and frames of films that it has made.
        price_hour: what an hour of that worker cost.
        loads: whether that worker had to load models for it.
        lost: attempts whose worker was lost.
    """

    entry: str
    job_id: str
    user: str
    name: str
    state: str
    submitted: float
    claimed: float | None
    ended: float
    worker: str | None
    level: str
    attempt: int
    files: int
    frames: int
    price_hour: float | None
    loads: bool
    lost: int

    @property
    def waited(self) -> float | None:
        """Seconds from its submit to the claim of its last attempt."""
        return None if self.claimed is None else max(self.claimed - self.submitted, 0.0)

    @property
    def ran(self) -> float:
        """Seconds that a worker was taken by its last attempt."""
        return 0.0 if self.claimed is None else max(self.ended - self.claimed, 0.0)

    @property
    def cost(self) -> float | None:
        """What those seconds cost; None where nobody has said what the worker does."""
        return None if self.price_hour is None else self.ran / 3600 * self.price_hour


class Ledger:
    """Reads the stream; methods raise what ``store_errors`` names."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        # The library types replies as text or bytes; without a decoder they are bytes.
        self._client: Any = client
        self._keys = keys

    async def after(self, entry: str = "-", most: int = MOST_READ) -> list[LedgerEntry]:
        """Entries behind one, the oldest first; all from the first on without it."""
        with store_errors():
            rows = await self._client.xrange(self._keys.ledger, entry if entry == "-" else f"({entry}", "+", most)
        return _entries(rows)

    async def before(self, entry: str = "+", most: int = MOST_READ) -> list[LedgerEntry]:
        """Entries before one, the newest first; the last ones without it."""
        with store_errors():
            rows = await self._client.xrevrange(self._keys.ledger, entry if entry == "+" else f"({entry}", "-", most)
        return _entries(rows)

    async def between(self, begin: float, end: float) -> list[LedgerEntry]:
        """All entries from one moment to another, the oldest first."""
        found: list[LedgerEntry] = []
        start = str(int(begin * 1000))
        while True:
            with store_errors():
                rows = await self._client.xrange(self._keys.ledger, start, str(int(end * 1000)), MOST_READ)
            found += _entries(rows)
            if len(rows) < MOST_READ:
                return found
            start = f"({rows[-1][0].decode()}"


def _entries(rows: Sequence[tuple[bytes, dict[bytes, bytes]]]) -> list[LedgerEntry]:
    return [_entry(entry.decode(), row) for entry, row in rows]


def _entry(entry: str, fields: dict[bytes, bytes]) -> LedgerEntry:
    row = {name.decode(): value.decode() for name, value in fields.items()}
    return LedgerEntry(
        entry,
        row["job"],
        row["user"],
        row.get("name", ""),
        row["state"],
        int(row["submitted"]) / 1000,
        int(row["claimed"]) / 1000 if row["claimed"] else None,
        int(row["ended"]) / 1000,
        row["worker"] or None,
        row["level"],
        int(row["attempt"]),
        int(row["files"]),
        int(row.get("frames", "0")),
        float(row["price"]) if row["price"] else None,
        row.get("loads") == "1",
        int(row.get("lost", "0")),
    )
