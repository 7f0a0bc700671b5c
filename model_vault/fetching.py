"""Fetching one file from a source: resumed after a cut, by another process too, and checked by its hash."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import aiohttp
from aiohttp import hdrs

from ..blobs.arriving import ArrivingBlob, Stalled, TooMuch, receive_into
from ..blobs.digest import Digest
from ..blobs.errors import DigestMismatch, NotEnoughSpace
from ..blobs.object_store import Moved, nobody
from ..blobs.protocol import ContentRange
from ..blobs.store import BlobFolder
from .errors import SourceFailed, SourceUnreachable
from .sources import BROKEN, PASSING, STALL_SECONDS, SourceFile, Sources, failure
from .unnamed import Busy, filed, stand_in

#: Failures in a row without a new byte after which a source is given up: about a minute.
RETRIES = 7
_BACKOFF_SECONDS = 0.25
_BACKOFF_LONGEST_SECONDS = 20.0


async def fetch(sources: Sources, file: SourceFile, staging: BlobFolder, moved: Moved = nobody) -> Digest:
    """Bring a file among the arriving ones; return what it has turned out to be.

    Raises:
        DigestMismatch: it is not what the source announced; nothing of it is kept.
        SourceFailed, SourceRefused, Gated, NotEnoughSpace: it cannot be had; what has arrived is kept but in the last
            case.
    """
    if file.sha256 and (there := await asyncio.to_thread(staging.path, file.sha256)) is not None:
        return await asyncio.to_thread(_digest_of, file.sha256, there)
    named = Digest(file.sha256, file.size) if file.sha256 else stand_in(f"{file.url} {file.tag}", file.size)
    arriving = await asyncio.to_thread(ArrivingBlob.try_open, staging, named)
    if arriving is None:
        raise Busy
    is_full = False
    try:
        if arriving.missing < 0:
            arriving.restart()
        was_resumed = arriving.length > 0
        await asyncio.to_thread(staging.ensure_room, arriving.missing)
        await _fill(sources, file, arriving, moved)
        if not file.sha256:
            return await asyncio.to_thread(filed, arriving)
        try:
            await asyncio.to_thread(arriving.commit)
            return named
        except DigestMismatch:
            # What an earlier call left may have spoiled it; from the beginning there is no such excuse.
            if not was_resumed:
                raise
    except NotEnoughSpace:
        is_full = True  # what cannot be completed only fills the disk
        raise
    finally:
        arriving.close(remove=is_full)
    return await fetch(sources, file, staging, moved)


async def _fill(sources: Sources, file: SourceFile, arriving: ArrivingBlob, moved: Moved) -> None:
    """Ask for the rest until it is there."""
    failures = 0
    tell = _telling(arriving, moved)
    while arriving.missing:
        before = arriving.length
        try:
            reason = await _go_on(sources, file, arriving, tell)
        except (*BROKEN, Stalled, SourceUnreachable) as error:
            reason = str(error) or type(error).__name__
        except TooMuch as error:
            await asyncio.to_thread(arriving.restart)
            raise SourceFailed(file.url, f"it sends more than the {file.size:,} bytes that it announced") from error
        if not arriving.missing:
            return
        failures = 0 if arriving.length > before else failures + 1
        if failures > RETRIES:
            raise SourceFailed(file.url, reason, "What has arrived is kept: try again later.")
        longest = min(_BACKOFF_SECONDS * 2**failures, _BACKOFF_LONGEST_SECONDS)
        await asyncio.sleep(longest * random.uniform(0.5, 1.0))  # noqa: S311


async def _go_on(sources: Sources, file: SourceFile, arriving: ArrivingBlob, tell: Callable[[int, int], None]) -> str:
    """One request for what is missing; why it brought less, where it did. Raises `SourceFailed` and what breaks."""
    headers: dict[str, str] = {}
    if arriving.length:
        headers[hdrs.RANGE] = f"bytes={arriving.length}-"
        if file.tag.startswith('"'):
            headers[hdrs.IF_RANGE] = file.tag
    async with sources.opened("GET", file.url, headers) as response:
        if response.status in PASSING:
            return f"it answered HTTP {response.status}"
        if response.status in {200, 416} and arriving.length:
            # It knows no ranges, or has another file now.
            await asyncio.to_thread(arriving.restart)
        if response.status == 416:
            return "it answered HTTP 416"
        if response.status not in {200, 206}:
            raise failure(file.url, response.status)
        _check(response, file, arriving.length)
        await receive_into(arriving, response.content, STALL_SECONDS, tell)
    return f"only {arriving.length:,} of {file.size:,} bytes arrived"


def _check(response: aiohttp.ClientResponse, file: SourceFile, offset: int) -> None:
    total = response.content_length
    if response.status == 206:
        ranges = ContentRange.parse(response.headers.get(hdrs.CONTENT_RANGE, ""))
        if ranges is None or ranges.start != offset:
            raise SourceFailed(file.url, "it sent another range than it was asked for")
        total = ranges.total
    if total is not None and total != file.size:
        raise SourceFailed(file.url, f"it has a file of {total:,} bytes and announced {file.size:,}")


def _telling(arriving: ArrivingBlob, moved: Moved) -> Callable[[int, int], None]:
    told = arriving.length

    def tell(length: int, _size: int) -> None:
        nonlocal told
        if length > told:
            moved(length - told)
        told = length

    return tell


def _digest_of(sha256: str, path: Path) -> Digest:
    return Digest(sha256, path.stat().st_size)
