"""Links by which a GPU machine joins the workshop: each for one machine, for a while."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

import redis.asyncio

from ..job_queue.connection import store_errors
from ..job_queue.keys import Keys

#: 256 random bits: nobody guesses one, so the store keeps a plain hash of it.
TOKEN_BYTES = 32


class Invitations:
    """The links in the store. Every method raises what ``store_errors`` names."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        # The library types replies as text or bytes; without a decoder they are bytes.
        self._client: Any = client
        self._keys = keys

    async def make(self, seconds: int) -> str:
        """Make a link that holds for so long; returns its token, which is kept nowhere."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        with store_errors():
            await self._client.set(self._keys.invitation(_digest(token)), b"", ex=seconds)
        return token

    async def redeem(self, token: str, machine: str) -> bool:
        """Let a machine use a link, and use it again, since its answer may be lost. False if the link is not its own.

        Args:
            machine: what tells it from others.
        """
        key = self._keys.invitation(_digest(token))
        with store_errors():
            left = await self._client.pttl(key)
            if left <= 0:
                return False
            # Whoever is first; the key of the machine is gone with the link.
            await self._client.set(f"{key}:machine", machine.encode(), nx=True, px=left)
            return bool(await self._client.get(f"{key}:machine") == machine.encode())


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
