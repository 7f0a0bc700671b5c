"""The worker's side of transfers: downloads and uploads that survive a broken connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import hdrs

from .arriving import ArrivingBlob, Progress, Stalled, TooMuch, read_small, receive_into
from .digest import CHUNK, Digest
from .errors import DigestMismatch, NotEnoughSpace
from .http_patience import Patience, Reply
from .protocol import BUCKET_HEADER, SHA256_HEADER, SIZE_HEADER, SMALL, ContentRange
from .store import BlobFolder

RETRIES = 6
"""Failures in a row without a single new byte after which a transfer is given up: about half a minute."""

AWAY_SECONDS = 900.0
"""How long a server is waited for at which nobody answers, or which says that it cannot now: a GPU made this file."""

_POLL_SECONDS = 0.02
_STALL_SECONDS = 60.0
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=15.0, sock_read=_STALL_SECONDS)
_BROKEN = (aiohttp.ClientError, asyncio.TimeoutError, ConnectionError, Stalled)
_ACCEPTED = 202


async def download(
    session: aiohttp.ClientSession,
    url: str,
    folder: BlobFolder,
    digest: Digest,
    *,
    headers: Mapping[str, str] | None = None,
    retries: int = RETRIES,
    away: float = AWAY_SECONDS,
    on_progress: Progress | None = None,
) -> Path:
    """Fetch a blob into `folder`, unless it is there, and return its path. Resumes what an earlier call left.

    Raises `TransferFailed`, `DigestMismatch` if the server has other content under this address, `NotEnoughSpace`.
    """
    present = await asyncio.to_thread(folder.path, digest.sha256)
    if present is not None:
        return present
    work = _Download(
        session, url, folder, digest, dict(headers or {}), Patience("Downloading", url, digest.size, retries, away)
    )
    path = await (work.small() if digest.size <= SMALL else work.large(on_progress))
    if on_progress is not None:
        on_progress(digest.size, digest.size)
    return path


@dataclass(frozen=True)
class _Download:
    session: aiohttp.ClientSession
    url: str
    folder: BlobFolder
    digest: Digest
    headers: dict[str, str]
    patience: Patience

    def get(self, offset: int = 0) -> Any:
        headers = {**self.headers, hdrs.ACCEPT_ENCODING: "identity"}
        if offset:
            headers[hdrs.RANGE] = f"bytes={offset}-"
        # No redirects: the headers carry the worker's credentials.
        return self.session.get(self.url, headers=headers, timeout=_TIMEOUT, allow_redirects=False)

    async def small(self) -> Path:
        while True:
            try:
                async with self.get() as response:
                    if response.status != 200:
                        await self.patience.wait_or_give_up(await Reply.read(response))
                        continue
                    self.check_total(response)
                    data = await read_small(response.content, self.digest.size, _STALL_SECONDS)
            except _BROKEN as error:
                await self.patience.wait_after(error)
            except TooMuch as error:
                raise self.too_long() from error
            else:
                if len(data) == self.digest.size:
                    return self.folder.add(data, self.digest)
                await self.patience.wait(f"only {len(data)} of {self.digest.size} bytes arrived")

    async def large(self, on_progress: Progress | None) -> Path:
        arriving = await self.open()
        if isinstance(arriving, Path):
            return arriving
        full = False
        try:
            while True:
                resumed = arriving.length > 0
                await asyncio.to_thread(self.folder.ensure_room, arriving.missing)
                await self.fill(arriving, on_progress)
                try:
                    return await asyncio.to_thread(arriving.commit)
                except DigestMismatch:
                    # What an earlier, other file left may have spoiled it; from the beginning there is no such excuse.
                    if not resumed:
                        raise
                again = await self.open()
                if isinstance(again, Path):
                    return again
                arriving = again
        except NotEnoughSpace:
            full = True  # what cannot be completed only fills the disk
            raise
        finally:
            arriving.close(remove=full)

    async def open(self) -> ArrivingBlob | Path:
        """Become the blob's writer, or get its path if another job's download finishes first."""
        while True:
            arriving = await asyncio.to_thread(ArrivingBlob.try_open, self.folder, self.digest)
            present = await asyncio.to_thread(self.folder.path, self.digest.sha256)
            if present is not None:
                if arriving is not None:
                    arriving.close(remove=True)
                return present
            if arriving is not None:
                if arriving.missing < 0:
                    arriving.restart()
                return arriving
            await asyncio.sleep(_POLL_SECONDS)

    async def fill(self, arriving: ArrivingBlob, on_progress: Progress | None) -> None:
        """Ask for the rest until it is there."""
        while arriving.missing:
            self.patience.note(arriving.length)
            try:
                async with self.get(arriving.length) as response:
                    if response.status in {200, 416} and arriving.length:
                        await asyncio.to_thread(arriving.restart)
                    if response.status not in {200, 206}:
                        await self.patience.wait_or_give_up(await Reply.read(response))
                        continue
                    self.check_total(response)
                    if response.status == 206 and not _begins_at(response, arriving.length):
                        raise self.patience.failed("it sent another range than asked", "Update the server.", 206)
                    await receive_into(arriving, response.content, _STALL_SECONDS, on_progress)
            except _BROKEN as error:
                self.patience.note(arriving.length)
                await self.patience.wait_after(error)
            except TooMuch as error:
                await asyncio.to_thread(arriving.restart)
                raise self.too_long() from error
            else:
                if arriving.missing:
                    self.patience.note(arriving.length)
                    await self.patience.wait(f"only {arriving.length} of {self.digest.size} bytes arrived")

    def check_total(self, response: aiohttp.ClientResponse) -> None:
        """Raise `DigestMismatch` before the transfer if the server's file has another size."""
        total = response.content_length
        if response.status == 206:
            content_range = ContentRange.parse(response.headers.get(hdrs.CONTENT_RANGE, ""))
            total = content_range.total if content_range else None
        if total is not None and total != self.digest.size:
            raise DigestMismatch(self.digest.sha256, f"a file of {total} instead of {self.digest.size} bytes")

    def too_long(self) -> DigestMismatch:
        return DigestMismatch(self.digest.sha256, f"more than its {self.digest.size} bytes")


