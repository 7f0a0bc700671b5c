"""Sessions: who is signed in, on which browser, until when. The tokens of scripts are sessions without an end."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import redis.asyncio

from ..job_queue.connection import store_errors
from ..job_queue.keys import Keys

#: 256 random bits: nobody guesses one, so the store keeps a plain hash of it.
TOKEN_BYTES = 32
#: Browsers on which one user is signed in; the oldest sessions beyond it end.
MOST_OF_A_USER = 50


@dataclass(frozen=True)
class Session:
    """One signed-in browser, or one script with a token.

    Attributes:
        id: digest of its token, which alone opens it; the token is kept nowhere.
        label: what an instructor reads of it.
        created: seconds since 1970.
        ends: whether it ends when it is not used.
    """

    id: str
    user: str
    label: str
    created: float
    ends: bool


class Sessions:
    """The sessions in the store. Every method raises what ``store_errors`` names.

    Args:
        hours: how long a session lives after its last use.
    """

    def __init__(self, client: redis.asyncio.Redis, keys: Keys, hours: float = 24.0) -> None:
        # The library types replies as text or bytes; without a decoder they are bytes.
        self._client: Any = client
        self._keys = keys
        self._seconds = max(1, int(hours * 3600))

    async def begin(self, user: str, label: str, *, ends: bool = True) -> str:
        """Begin a session.

        Returns:
            Its token, to be shown to nobody but the user.
        """
        token = secrets.token_urlsafe(TOKEN_BYTES)
        session = Session(session_id(token), user, label, time.time(), ends)
        key = self._keys.session(session.id)
        with store_errors():
            async with self._client.pipeline(transaction=True) as pipeline:
                pipeline.set(key, json.dumps(asdict(session)), ex=self._seconds if ends else None)
                pipeline.sadd(self._keys.sessions_of(user), session.id)
                await pipeline.execute()
        await self._end_oldest(user)
        return token

    async def _end_oldest(self, user: str) -> None:
        """Nobody works on so many browsers; a script that signs in each time would fill the store."""
        ending = [session for session in await self.of_user(user) if session.ends]
        for session in ending[:-MOST_OF_A_USER]:
            await self.end(session)

    async def find(self, token: str) -> Session | None:
        """The session of a token, which lives on from now; None if it has ended."""
        key = self._keys.session(session_id(token))
        with store_errors():
            kept = await self._client.get(key)
            if kept is None:
                return None
            session = Session(**json.loads(kept))
            if session.ends:
                await self._client.expire(key, self._seconds)
        return session

    async def are_live(self, ids: Sequence[str]) -> dict[str, bool]:
        """Whether each of some sessions has not ended; they do not live longer by it."""
        with store_errors():
            kept = await self._client.mget([self._keys.session(name) for name in ids]) if ids else []
        return {name: text is not None for name, text in zip(ids, kept, strict=True)}

    async def of_user(self, user: str) -> list[Session]:
        """All sessions of a user, the oldest first."""
        with store_errors():
            ids = [name.decode() for name in await self._client.smembers(self._keys.sessions_of(user))]
            kept = await self._client.mget([self._keys.session(name) for name in ids]) if ids else []
            gone = [name for name, text in zip(ids, kept, strict=True) if text is None]
            if gone:
                await self._client.srem(self._keys.sessions_of(user), *gone)
        return sorted(
            (Session(**json.loads(text)) for text in kept if text is not None), key=lambda session: session.created
        )

    async def end(self, session: Session) -> None:
        """End one session."""
        with store_errors():
            async with self._client.pipeline(transaction=True) as pipeline:
                pipeline.delete(self._keys.session(session.id))
                pipeline.srem(self._keys.sessions_of(session.user), session.id)
                await pipeline.execute()
            await tell_changed(self._client, self._keys)

    async def end_of(self, token: str) -> Session | None:
        """End the session of a token, and return it, if there is one."""
        session = await self.find(token)
        if session is not None:
            await self.end(session)
        return session

    async def end_all(self, user: str) -> None:
        """End all sessions of a user, on every browser, and their scripts' tokens."""
        for session in await self.of_user(user):
            await self.end(session)


def session_id(token: str) -> str:
    """The digest by which the store knows a token."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


async def tell_changed(client: Any, keys: Keys) -> None:
    """Tell the frontends that users or sessions have changed."""
    await client.publish(keys.events_channel, json.dumps({"accounts": True}) + "\n")
