"""The users of a workshop: a name, a role, and what is kept of the password."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import redis.asyncio
import redis.exceptions

from ..job_queue.connection import store_errors
from ..job_queue.keys import Keys
from .errors import NameRefused, UserExists, UserUnknown
from .sessions import Sessions, tell_changed

Role = Literal["participant", "instructor"]
ROLES: tuple[Role, ...] = ("participant", "instructor")

#: A name is also that of a folder and part of an address, on systems that take upper case for lower case.
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._@-]{0,62}[a-z0-9])?")
#: So that `/name/` is nobody's but theirs: what addresses of ComfyUI and of this extension begin with.
ADDRESSES = {
    *("api", "assets", "comfyume", "cursor", "docs", "embeddings", "experiment", "extensions", "features", "fonts"),
    *("free", "global_subgraphs", "history", "i18n", "internal", "interrupt", "jobs", "lib", "models", "object_info"),
    *("node_replacements", "prompt", "queue", "scripts", "settings", "system_stats", "tags", "templates", "upload"),
    *("user", "userdata", "users", "v2", "view", "view_metadata", "workflow_templates", "ws"),
}
#: ComfyUI's own user, who works where nobody needs to sign in.
OWN_USERS = {"default", "local"}
#: What Windows takes for devices, with any ending.
DEVICES = {*("con", "prn", "aux", "nul"), *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))}
#: Most users that one range of names makes.
MOST_OF_A_RANGE = 1000


@dataclass(frozen=True)
class User:
    """One user.

    Attributes:
        password: what is kept of it, see ``passwords``.
        created: seconds since 1970.
    """

    name: str
    role: Role
    password: str
    created: float

    @property
    def is_instructor(self) -> bool:
        """Whether this user administers the workshop."""
        return self.role == "instructor"


def checked_name(text: str) -> str:
    """The name of a user as it is kept; upper and lower case are the same.

    Raises:
        NameRefused: it is none.
    """
    name = text.strip().lower()
    is_taken = name in ADDRESSES or name in OWN_USERS or name.partition(".")[0] in DEVICES
    if not _NAME.fullmatch(name) or ".." in name or is_taken:
        raise NameRefused(
            f"{text!r} is no name for a user: use 1 to 64 letters a-z, digits and .-_@ between them, such as user007 "
            "or ada@example.org."
        )
    return name


def names_of(text: str) -> list[str]:
    """The names that ``user001..user020`` stands for, or the one name.

    Raises:
        NameRefused: an end of the range is no name, or they do not belong together.
    """
    first, dots, last = text.partition("..")
    if not dots:
        return [checked_name(text)]
    ends = [re.fullmatch(r"(.*?)(\d+)", checked_name(end)) for end in (first, last)]
    if ends[0] is None or ends[1] is None or ends[0][1] != ends[1][1]:
        raise NameRefused(f"{text!r} is no range of names: write it as user001..user020.")
    numbers = range(int(ends[0][2]), int(ends[1][2]) + 1)
    if not 0 < len(numbers) <= MOST_OF_A_RANGE:
        raise NameRefused(f"{text!r} stands for {len(numbers)} names: make it 1 to {MOST_OF_A_RANGE}.")
    return [checked_name(f"{ends[0][1]}{number:0{len(ends[0][2])}d}") for number in numbers]


class Users:
    """The users in the store. Every method raises what ``store_errors`` names."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        # The library types replies as text or bytes; without a decoder they are bytes.
        self._client: Any = client
        self._keys = keys
        self._sessions = Sessions(client, keys)

    async def all(self) -> dict[str, User]:
        """All users by name, in alphabetical order."""
        with store_errors():
            kept = await self._client.hgetall(self._keys.users)
        users = (_read(text) for text in kept.values())
        return {user.name: user for user in sorted(users, key=lambda user: user.name)}

    async def get(self, name: str) -> User:
        """One user.

        Raises:
            UserUnknown: there is none of this name.
        """
        with store_errors():
            kept = await self._client.hget(self._keys.users, name)
        if kept is None:
            raise UserUnknown(f"There is no user {name!r}.")
        return _read(kept)

    async def add(self, name: str, role: Role, password_hash: str) -> User:
        """Add a user.

        Raises:
            UserExists: there is one of this name.
        """
        user = User(checked_name(name), role, password_hash, time.time())
        with store_errors():
            is_new = await self._client.hsetnx(self._keys.users, user.name, json.dumps(asdict(user)))
        if not is_new:
            raise UserExists(f"There is a user {user.name!r} already.")
        await self._tell()
        return user

    async def set_password(self, name: str, password_hash: str) -> None:
        """Change a password; whoever is signed in with the old one is not any more.

        Raises:
            UserUnknown: there is no user of this name.
        """
        await self._change(name, lambda user: replace(user, password=password_hash))
        await self._sessions.end_all(name)
        await self._tell()

    async def improve_hash(self, user: User, password_hash: str) -> None:
        """Keep the same password by another hash, unless it was changed meanwhile.

        Raises:
            UserUnknown: the user is gone.
        """
        await self._change(
            user.name, lambda now: replace(now, password=password_hash) if now.password == user.password else now
        )

    async def remove(self, name: str) -> None:
        """Remove a user, their limits, and end their sessions; their files stay.

        Raises:
            UserUnknown: there is no user of this name.
        """
        with store_errors():
            if not await self._client.hdel(self._keys.users, name):
                raise UserUnknown(f"There is no user {name!r}.")
            await self._client.delete(self._keys.limits(name))
        await self._sessions.end_all(name)
        await self._tell()

    async def _change(self, name: str, change: Callable[[User], User]) -> None:
        with store_errors():
            async with self._client.pipeline(transaction=True) as pipeline:
                while True:
                    await pipeline.watch(self._keys.users)
                    kept = await pipeline.hget(self._keys.users, name)
                    if kept is None:
                        raise UserUnknown(f"There is no user {name!r}.")
                    pipeline.multi()
                    pipeline.hset(self._keys.users, name, json.dumps(asdict(change(_read(kept)))))
                    try:
                        await pipeline.execute()
                        return
                    except redis.exceptions.WatchError:
                        # Some user was changed at this moment; look again.
                        continue

    async def _tell(self) -> None:
        with store_errors():
            await tell_changed(self._client, self._keys)


def without(users: Iterable[User], role: Role) -> bool:
    """Whether nobody has this role."""
    return all(user.role != role for user in users)


def _read(kept: bytes) -> User:
    return User(**json.loads(kept))