async def upload(
    session: aiohttp.ClientSession,
    url: str,
    source: Path,
    digest: Digest,
    *,
    headers: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
    retries: int = RETRIES,
    away: float = AWAY_SECONDS,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Send the file `source`, whose digest is `digest`, and return the server's JSON.

    The first attempt sends everything; after a failure the server is asked where to continue. The server may see a
    finished upload a second time, if its reply was lost or was no JSON object. Raises `TransferFailed`,
    `DigestMismatch` if the file is not (any more) what `digest` says, `NotEnoughSpace` if the server's disk is full,
    OSError if it cannot be read.
    """
    patience = Patience("Uploading to", url, digest.size, retries, away)
    offset: int | None = 0
    ask = None if digest.size > SMALL else 0  # a small file is sent again sooner than asked about
    restarted = False
    while True:
        body = _Body(source, digest, offset, on_progress)
        try:
            async with session.put(
                url,
                params=params,
                data=await body.payload(),
                headers={**(headers or {}), **body.headers()},
                timeout=_TIMEOUT,
                allow_redirects=False,
            ) as response:
                reply = await Reply.read(response)
        except _BROKEN as error:
            if body.failure is not None:
                raise body.failure from error
            await patience.wait_after(error)
            offset = ask
            continue
        if 200 <= reply.status < 300 and reply.body:
            if on_progress is not None:
                on_progress(digest.size, digest.size)
            return reply.body
        if 200 <= reply.status < 300:
            # A proxy's own page, or a reply that was cut off. What became of the file is asked again.
            await patience.wait("its answer is none of this server's", reply.status)
            offset = ask
        elif reply.status == 422:
            # What an earlier, other file left may have spoiled it; from the beginning there is no such excuse.
            if restarted or not offset:
                raise DigestMismatch(digest.sha256, f"something else, says the server: {reply.reason}")
            restarted, offset = True, 0
        elif reply.status == 409 and reply.offset is not None and reply.offset <= digest.size:
            patience.note(reply.offset)
            if offset is not None and reply.offset <= offset:
                await patience.wait(reply.reason, reply.status)
            offset = reply.offset
        else:
            patience.note(reply.offset or 0)
            await patience.wait_or_give_up(reply)
            offset = ask


async def announce(
    session: aiohttp.ClientSession,
    url: str,
    digest: Digest,
    *,
    headers: Mapping[str, str] | None = None,
    retries: int = RETRIES,
    away: float = AWAY_SECONDS,
) -> dict[str, Any]:
    """Tell the server that a blob lies in the bucket, wait until it has fetched it, and return the server's JSON.

    The server may see a finished announcement a second time. Raises `TransferFailed`, also when the server cannot get
    it from there (status 409), `NotEnoughSpace` if its disk is full.
    """
    patience = Patience("Announcing to", url, digest.size, retries, away)
    told = {SHA256_HEADER: digest.sha256, SIZE_HEADER: str(digest.size), BUCKET_HEADER: "1"}
    while True:
        try:
            async with session.put(
                url, headers={**(headers or {}), **told}, timeout=_TIMEOUT, allow_redirects=False
            ) as response:
                reply = await Reply.read(response)
        except _BROKEN as error:
            await patience.wait_after(error)
            continue
        if reply.status == _ACCEPTED:
            # It answers when something has arrived, or after a while: no pause is needed.
            arrived = reply.body.get("arrived")
            patience.note(arrived if isinstance(arrived, int) else 0)
        elif 200 <= reply.status < 300 and reply.body:
            return reply.body
        elif 200 <= reply.status < 300:
            await patience.wait("its answer is none of this server's", reply.status)
        else:
            await patience.wait_or_give_up(reply)


class _Body:
    """What one PUT carries: the file from `offset` on, or nothing to ask for the offset."""

    def __init__(self, source: Path, digest: Digest, offset: int | None, on_progress: Progress | None) -> None:
        self.failure: Exception | None = None
        self._source = source
        self._digest = digest
        self._offset = offset
        self._on_progress = on_progress

    def headers(self) -> dict[str, str]:
        size = self._digest.size
        headers = {SHA256_HEADER: self._digest.sha256, SIZE_HEADER: str(size)}
        if self._offset is None:
            headers[hdrs.CONTENT_RANGE] = str(ContentRange(None, None, size))
            return headers
        if 0 < self._offset < size:
            headers[hdrs.CONTENT_RANGE] = str(ContentRange(self._offset, size - 1, size))
        headers[hdrs.CONTENT_LENGTH] = str(size - self._offset)
        headers[hdrs.CONTENT_TYPE] = "application/octet-stream"
        return headers

    async def payload(self) -> bytes | AsyncIterable[bytes]:
        if self._offset is None:
            return b""
        if self._digest.size > SMALL:
            return _Once(self._pieces(self._offset))
        data = self._source.read_bytes() if self._source.stat().st_size <= SMALL else b""
        if len(data) != self._digest.size:
            raise self._changed()
        return data

    async def _pieces(self, offset: int) -> AsyncIterator[bytes]:
        # aiohttp reports what this raises as a broken connection; the caller looks at `failure`.
        try:
            while offset < self._digest.size:
                data = await asyncio.to_thread(_read, self._source, offset, min(CHUNK, self._digest.size - offset))
                if not data:
                    raise self._changed()
                yield data
                offset += len(data)
                if self._on_progress is not None:
                    self._on_progress(offset, self._digest.size)
        except (OSError, DigestMismatch) as error:
            self.failure = error
            raise

    def _changed(self) -> DigestMismatch:
        return DigestMismatch(self._digest.sha256, f"{self._source} with another size")


class _Once(AsyncIterable[bytes]):
    """Pieces that can be sent once.

    aiohttp repeats a PUT by itself when a kept connection breaks. It would send what is left of the pieces as if it
    were all of them, and the server would wait for the rest; asking the server where to continue is better.
    """

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces: AsyncIterator[bytes] | None = pieces

    def __aiter__(self) -> AsyncIterator[bytes]:
        if self._pieces is None:
            raise aiohttp.ClientConnectionError("the connection broke")
        pieces, self._pieces = self._pieces, None
        return pieces


def _read(path: Path, offset: int, count: int) -> bytes:
    # Opened for each piece: a body that the server cuts short leaves no open file behind.
    with open(path, "rb", buffering=0) as file:
        file.seek(offset)
        return file.read(count)


def _begins_at(response: aiohttp.ClientResponse, offset: int) -> bool:
    content_range = ContentRange.parse(response.headers.get(hdrs.CONTENT_RANGE, ""))
    return content_range is not None and content_range.start == offset
