"""Fills this machine's models: in the order of need, several at once, from the nearest place that has each."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..blobs.digest import Digest
from ..blobs.errors import BlobError
from .errors import Damaged, ModelError, NoRoom, NotAsked
from .fetching import fetch
from .here import LocalModels
from .locating import Located
from .names import SAFETENSORS
from .places import Offer, Place
from .safetensors_file import check_whole
from .sources import SourceFile, Sources
from .unnamed import stand_in

Origin = tuple[Place, Offer] | SourceFile
"""Who has a model: a place with what it offers, or a source."""

AT_ONCE = 3
#: Bytes that stay free on the disk.
SPARE = 256 * 1024 * 1024


class Watch:
    """Is told how a pull goes, from any thread. This one does nothing with it."""

    def begins(self, files: int, size: int) -> None:
        """So many files will come, of which so many bytes are still to come."""

    def hashes(self, name: str, size: int) -> None:
        """A file of so many bytes is read, to know its hash."""

    def moved(self, name: str, count: int) -> None:
        """So many further bytes of a file have arrived."""

    def has_come(self, located: Located, where: str) -> None:
        """A file is in its place, from where it says."""

    def failed(self, located: Located, why: str) -> None:
        """A file cannot be had, or not from one of the places that have it."""


@dataclass
class Report:
    """What became of a pull.

    Attributes:
        come: what has come now, with the name of where it came from.
        unnamed: those whose hash nobody had told: what they have is noted now.
        failed: what could not be had, with why.
    """

    come: dict[tuple[str, str], str] = field(default_factory=dict)
    unnamed: list[tuple[str, str]] = field(default_factory=list)
    failed: dict[tuple[str, str], str] = field(default_factory=dict)


class _Stopped(Exception):
    """The pull has ended, so a transfer in a thread ends too."""


class Pull:
    """One pull.

    Args:
        sources: None fetches nothing from the internet.
        at_once: files on their way at a time.
        replace: whether another file that is here under a model's name may be replaced.
    """

    def __init__(
        self,
        here: LocalModels,
        sources: Sources | None,
        *,
        watch: Watch | None = None,
        at_once: int = AT_ONCE,
        replace: bool = False,
    ) -> None:
        self._here = here
        self._sources = sources
        self._watch = watch or Watch()
        self._at_once = at_once
        self._replace = replace
        self._stop = threading.Event()
        self._report = Report()
        self._coming: dict[str, asyncio.Lock] = {}
        self._placed: dict[str, Path] = {}

    async def run(self, located: Sequence[Located]) -> Report:
        """Bring what is not here, in this order. What cannot be had does not keep the others from coming.

        Raises:
            NoRoom: it does not fit on the disk, and nothing was fetched.
            PullUnderWay: another process fills the folder.
        """
        with self._here.locked():
            return await self._run(located)

    async def _run(self, located: Sequence[Located]) -> Report:
        self._here.tidy()
        for each in located:
            if each.problems and (each.is_here or not each.can_be_had):
                self._fail(each, " ".join(each.problems))
        wanted = [each for each in located if not each.is_here and each.can_be_had]
        self._watch.begins(len(wanted), await asyncio.to_thread(self._check_room, wanted))
        waiting = iter(wanted)

        async def work() -> None:
            with contextlib.suppress(_Stopped):
                for each in waiting:
                    await self._bring(each)

        workers = [asyncio.create_task(work()) for _ in range(min(self._at_once, len(wanted)))]
        try:
            if workers:
                done, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
                for worker in done:
                    worker.result()
        finally:
            # A worker that gets its bytes in the moment of its cancellation may miss it, and then sees this.
            self._stop.set()
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return self._report

    def _check_room(self, wanted: Sequence[Located]) -> int:
        """How many bytes are still to come. Raises `NoRoom`."""
        needed = sum(max(0, (each.size or 0) - self._arrived(each)) for each in wanted)
        free = max(0, shutil.disk_usage(self._here.root).free - SPARE)
        if needed > free:
            raise NoRoom(len(wanted), needed, self._here.root, free)
        return needed

    def _arrived(self, each: Located) -> int:
        """Bytes that an earlier pull has left, at least."""
        sha256 = each.sha256
        if not sha256 and each.sources:
            sha256 = stand_in(f"{each.sources[0].url} {each.sources[0].tag}", each.sources[0].size).sha256
        return self._here.staging.partial_length(sha256) if sha256 else 0

    async def _bring(self, each: Located) -> None:
        reasons = list(each.problems)
        origins: list[Origin] = [*each.places, *each.sources]
        for origin in origins:
            if await self._came_from(origin, each, reasons):
                return
        # What a place has lost, or another address has spoiled, may still be had from the next one.
        asked = each.need.urls.index(each.sources[-1].url) + 1 if each.sources else 0
        for url in each.need.urls[asked:] if self._sources is not None else ():
            file = await self._asked(url, each, reasons)
            if file is not None and await self._came_from(file, each, reasons):
                return
        self._fail(each, " ".join(reasons))

    async def _came_from(self, origin: Origin, each: Located, reasons: list[str]) -> bool:
        """Bring a model from one of those that have it; why not, where it cannot be."""
        where = origin.url if isinstance(origin, SourceFile) else origin[0].name
        # One content under two names comes once.
        content = _promised(each, origin) or (where if isinstance(origin, SourceFile) else f"{where}/{each.need.path}")
        try:
            async with self._coming.setdefault(content, asyncio.Lock()):
                if content in self._placed:
                    path = self._placed[content]
                    await asyncio.to_thread(self._here.place_again, path, *each.need.key, replace=self._replace)
                else:
                    digest = await self._transfer(each, origin)
                    self._placed[content] = await asyncio.to_thread(self._place, each, digest, origin)
        except (ModelError, BlobError, OSError) as error:
            reasons.append(str(error))
            return False
        self._report.come[each.need.key] = where
        self._watch.has_come(each, where)
        return True

    async def _asked(self, url: str, each: Located, reasons: list[str]) -> SourceFile | None:
        """What a further address has, if that can be what is wanted."""
        if self._sources is None:
            return None
        try:
            file = await self._sources.ask(url)
        except ModelError as error:
            reasons.append(str(error))
            return None
        wanted = each.need.sha256 or next((offer.sha256 for _, offer in each.places if offer.sha256), file.sha256)
        return SourceFile(file.url, file.size, wanted, file.tag) if file.sha256 in ("", wanted) else None

    async def _transfer(self, each: Located, origin: Origin) -> Digest:
        def moved(count: int) -> None:
            if self._stop.is_set():
                raise _Stopped
            self._watch.moved(each.need.path, count)

        if isinstance(origin, SourceFile):
            if self._sources is None:
                raise NotAsked(*each.need.key)
            return await fetch(self._sources, origin, self._here.staging, moved)
        place, offer = origin
        return await asyncio.to_thread(place.bring, offer, self._here.staging, moved)

    def _place(self, each: Located, digest: Digest, origin: Origin) -> Path:
        wanted = _promised(each, origin)
        if wanted and digest.sha256 != wanted:
            self._here.staging.discard(digest.sha256)
            raise Damaged(each.need.path, f"it has the hash {digest.sha256} instead of {wanted}")
        arrived = self._here.staging.path(digest.sha256)
        if arrived is not None and each.need.name.lower().endswith(SAFETENSORS):
            try:
                check_whole(arrived, each.need.path)
            except Damaged:
                self._here.staging.discard(digest.sha256)
                raise
        if isinstance(origin, SourceFile):
            url, is_unnamed = origin.url, not origin.sha256
        else:
            url, is_unnamed = origin[1].url, not origin[1].sha256
        if is_unnamed and not wanted:
            self._report.unnamed.append(each.need.key)
        return self._here.place(digest, *each.need.key, url=url, replace=self._replace)

    def _fail(self, each: Located, why: str) -> None:
        self._report.failed[each.need.key] = why
        self._watch.failed(each, why)


def _promised(each: Located, origin: Origin) -> str:
    """The hash that what comes from there must have; empty where nobody knows it."""
    own = origin.sha256 if isinstance(origin, SourceFile) else origin[1].sha256
    return each.need.sha256 or own or next((offer.sha256 for _, offer in each.places if offer.sha256), "")
