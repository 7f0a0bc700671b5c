"""Checking a name and a password, slowly for who fails often."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections import OrderedDict
from dataclasses import replace
from typing import Any

import redis.asyncio

from ..job_queue.connection import store_errors
from ..job_queue.keys import Keys
from . import passwords
from .activity import NOBODY, ActivityLog
from .errors import Busy, NameRefused, SignInFailed, TooManyFailures, UserUnknown
from .users import User, Users, checked_name

#: Failures within `WINDOW` seconds after which one name from one address waits.
MOST_FAILURES = 5
#: The same for all names from one address: a room of two hundred may sit behind one, and sign in at once.
MOST_OF_AN_ADDRESS = 300
#: And for one name from all addresses.
MOST_OF_A_NAME = 200
WINDOW = 60
#: Hashes that are made at once: each takes a core and 32 MiB.
AT_ONCE = 2
#: Checks that wait for one another; a room of two hundred that signs in at once takes 20 s.
MOST_WAITING = 200
#: Passwords of scripts that are remembered as right, by a keyed digest, so that not each request costs a hash.
MOST_REMEMBERED = 1_000

WRONG = "The name or the password is wrong."


class SignIn:
    """Checks passwords. Every method raises what ``store_errors`` names."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys, users: Users, activity: ActivityLog) -> None:
        self._client: Any = client
        self._activity = activity
        self._keys = keys
        self._users = users
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._nobody: str | None = None
        self._digest_key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, str] = OrderedDict()
        self._under_way: dict[bytes, asyncio.Future[User]] = {}
        self._waiting = 0

    async def check(self, name: str, password: str, address: str) -> User:
        """The user whose name and password these are, with what is kept of the password now.

        Args:
            address: where the request comes from.

        Raises:
            SignInFailed: they are nobody's.
            TooManyFailures: too many were wrong lately, so they are not looked at.
            Busy: too many others are being looked at.
        """
        name = _name(name)
        counters = [
            (self._keys.failures(f"{name} from {address}"), MOST_FAILURES),
            (self._keys.failures(f"from {address}"), MOST_OF_AN_ADDRESS),
            (self._keys.failures(name), MOST_OF_A_NAME),
        ]
        if self._waiting >= MOST_WAITING:
            raise Busy("Many people are signing in. Try again in a few seconds.")
        self._waiting += 1
        try:
            await self._count_attempt(counters)
            user = await self._checked(name, password, address)
        finally:
            self._waiting -= 1
        await self._take_back_attempt([key for key, _ in counters])
        self._activity.note(user.name, "sign-in", address=address)
        return user

    async def check_again(self, name: str, password: str, address: str) -> User:
        """As ``check``, for who sends the password with every request: it is hashed once, then remembered."""
        name = _name(name)
        digest = hmac.digest(self._digest_key, f"{name}\0{password}".encode(errors="surrogatepass"), hashlib.sha256)
        kept = self._right.get(digest)
        if kept is not None:
            user = await self._users.get(name)
            if user.password == kept:
                self._right.move_to_end(digest)
                return user
        # Requests of one script come several at once; they are one attempt.
        if digest not in self._under_way:
            check = asyncio.ensure_future(self.check(name, password, address))
            self._under_way[digest] = check
            check.add_done_callback(lambda done: (self._under_way.pop(digest), done.cancelled() or done.exception()))
        user = await asyncio.shield(self._under_way[digest])
        self._right[digest] = user.password
        while len(self._right) > MOST_REMEMBERED:
            self._right.popitem(last=False)
        return user

    async def _checked(self, name: str, password: str, address: str) -> User:
        try:
            user = await self._users.get(name)
        except UserUnknown:
            # It takes as long for a name that does not exist.
            await self._matches(password, await self._nobodys())
            self._activity.note(NOBODY, "sign-in failed", address=address)
            raise SignInFailed(WRONG) from None
        if not await self._matches(password, user.password):
            self._activity.note(user.name, "sign-in failed", address=address)
            raise SignInFailed(WRONG)
        return user if passwords.is_current(user.password) else await self._improve(user, password)

    async def _matches(self, password: str, kept: str) -> bool:
        async with self._slots:
            return await asyncio.to_thread(passwords.matches, password, kept)

    async def _nobodys(self) -> str:
        if self._nobody is None:
            async with self._slots:
                self._nobody = await asyncio.to_thread(passwords.hashed, secrets.token_urlsafe(16))
        return self._nobody

    async def _improve(self, user: User, password: str) -> User:
        async with self._slots:
            better = await asyncio.to_thread(passwords.hashed, password)
        await self._users.improve_hash(user, better)
        return replace(user, password=better)

    async def _count_attempt(self, counters: list[tuple[str, int]]) -> None:
        """Count an attempt before it is looked at, so that many at once are not all let through."""
        with store_errors():
            async with self._client.pipeline(transaction=True) as pipeline:
                for key, _ in counters:
                    pipeline.set(key, 0, ex=WINDOW, nx=True)
                    pipeline.incr(key)
                    pipeline.ttl(key)
                replies = await pipeline.execute()
        for index, (_, most) in enumerate(counters):
            count, seconds = replies[3 * index + 1 : 3 * index + 3]
            if count > most:
                raise TooManyFailures(max(1, seconds))

    async def _take_back_attempt(self, keys: list[str]) -> None:
        """It was none of the failures that are counted."""
        with store_errors():
            async with self._client.pipeline(transaction=True) as pipeline:
                for key in keys:
                    # Without a time one that was over meanwhile would be kept for ever.
                    pipeline.set(key, 0, ex=WINDOW, nx=True)
                    pipeline.decr(key)
                await pipeline.execute()


def _name(text: str) -> str:
    """The name as it is kept; nobody's if it is none."""
    try:
        return checked_name(text)
    except NameRefused:
        return ""
