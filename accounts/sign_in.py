"""Checking a name and a password, slowly for who fails often."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections import OrderedDict
from typing import Any

import redis.asyncio

from ..job_queue.connection import store_errors
from ..job_queue.keys import Keys
from . import passwords
from .errors import NameRefused, SignInFailed, TooManyFailures, UserUnknown
from .users import User, Users, checked_name

#: Failures within `WINDOW` seconds after which one name from one address waits.
MOST_FAILURES = 5
#: The same for all names from one address: a whole room may sit behind one.
MOST_OF_AN_ADDRESS = 100
#: And for one name from all addresses.
MOST_OF_A_NAME = 50
WINDOW = 60
#: Hashes that are made at once: each takes a core and 32 MiB.
AT_ONCE = 2
#: Passwords of scripts that are remembered as right, by a keyed digest, so that not each request costs a hash.
MOST_REMEMBERED = 1_000

WRONG = "The name or the password is wrong."


class SignIn:
    """Checks passwords. Every method raises what ``store_errors`` names."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys, users: Users) -> None:
        self._client: Any = client
        self._keys = keys
        self._users = users
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._nobody: str | None = None
        self._digest_key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, str] = OrderedDict()

    async def check(self, name: str, password: str, address: str) -> User:
        """The user whose name and password these are.

        Args:
            address: where the request comes from.

        Raises:
            SignInFailed: they are nobody's.
            TooManyFailures: too many were wrong lately, so they are not looked at.
        """
        try:
            name = checked_name(name)
        except NameRefused:
            name = ""
        counters = [
            (self._keys.failures(f"{name} from {address}"), MOST_FAILURES),
            (self._keys.failures(f"from {address}"), MOST_OF_AN_ADDRESS),
            (self._keys.failures(name), MOST_OF_A_NAME),
        ]
        await self._refuse_too_many(counters)
        try:
            user = await self._users.get(name)
        except UserUnknown:
            user = None
        # It takes as long for a name that does not exist.
        if not await self._matches(password, user.password if user is not None else await self._nobodys()):
            user = None
        if user is None:
            await self._note_failure([key for key, _ in counters])
            raise SignInFailed(WRONG)
        if not passwords.is_current(user.password):
            await self._improve(user, password)
        return user

    async def check_again(self, name: str, password: str, address: str) -> User:
        """As ``check``, for who sends the password with every request: it is hashed once, then remembered."""
        digest = hmac.digest(self._digest_key, f"{name}\0{password}".encode(errors="surrogatepass"), hashlib.sha256)
        kept = self._right.get(digest)
        if kept is not None:
            user = await self._users.get(checked_name(name))
            if user.password == kept:
                self._right.move_to_end(digest)
                return user
        user = await self.check(name, password, address)
        self._right[digest] = (await self._users.get(user.name)).password
        while len(self._right) > MOST_REMEMBERED:
            self._right.popitem(last=False)
        return user

    async def _matches(self, password: str, kept: str) -> bool:
        async with self._slots:
            return await asyncio.to_thread(passwords.matches, password, kept)

    async def _nobodys(self) -> str:
        if self._nobody is None:
            async with self._slots:
                self._nobody = await asyncio.to_thread(passwords.hashed, secrets.token_urlsafe(16))
        return self._nobody

    async def _improve(self, user: User, password: str) -> None:
        async with self._slots:
            better = await asyncio.to_thread(passwords.hashed, password)
        await self._users.improve_hash(user, better)

    async def _refuse_too_many(self, counters: list[tuple[str, int]]) -> None:
        with store_errors():
            counts = await self._client.mget([key for key, _ in counters])
            for (key, most), count in zip(counters, counts, strict=True):
                if count is not None and int(count) >= most:
                    raise TooManyFailures(max(1, int(await self._client.ttl(key))))

    async def _note_failure(self, keys: list[str]) -> None:
        with store_errors():
            async with self._client.pipeline(transaction=True) as pipeline:
                for key in keys:
                    pipeline.set(key, 0, ex=WINDOW, nx=True)
                    pipeline.incr(key)
                await pipeline.execute()
