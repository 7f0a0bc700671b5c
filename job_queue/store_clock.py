"""The store's clock as a process knows it: the one clock by which a worker and a frontend can compare moments."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any

import redis.asyncio

from .connection import store_errors
from .errors import QueueError

#: Seconds between two looks at it. In so long a process's own clock goes wrong by a few microseconds.
PAUSE = 10.0
#: The same while few answers are known: one that came while a process still starts was under way for long.
SOON = 0.2
#: Of the last looks the quickest counts, since the answer was under way for at most so long.
LOOKS = 6


class StoreClock:
    """Asks the store for its time now and then; between, this process's own clock goes on."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        # The library types replies as text or bytes.
        self._client: Any = client
        self._looks: deque[tuple[float, float]] = deque(maxlen=LOOKS)
        self._ahead: float | None = None

    def now(self) -> float | None:
        """Unix seconds, wrong by half of a quick answer's way at most; None before the store has answered once."""
        return None if self._ahead is None else self._ahead + time.monotonic()

    async def look(self) -> None:
        """Ask the store.

        Raises:
            StoreUnavailable, StoreRefused: see ``store_errors``.
        """
        with store_errors():
            begin = time.monotonic()
            seconds, microseconds = await self._client.time()
            end = time.monotonic()
        self._looks.append((end - begin, seconds + microseconds / 1e6 - (begin + end) / 2))
        self._ahead = min(self._looks)[1]

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            try:
                await self.look()
            except QueueError:
                # Another store may answer next, with another clock.
                self._looks.clear()
            await asyncio.sleep(PAUSE if len(self._looks) == LOOKS else SOON)
