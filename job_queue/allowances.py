"""What people may use of the workshop, and have used: limits, GPU time, credits. For the event loop."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import redis.asyncio

from .connection import store_errors
from .jobs import GIB
from .keys import Keys
from .scripts import AsyncScripts

#: One credit pays for so many milliseconds of GPU time.
CREDIT_MS = 60_000
#: Takes a person's own limit away, so that that of all holds.
USUAL: Literal["usual"] = "usual"
Change = float | None | Literal["usual"]

#: How much one unit of each limit is in the store.
_UNITS = {
    "per_person": 1.0,
    "per_minute": 1.0,
    "gpu_day": 60_000.0,
    "gpu_workshop": 60_000.0,
    "credits_hour": float(CREDIT_MS),
    "disk": float(GIB),
}


@dataclass(frozen=True)
class Limits:
    """What one person may use; None for no limit.

    Attributes:
        per_person: prompts that have not ended.
        per_minute: prompts queued within a minute.
        gpu_day: GPU minutes within 24 hours.
        gpu_workshop: GPU minutes in all.
        credits_hour: credits that each hour brings; a credit is a minute of GPU time. None: nobody counts credits.
        disk: GiB that their files may take.
    """

    per_person: float | None = None
    per_minute: float | None = None
    gpu_day: float | None = None
    gpu_workshop: float | None = None
    credits_hour: float | None = None
    disk: float | None = None


#: Those that count whole things.
COUNTED = ("per_person", "per_minute")
LIMIT_NAMES = tuple(field.name for field in fields(Limits))


@dataclass(frozen=True)
class Allowance:
    """What one person may use, and has used.

    Attributes:
        own: names of the limits that are not those of all.
        queued: prompts that have not ended.
        gpu_day: GPU minutes used within 24 hours.
        gpu_workshop: GPU minutes used in all.
        booked: GPU minutes that their queued and running prompts are expected to take.
        credits: what is left of them, what is booked included; None where nobody counts them.
    """

    limits: Limits
    own: frozenset[str]
    queued: int
    gpu_day: float
    gpu_workshop: float
    booked: float
    credits: float | None


class Allowances:
    """Limits, GPU time and credits in the store. Every method raises what ``store_errors`` names."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        self._client: Any = client
        self._keys = keys
        self._scripts = AsyncScripts(client)

    async def of(self, users: Sequence[str]) -> dict[str, Allowance]:
        """The allowances of some people."""
        if not users:
            return {}
        told = json.loads(await self._run("allowances", *users))
        return {user: _allowance(row) for user, row in zip(users, told, strict=True)}

    async def limits(self) -> Limits:
        """The limits of all who have none of their own."""
        with store_errors():
            kept = await self._client.hmget(self._keys.policy, LIMIT_NAMES)
        return Limits(
            **{name: float(text) / _UNITS[name] if text else None for name, text in zip(LIMIT_NAMES, kept, strict=True)}
        )

    async def disk_limit(self, user: str) -> int | None:
        """How many bytes a person's files may take."""
        limit = (await self.of([user]))[user].limits.disk
        return None if limit is None else round(limit * _UNITS["disk"])

    async def set_limits(self, changes: Mapping[str, float | None]) -> None:
        """Change the limits of all; None takes one away."""
        await self._run("configure", "set", *_words(changes))

    async def set_own_limits(self, user: str, changes: Mapping[str, Change]) -> None:
        """Give a person limits of their own; ``USUAL`` gives back that of all."""
        await self._run("set_limits", user, *_words(changes))

    async def grant(self, user: str, credits_: float, grant: str | None = None) -> None:
        """Give a person credits, or take some back.

        Args:
            grant: names this grant, so that asking again for the same one changes nothing.
        """
        await self._run("grant", user, str(round(credits_ * CREDIT_MS)), grant or secrets.token_hex(16))

    async def _run(self, script: str, *arguments: Any) -> Any:
        with store_errors():
            # Not by a line of its own, of which a client has only so many: nobody presses Run here.
            return await self._scripts[script](keys=[self._keys.prefix], args=list(arguments))


def _words(changes: Mapping[str, Change]) -> Iterable[str]:
    for name, value in changes.items():
        yield name
        if value is None or value == USUAL:
            yield value or ""
        else:
            yield f"{float(value) * _UNITS[name]:.0f}"


def _allowance(row: dict[str, Any]) -> Allowance:
    minute = _UNITS["gpu_day"]
    credit_ms = row.get("credits")
    return Allowance(
        Limits(**{name: amount / _UNITS[name] for name, amount in dict(row["limits"]).items()}),
        frozenset(row["own"]),
        int(row["queued"]),
        row["day"] / minute,
        row["total"] / minute,
        row["booked"] / minute,
        None if credit_ms is None else credit_ms / CREDIT_MS,
    )
