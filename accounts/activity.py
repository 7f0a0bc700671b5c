"""The activity log: who did what, for the instructor. A bounded stream in the store."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis.asyncio

from ..job_queue.connection import store_errors
from ..job_queue.errors import QueueError
from ..job_queue.keys import Keys

log = logging.getLogger("comfyume")

#: Entries that are kept, the latest ones; the store may keep some hundred more.
MOST_ENTRIES = 20_000
#: Seconds for which they are kept when nobody does anything.
KEEP = 90 * 24 * 3600
#: Entries that wait for the store; while it is away, further ones are lost.
MOST_WAITING = 5_000
#: Seconds in which entries gather, to be written at once.
PAUSE = 0.2
#: Entries that are read at once.
MOST_READ = 1_000
#: Who acts by the command line, which asks for no name. No user's name has a space.
COMMAND_LINE = "command line"
#: Who fails to sign in, by a name that is nobody's: it may be a password in the wrong field, so it is not kept.
NOBODY = ""


@dataclass(frozen=True)
class Entry:
    """One thing that somebody did.

    Attributes:
        id: orders the entries, and goes on from there when more are read.
        at: when, in seconds since 1970 by the store's clock.
        who: name of the user, ``COMMAND_LINE`` or ``NOBODY``.
        what: ``sign-in``, ``submit``, ``cancel``, ...
        details: what it concerns, as in ``{"job": id}``.
    """

    id: str
    at: float
    who: str
    what: str
    details: Mapping[str, Any]


class ActivityLog:
    """Writes and reads the log."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        # The library types replies as text or bytes; without a decoder they are bytes.
        self._client: Any = client
        self._key = keys.activity
        self._waiting: deque[tuple[str, str, str]] = deque()
        self._more = asyncio.Event()

    def note(self, who: str, what: str, **details: Any) -> None:
        """Note something soon; nobody waits for it."""
        if len(self._waiting) >= MOST_WAITING:
            log.warning("[comfyume] the activity log has lost %s of %s, since the store is away", what, who)
            return
        self._waiting.append((who, what, json.dumps(details)))
        self._more.set()

    async def run(self) -> None:
        """Write what is noted, until cancelled."""
        while True:
            await self._more.wait()
            await asyncio.sleep(PAUSE)
            try:
                await self.flush()
            except QueueError as error:
                log.debug("the activity log is not written: %s", error)
                await asyncio.sleep(1.0)

    async def flush(self) -> None:
        """Write what is noted now. Raises what ``store_errors`` names; then it is still noted."""
        self._more.clear()
        entries = list(self._waiting)
        if not entries:
            return
        try:
            with store_errors():
                pipeline = self._client.pipeline(transaction=True)
                for who, what, details in entries:
                    fields = {"who": who, "what": what, "details": details}
                    pipeline.xadd(self._key, fields, maxlen=MOST_ENTRIES, approximate=True)
                pipeline.expire(self._key, KEEP)
                await pipeline.execute()
        except QueueError:
            self._more.set()
            raise
        for _ in entries:
            self._waiting.popleft()

    async def read(self, *, most: int = 100, before: str | None = None, who: str | None = None) -> list[Entry]:
        """The latest entries, the newest first. Raises what ``store_errors`` names.

        Args:
            most: how many, up to ``MOST_READ``.
            before: id of an entry; those before it are read.
            who: of this user alone.
        """
        most = min(most, MOST_READ)
        if before is not None and not before.strip("0-"):
            # Before the first id there is nothing, and the store takes that for a mistake.
            return []
        found: list[Entry] = []
        end = f"({before}" if before else "+"
        while len(found) < most:
            with store_errors():
                rows = await self._client.xrevrange(self._key, end, "-", count=MOST_READ)
            entries = [_entry(*row) for row in rows]
            found += [entry for entry in entries if who in (None, entry.who)]
            if len(rows) < MOST_READ:
                break
            end = f"({entries[-1].id}"
        return found[:most]


def _entry(name: bytes, fields: dict[bytes, bytes]) -> Entry:
    milliseconds = name.partition(b"-")[0]
    return Entry(
        name.decode(),
        int(milliseconds) / 1000,
        fields[b"who"].decode(),
        fields[b"what"].decode(),
        json.loads(fields[b"details"]),
    )
