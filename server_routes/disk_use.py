"""How much of the disk a person's files take, where somebody has set a limit to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from ..comfyui_seams import user_files
from ..job_queue.allowances import Allowances
from ..job_queue.errors import NoRoom
from .people import People, data_user

#: Seconds for which a limit, and a size below it, are taken for true.
FRESH_LIMIT = 5.0
FRESH_SIZE = 60.0
#: Seconds for which a size beyond the limit is: whoever has deleted files wants to go on.
FRESH_WHEN_FULL = 2.0
MOST_KNOWN = 1_000


@dataclass
class _Known:
    """What is known of a person's disk, in bytes and by this process's clock in seconds."""

    limit: int | None = None
    limit_seen: float = float("-inf")
    size: int = 0
    size_seen: float = float("-inf")


class DiskUse:
    """Measures folders in threads, and not again for each request."""

    def __init__(self, people: People, allowances: Allowances) -> None:
        self._people = people
        self._allowances = allowances
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def used(self, user: str) -> int | None:
        """Bytes that a person's files take; None where there is no limit.

        Raises:
            StoreUnavailable, StoreRefused: see ``store_errors``.
        """
        known = self._of(user)
        if time.monotonic() - known.limit_seen > FRESH_LIMIT:
            known.limit = await self._allowances.disk_limit(user)
            known.limit_seen = time.monotonic()
        if known.limit is None:
            return None
        fresh = FRESH_WHEN_FULL if known.size >= known.limit else FRESH_SIZE
        if time.monotonic() - known.size_seen > fresh:
            known.size = await self.measure(user)
            known.size_seen = time.monotonic()
        return known.size

    async def make_room(self, user: str, size: int) -> None:
        """Let a person keep so many bytes more.

        Raises:
            NoRoom: they would be over their limit.
            StoreUnavailable, StoreRefused: see ``store_errors``.
        """
        used = await self.used(user)
        known = self._of(user)
        if used is None or known.limit is None:
            return
        if used + size > known.limit:
            raise NoRoom("disk", known.limit, used)
        known.size += size

    def look_again(self, user: str) -> None:
        """Measure a person's files anew when it matters next: what there was to be room for has not come."""
        self._of(user).size_seen = float("-inf")

    async def measure(self, user: str) -> int:
        """Bytes that a person's files take now."""
        data = user_files.folder_of(data_user(user))
        models = self._people.shelves.folder_of(user)
        folders = [*(path for _, path in self._people.folders_of(user)), models, *([data] if data is not None else [])]
        return await asyncio.to_thread(lambda: sum(size_of(str(folder)) for folder in folders))

    def _of(self, user: str) -> _Known:
        known = self._known.setdefault(user, _Known())
        self._known.move_to_end(user)
        while len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return known


def size_of(folder: str) -> int:
    """Bytes of all files below a folder, as they are written; blocking. What links lead to is not counted."""
    total = 0
    waiting = [folder]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            total += _size_of_files(entries, waiting)
    return total


def _size_of_files(entries: Iterable[os.DirEntry[str]], folders: list[str]) -> int:
    total = 0
    for entry in entries:
        # It may be deleted at this moment.
        with contextlib.suppress(OSError):
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif entry.is_file(follow_symlinks=False):
                total += entry.stat(follow_symlinks=False).st_size
    return total
