"""How a server answered a transfer, and how long the worker's side goes on trying."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from dataclasses import dataclass
from json import JSONDecodeError
from typing import Any

import aiohttp
from aiohttp import hdrs

from .errors import NotEnoughSpace, TransferFailed

_BACKOFF_SECONDS = 0.25
_BACKOFF_LONGEST_SECONDS = 10.0
_RETRIED_STATUSES = frozenset({408, 416, 425, 429})
_UNAVAILABLE = 503
_FULL = 507


@dataclass(frozen=True)
class Reply:
    """How a server answered, apart from the body of a download."""

    status: int
    body: dict[str, Any]
    retry_after: float

    @property
    def reason(self) -> str:
        """Why it did not take or give what was asked, for people."""
        return f"HTTP {self.status}, {self.body.get('error') or 'no explanation'}"

    @property
    def offset(self) -> int | None:
        """From which byte on it wants the file; None where it does not say."""
        offset = self.body.get("offset")
        return offset if isinstance(offset, int) and offset >= 0 else None

    @classmethod
    async def read(cls, response: aiohttp.ClientResponse) -> Reply:
        """Read a reply that is not a file. A body that is no JSON object, as a proxy's page, counts as none."""
        body: Any = None
        if response.content_type == "application/json":
            with suppress(JSONDecodeError, UnicodeDecodeError):
                body = await response.json()
        retry_after = response.headers.get(hdrs.RETRY_AFTER, "")
        return cls(
            response.status,
            body if isinstance(body, dict) else {},
            float(min(int(retry_after), 30)) if retry_after.isascii() and retry_after.isdigit() else 0.0,
        )


class Patience:
    """Counts the failures in a row and waits longer after each; progress starts the count anew."""

    def __init__(self, action: str, url: str, size: int, retries: int, away: float) -> None:
        self._action = action
        self._url = url
        self._size = size
        self._retries = retries
        self._away = away
        self._away_until: float | None = None
        self._failures = 0
        self._furthest = 0

    def note(self, position: int) -> None:
        """Tell how many bytes are across."""
        if position > self._furthest:
            self._furthest = position
            self._failures = 0
            self._away_until = None

    async def wait(self, reason: str, status: int | None = None, at_least: float = 0.0) -> None:
        """Wait before the next attempt. Raises `TransferFailed` when there have been enough."""
        self._failures += 1
        if self._failures > self._retries:
            raise self.failed(reason, "Check the connection to the server and its log, then run the job again.", status)
        longest = min(_BACKOFF_SECONDS * 2 ** (self._failures - 1), _BACKOFF_LONGEST_SECONDS)
        await asyncio.sleep(max(at_least, longest * random.uniform(0.5, 1.0)))  # noqa: S311

    async def wait_after(self, error: BaseException) -> None:
        """Wait after a connection broke, or could not be made: for a server that is away for longer."""
        if isinstance(error, aiohttp.ClientConnectorError):
            await self._wait_for_its_return(_describe(error))
        else:
            await self.wait(_describe(error))

    async def _wait_for_its_return(self, reason: str, status: int | None = None, at_least: float = 0.0) -> None:
        now = time.monotonic()
        if self._away_until is None:
            self._away_until = now + self._away
        if now >= self._away_until:
            advice = "Check the connection to the server and its log, then run the job again."
            raise self.failed(reason, advice, status)
        self._failures = min(self._failures, self._retries - 1)
        await self.wait(reason, status, at_least)

    async def wait_or_give_up(self, reply: Reply) -> None:
        """Wait after a refusal that may pass; raise `NotEnoughSpace` or `TransferFailed` for one that will not."""
        if reply.status == _FULL:
            raise NotEnoughSpace(f"the server's folder behind {self._url}", self._size - self._furthest)
        if reply.status == _UNAVAILABLE:
            # A frontend whose store is away cannot look up the claim.
            return await self._wait_for_its_return(reply.reason, reply.status, reply.retry_after)
        if reply.status in _RETRIED_STATUSES or reply.status >= 500:
            return await self.wait(reply.reason, reply.status, reply.retry_after)
        raise self.failed(reply.reason, "The server will not change its mind: see its log for why.", reply.status)

    def failed(self, reason: str, advice: str, status: int | None = None) -> TransferFailed:
        """The error to raise."""
        return TransferFailed(self._action, self._url, reason, advice, status)


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__} {error}".strip()
