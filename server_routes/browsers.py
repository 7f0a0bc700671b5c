"""Whose browser a client id is: that of the person who first connected with it."""

from __future__ import annotations

from typing import Any

import redis.asyncio

from ..job_queue.connection import store_errors
from ..job_queue.keys import Keys
from .identity import NotAllowed

#: Seconds for which an id that nobody connects with stays somebody's.
REMEMBERED = 24 * 3600
#: Characters of the longest id; ComfyUI makes ones of 36.
LONGEST_ID = 128


class Browsers:
    """Refuses a socket under somebody else's client id, since it would be sent their events."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        self._client: Any = client
        self._keys = keys

    async def check(self, client_id: str, user: str) -> None:
        """Note whose an id is, or that it is still.

        Raises:
            NotAllowed: it is somebody else's.
        """
        if len(client_id) > LONGEST_ID:
            raise NotAllowed(f"A client id may have {LONGEST_ID} characters.")
        key = self._keys.browser(client_id)
        with store_errors():
            if await self._client.set(key, user, nx=True, ex=REMEMBERED):
                return
            owner = await self._client.get(key)
            if owner is not None and owner.decode() != user:
                raise NotAllowed("This client id is somebody else's. Open ComfyUI in a new tab.")
            await self._client.set(key, user, ex=REMEMBERED)
