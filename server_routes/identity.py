"""Who sends a request: by a session's cookie, a token, a password, or the word of a proxy that is trusted."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import redis.asyncio
from aiohttp import web

from ..accounts.activity import ActivityLog
from ..accounts.errors import AccountError, SignInFailed, UserUnknown
from ..accounts.sessions import Session, Sessions, session_id
from ..accounts.sign_in import SignIn
from ..accounts.users import User, Users
from ..job_queue.errors import QueueError, StoreUnavailable
from ..job_queue.keys import Keys
from ..settings import Settings

log = logging.getLogger("comfyume")

#: The one person of a workshop without users.
LOCAL_USER = "local"
#: Seconds for which what the store said of users and sessions is taken for true; changes are told at once.
FRESH = 30.0
#: Seconds for which it is while the store does not answer.
FRESH_WITHOUT_STORE = 3600.0
MOST_SESSIONS = 5_000
#: Seconds for which a store that did not answer is not asked again: each time may take as long as a request may wait.
PAUSE = 2.0
#: Seconds to wait for its word on a session that was known.
PATIENCE = 1.0


class NotSignedIn(Exception):
    """Somebody must sign in first; the message is for them."""


class NotAllowed(Exception):
    """Somebody who may not use this workshop, or not this way; the message is for them."""


@dataclass(frozen=True)
class Person:
    """Who sends a request.

    Attributes:
        by: how it is known: ``cookie``, ``token``, ``password``, ``proxy``, or ``local`` where nobody signs in.
        session: the session, if there is one.
        kept: what is kept of the password, if that was sent.
    """

    name: str
    is_instructor: bool
    by: str
    session: Session | None = None
    kept: str | None = None


@dataclass(frozen=True)
class _Kept:
    """A session as the store last told, by this process's clock in seconds.

    Attributes:
        seen: when it told.
        until: for so long it is not asked again, unless something changes.
        generation: counts the changes.
    """

    session: Session
    seen: float
    until: float
    generation: int


class Identity:
    """Knows the workshop's users and sessions, as the store last told."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys, settings: Settings, activity: ActivityLog) -> None:
        self.users = Users(client, keys)
        self.sessions = Sessions(client, keys, settings.session_hours)
        self.sign_in = SignIn(client, keys, self.users, activity)
        self.cookie = f"comfyume_{settings.workshop}"
        self._user_header = settings.user_header
        self._proxies = tuple(ipaddress.ip_network(text) for text in settings.trusted_proxies)
        self._known: dict[str, User] | None = None
        self._known_until = float("-inf")
        self._asked = self._told = 0
        self._reading: asyncio.Future[None] | None = None
        self._sessions: OrderedDict[str, _Kept] = OrderedDict()
        self._generation = 0

    def refresh(self) -> None:
        """Users or sessions have changed: ask the store anew."""
        self._known_until = float("-inf")
        self._generation += 1

    @property
    def has_users(self) -> bool:
        """Whether people sign in here, as far as is known."""
        return bool(self._known)

    async def who(self, request: web.Request) -> Person:
        """Who sends a request.

        Raises:
            NotSignedIn: nobody that is known.
            NotAllowed: somebody who may not.
            QueueError: the store does not tell.
        """
        users = await self._users()
        if not users:
            return self._local(request)
        if self._user_header and self._is_trusted(request.remote):
            names = request.headers.getall(self._user_header, [])
            if len(names) > 1:
                # One is the proxy's, and nobody can tell which.
                raise NotAllowed(f"The proxy lets {self._user_header} through, though it has to take it out.")
            if names and names[0]:
                return self._person(users, names[0].lower(), "proxy", None)
        kind, _, words = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() == "basic":
            user = await self._by_password(words, self.address_of(request))
            return Person(user.name, user.is_instructor, "password", kept=user.password)
        by, token = (
            ("token", words.strip()) if kind.lower() == "bearer" else ("cookie", request.cookies.get(self.cookie))
        )
        session = await self._session(token) if token else None
        if session is None:
            raise NotSignedIn("Sign in first." if not token else "You are not signed in any more. Sign in again.")
        return self._person(users, session.user, by, session)

    def is_user(self, name: str) -> bool:
        """Whether there is a user of this name, as far as is known."""
        return name in (self._known or {})

    def address_of(self, request: web.Request) -> str:
        """Where a request comes from: behind trusted proxies, the last address that is none of theirs."""
        # Some proxies add a line of their own behind those that people send.
        lines = ",".join(request.headers.getall("X-Forwarded-For", []))
        hops = [hop.strip() for hop in lines.split(",") if hop.strip()]
        address = request.remote or ""
        while hops and self._is_trusted(address):
            address = hops.pop()
        return address

    def is_secure(self, request: web.Request) -> bool:
        """Whether the browser reached this by TLS."""
        if self._is_trusted(request.remote) and "X-Forwarded-Proto" in request.headers:
            return request.headers["X-Forwarded-Proto"].lower() == "https"
        return request.secure

    async def _users(self) -> dict[str, User]:
        """The users, as last told; nobody waits for a store that hangs once they are known."""
        if self._known is None:
            return await self.read_users()
        if time.monotonic() > self._known_until and (self._reading is None or self._reading.done()):
            self._reading = asyncio.ensure_future(self._read_again())
        return self._known

    async def read_users(self) -> dict[str, User]:
        """The users, as the store tells now.

        Raises:
            QueueError: it does not.
        """
        self._asked += 1
        number = self._asked
        users = await self.users.all()
        if number > self._told:
            # No later answer has come first.
            self._told = number
            self._known, self._known_until = users, time.monotonic() + FRESH
        return users

    async def _read_again(self) -> None:
        try:
            await self.read_users()
        except QueueError as error:
            self._known_until = time.monotonic() + PAUSE
            log.debug("who the users are is not known anew: %s", error)

    async def _session(self, token: str) -> Session | None:
        name = session_id(token)
        kept = self._sessions.get(name)
        now, generation = time.monotonic(), self._generation
        if kept is not None and now < kept.until and kept.generation == generation:
            return kept.session
        try:
            asking = self.sessions.find(token)
            session = await (asking if kept is None else asyncio.wait_for(asking, PATIENCE))
        except (StoreUnavailable, asyncio.TimeoutError):
            # What people look at should not vanish with the store; what they send to it is refused there.
            if kept is None or now - kept.seen > FRESH_WITHOUT_STORE:
                raise
            self._sessions[name] = _Kept(kept.session, kept.seen, time.monotonic() + PAUSE, generation)
            return kept.session
        self._sessions.pop(name, None)
        if session is not None:
            self._sessions[name] = _Kept(session, now, now + FRESH, generation)
            while len(self._sessions) > MOST_SESSIONS:
                self._sessions.popitem(last=False)
        return session

    async def _by_password(self, words: str, address: str) -> User:
        try:
            name, _, password = base64.b64decode(words, validate=True).decode().partition(":")
        except ValueError as error:
            raise NotSignedIn("The Authorization header cannot be read.") from error
        try:
            return await self.sign_in.check_again(name, password, address)
        except (SignInFailed, UserUnknown) as error:
            raise NotSignedIn(str(error)) from error
        except AccountError as error:
            raise NotAllowed(str(error)) from error

    def _person(self, users: dict[str, User], name: str, by: str, session: Session | None) -> Person:
        user = users.get(name)
        if user is None and by == "proxy":
            raise NotAllowed(f"There is no user {name!r} in this workshop.")
        if user is None:
            raise NotSignedIn("You are not signed in any more. Sign in again.")
        return Person(user.name, user.is_instructor, by, session)

    def _local(self, request: web.Request) -> Person:
        # A proxy on this machine brings requests from others, and tells so.
        is_forwarded = any(name in request.headers for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP"))
        if is_forwarded or (request.remote is not None and not _is_loopback(request.remote)):
            raise NotAllowed(
                "This workshop has no users yet, so it answers to its own machine alone. "
                "Open it there, or through an SSH tunnel to it, or add users: comfyume users add NAME --instructor"
            )
        return Person(LOCAL_USER, True, "local")

    def _is_trusted(self, address: str | None) -> bool:
        return bool(self._proxies) and _is_in(address or "", self._proxies)


def _is_in(address: str, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return any(parsed in network for network in networks)


@lru_cache(maxsize=1_000)
def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        # A unix socket has no address.
        return host == ""
