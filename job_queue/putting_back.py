"""Letting a copy of a workshop take its place: all of it at once, or nothing. Blocking functions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import redis

from .connection import store_errors
from .copies import OF_USERS, PASSING, STAYING, CopiedKey
from .copying import names_like
from .keys import Keys, named
from .scripts import Scripts

#: Keys that are written in one go.
AT_ONCE = 200
#: Fields or members that one command writes.
MOST_VALUES = 1_000
Group = Literal["users", "queue", "all"]


@dataclass(frozen=True)
class Held:
    """What a workshop holds that a copy in its place would end."""

    users: int
    live: int
    ended: int

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing of anybody."""
        return not (self.users or self.live or self.ended)


@dataclass(frozen=True)
class PutBack:
    """What is there now: queued jobs, and how many of them a worker had at the moment of the copy."""

    queued: int
    returned: int


class PuttingBack:
    """Replaces one workshop. Every method raises what ``store_errors`` names.

    Args:
        history_size, history_ms: as they hold for ended jobs from now on.
    """

    def __init__(self, client: redis.Redis, keys: Keys, history_size: int, history_ms: int) -> None:
        self._client: Any = client
        self._keys = keys
        self._history = (history_size, history_ms)
        self._scripts = Scripts(client)

    def held(self) -> Held:
        """What the workshop holds now."""
        with store_errors():
            users = int(self._client.hlen(self._keys.users))
            live = int(self._client.zcard(named(self._keys, "queued"))) + int(
                self._client.scard(named(self._keys, "running"))
            )
            ended = sum(
                int(self._client.zcard(named(self._keys, name)))
                for name in names_like(self._client, self._keys, "history:*")
            )
        return Held(users, live, ended)

    def put_back(self, copied: Iterable[CopiedKey], live: Sequence[str], taken: float, group: Group = "all") -> PutBack:
        """Let a copy take the workshop's place, or its part about users or about jobs.

        It is written beside it first, so one that was cut off has changed nothing, and the next begins anew.

        Args:
            live: ids of the jobs in it that have not ended.
            taken: when it was taken, in Unix seconds: what was to be kept for a day more then is kept for a day now.
        """
        belongs = _belongs(group)
        with store_errors():
            self._delete(names_like(self._client, self._keys, "restoring:*"))
            ttls = _Lifetimes(frozenset(live), taken, self._history[1])
            comes = self._write_beside((key for key in copied if belongs(key.kind)), ttls)
            kept = STAYING if group != "users" else STAYING | (PASSING - {"session", "sessions-of"})
            goes = [name for name in names_like(self._client, self._keys, "*") if _goes(name, group, kept)]
            queued, returned = self._scripts.run(
                "swap_in",
                self._keys.prefix,
                json.dumps(goes),
                json.dumps(comes),
                json.dumps(list(live) if group != "users" else []),
                *self._history,
            )
        return PutBack(int(queued), int(returned))

    def _write_beside(self, copied: Iterable[CopiedKey], ttls: _Lifetimes) -> list[str]:
        names: dict[str, None] = {}
        with self._client.pipeline(transaction=False) as pipeline:
            for key in copied:
                place = self._keys.restoring(key.name)
                WRITES[key.type](pipeline, place, key.value)
                if (ttl := ttls.of(key)) >= 0:
                    pipeline.pexpire(place, max(ttl, 1))
                names[key.name] = None
                if len(pipeline) >= AT_ONCE:
                    pipeline.execute()
            pipeline.execute()
        return list(names)

    def _delete(self, names: Sequence[str]) -> None:
        for start in range(0, len(names), AT_ONCE):
            self._client.unlink(*(named(self._keys, name) for name in names[start : start + AT_ONCE]))


@dataclass(frozen=True)
class _Lifetimes:
    """How long keys live, in milliseconds."""

    live: frozenset[str]
    taken: float
    history_ms: int

    def of(self, key: CopiedKey) -> int:
        """Of an ended job what was left at the moment of the copy, which is not kept with the job."""
        if key.kind == "history":
            return self.history_ms
        if key.kind != "job" or key.ttl >= 0 or key.name.partition(":")[2] in self.live:
            return key.ttl
        fields = dict(zip(key.value[::2], key.value[1::2], strict=True))
        age_ms = self.taken * 1000 - int(fields.get(b"finished", b"0"))
        return max(self.history_ms - int(age_ms), 1)


def _belongs(group: Group) -> Callable[[str], bool]:
    return lambda kind: group == "all" or (kind in OF_USERS) == (group == "users")


def _goes(name: str, group: Group, kept: frozenset[str]) -> bool:
    """Whether a key goes when the copy comes. Whoever is signed in is somebody of before, so sessions go with users."""
    kind = name.partition(":")[0]
    if kind in kept:
        return False
    if kind in ("session", "sessions-of"):
        return group != "queue"
    return _belongs(group)(kind)


def _pairs(value: Sequence[bytes], most: int = MOST_VALUES) -> Iterable[Sequence[bytes]]:
    for start in range(0, len(value), 2 * most):
        yield value[start : start + 2 * most]


def _write_hash(pipeline: Any, key: str, value: Sequence[bytes]) -> None:
    for some in _pairs(value):
        pipeline.hset(key, items=list(some))


def _write_zset(pipeline: Any, key: str, value: Sequence[bytes]) -> None:
    for some in _pairs(value):
        scores = zip(some[1::2], some[::2], strict=True)
        pipeline.execute_command("ZADD", key, *(each for pair in scores for each in pair))


def _write_stream(pipeline: Any, key: str, value: Sequence[Any]) -> None:
    for entry, fields in value:
        pipeline.execute_command("XADD", key, entry, *fields)


WRITES: dict[str, Any] = {
    "string": lambda pipeline, key, value: pipeline.set(key, value),
    "hash": _write_hash,
    "set": lambda pipeline, key, value: pipeline.sadd(key, *value),
    "zset": _write_zset,
    "list": lambda pipeline, key, value: pipeline.rpush(key, *value),
    "stream": _write_stream,
}
"""How each type of key is written."""
