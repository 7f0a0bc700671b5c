"""Who is here: the people whose pages are open on any frontend of the workshop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Any

import redis.asyncio

from ..comfyui_seams import sockets
from ..job_queue.connection import store_errors
from ..job_queue.errors import QueueError
from ..job_queue.keys import Keys

log = logging.getLogger("comfyume")

#: Seconds between two notes.
PAUSE = 15.0
#: Seconds in which several arrivals become one note.
GATHERS = 1.0
#: Seconds after the last note for which somebody counts as here.
HERE = 40.0
#: Seconds for which it is known when somebody was here last.
KEEP = 90 * 24 * 3600


class Presence:
    """Notes in the store whose sockets are open here, and tells of all."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        self._client: Any = client
        self._key = keys.seen
        self._arrived = asyncio.Event()

    def arrive(self) -> None:
        """Somebody's page has opened: it is noted soon."""
        self._arrived.set()

    async def run(self) -> None:
        """Note until cancelled."""
        while True:
            try:
                await self.note()
            except QueueError as error:
                log.debug("who is here was not noted: %s", error)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), PAUSE)
                # A room that opens its pages at once is one note.
                await asyncio.sleep(GATHERS)
            self._arrived.clear()

    async def note(self) -> None:
        """Note who is here now. Raises what ``store_errors`` names."""
        users = {visit.user for visit in sockets.visits().values()}
        if users:
            with store_errors():
                await self._client.zadd(self._key, dict.fromkeys(users, time.time()))
                await self._client.expire(self._key, KEEP)

    async def all(self) -> dict[str, float]:
        """When each person was seen last, in Unix seconds. Raises what ``store_errors`` names."""
        with store_errors():
            rows = await self._client.zrange(self._key, 0, -1, withscores=True)
        return {name.decode(): moment for name, moment in rows}

    async def here(self) -> tuple[str, ...]:
        """Who is here, by name. Raises what ``store_errors`` names."""
        with store_errors():
            names = await self._client.zrangebyscore(self._key, time.time() - HERE, "+inf")
        return tuple(sorted(name.decode() for name in names))


def is_here(seen: float | None) -> bool:
    """Whether somebody who was seen then counts as here."""
    return seen is not None and time.time() - seen < HERE
