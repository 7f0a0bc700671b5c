"""The frontend's side of transfers: receives uploads and serves files. Authorisation is the caller's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import aiohttp
from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter

from .arriving import ArrivingBlob, Stalled, TooMuch, read_small, receive_into
from .digest import Digest, checked_sha256
from .errors import DigestMismatch, InvalidDigest, NotEnoughSpace, UploadRefused
from .protocol import SHA256_HEADER, SIZE_HEADER, SMALL, ContentRange
from .store import BlobFolder

T = TypeVar("T")

_POLL_SECONDS = 0.02


def announced_digest(request: web.BaseRequest) -> Digest:
    """The digest in an upload's headers. Raises `UploadRefused` (400) if it is missing or malformed."""
    try:
        return Digest(request.headers.get(SHA256_HEADER, ""), int(request.headers.get(SIZE_HEADER, "")))
    except InvalidDigest as error:
        raise UploadRefused(400, str(error)) from error
    except ValueError as error:
        raise UploadRefused(400, f"Send the size in bytes in the header {SIZE_HEADER}.") from error


class UploadReceiver:
    """Receives uploads into a folder of blobs, resumably and one writer at a time for each blob."""

    def __init__(self, folder: BlobFolder, *, stall_seconds: float = 20.0, busy_seconds: float = 10.0) -> None:
        """`stall_seconds`: silence after which a sender is given up. `busy_seconds`: how long to wait for another one
        who is sending the same blob."""
        self._folder = folder
        self._stall_seconds = stall_seconds
        self._busy_seconds = busy_seconds

    async def receive(self, request: web.Request, digest: Digest) -> Path:
        """Read the body of a PUT and return the path of the blob once it is whole and verified.

        Raises `UploadRefused` with the status and JSON body to answer with: 400 malformed, 408 the sender stalled or
        vanished, 409 with the `offset` from which to continue, 422 wrong content, 503 another one is sending this blob,
        507 disk full. Nothing is published then.
        """
        start = announced_start(request, digest)
        if digest.size <= SMALL:
            return await self._receive_small(request, digest, start)
        present = await asyncio.to_thread(self._folder.path, digest.sha256)
        if present is not None:
            return present
        # Also who only asks for the offset waits here: a broken connection's last bytes may still be being written.
        arriving = await self._open(digest)
        if isinstance(arriving, Path):
            return arriving
        return await self._receive_large(request, arriving, start, arriving.commit)

    async def receive_unnamed(self, request: web.Request, stand_in: Digest) -> Digest:
        """Read the body of a PUT whose content has a hash that nobody has told; return its digest once it is whole.

        Args:
            stand_in: what it is filed under until then, of its size; made from where it comes from.

        Raises `UploadRefused` as `receive`.
        """
        start = announced_start(request, stand_in)
        arriving = await self._open(stand_in)
        if isinstance(arriving, Path):
            raise UploadRefused(422, "Send the file from its beginning.", offset=0)  # no content has this hash
        return await self._receive_large(request, arriving, start, arriving.commit_as_found)

    async def offset(self, digest: Digest) -> int:
        """How many bytes of the blob are here; all of them if it is whole."""
        if await asyncio.to_thread(self._folder.path, digest.sha256) is not None:
            return digest.size
        return await asyncio.to_thread(self._folder.partial_length, digest.sha256)

    async def _receive_small(self, request: web.Request, digest: Digest, start: int | None) -> Path:
        # In memory and on the event loop: a change of thread costs more than the write.
        present = self._folder.path(digest.sha256)
        if present is not None:
            return present
        if start != 0:
            raise _continue_from(0)
        try:
            data = await read_small(request.content, digest.size, self._stall_seconds)
            if len(data) < digest.size:
                raise _continue_from(0)
            return self._folder.add(data, digest)
        except (Stalled, ConnectionError, aiohttp.ClientError, web.RequestPayloadError) as error:
            raise _vanished(0) from error
        except TooMuch as error:
            raise _too_much(digest) from error
        except DigestMismatch as error:
            raise UploadRefused(422, str(error)) from error
        except NotEnoughSpace as error:
            raise UploadRefused(507, str(error)) from error

    async def _open(self, digest: Digest) -> ArrivingBlob | Path:
        """Become the blob's writer, or get its path if another writer finishes it first."""
        deadline = time.monotonic() + self._busy_seconds
        while True:
            arriving = await asyncio.to_thread(ArrivingBlob.try_open, self._folder, digest)
            present = await asyncio.to_thread(self._folder.path, digest.sha256)
            if present is not None:
                if arriving is not None:
                    arriving.close(remove=True)
                return present
            if arriving is not None:
                return arriving
            if time.monotonic() > deadline:
                length = await asyncio.to_thread(self._folder.partial_length, digest.sha256)
                raise UploadRefused(503, "Somebody else is sending this file. Ask again in a moment.", offset=length)
            await asyncio.sleep(_POLL_SECONDS)

    async def _receive_large(
        self, request: web.Request, arriving: ArrivingBlob, start: int | None, finish: Callable[[], T]
    ) -> T:
        digest = arriving.digest
        remove = False
        try:
            if arriving.length > digest.size:
                arriving.restart()
            if arriving.missing:  # else an earlier request ended just before it was published
                if start != arriving.length:
                    raise _continue_from(arriving.length)
                await asyncio.to_thread(self._folder.ensure_room, arriving.missing)
                await receive_into(arriving, request.content, self._stall_seconds)
            if arriving.missing:
                raise _continue_from(arriving.length)
            return await asyncio.to_thread(finish)
        except (Stalled, ConnectionError, aiohttp.ClientError, web.RequestPayloadError) as error:
            raise _vanished(arriving.length) from error
        except TooMuch as error:
            remove = True
            raise _too_much(digest) from error
        except DigestMismatch as error:
            raise UploadRefused(422, str(error)) from error
        except NotEnoughSpace as error:
            remove = True  # what cannot be completed only fills the disk
            raise UploadRefused(507, str(error)) from error
        finally:
            arriving.close(remove=remove)


class _BlobResponse(web.FileResponse):
    """A file whose ETag is the hash of its content instead of its mtime."""

    def __init__(self, path: Path, sha256: str) -> None:
        self._sha256 = sha256
        super().__init__(
            path,
            headers={
                hdrs.CONTENT_TYPE: "application/octet-stream",
                "X-Content-Type-Options": "nosniff",
                hdrs.CACHE_CONTROL: "private, no-cache",
            },
        )

    @property
    def etag(self) -> aiohttp.ETag | None:
        """The hash of the content."""
        return aiohttp.ETag(self._sha256)

    @etag.setter
    def etag(self, _value: aiohttp.ETag | str | None) -> None:
        # aiohttp sets one made of mtime and size just before it sends the headers.
        self._headers[hdrs.ETAG] = f'"{self._sha256}"'

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send the file, or 304 to one who has this content."""
        if any(tag.value in {self._sha256, "*"} for tag in request.if_none_match or ()):
            self.set_status(304)
            self._length_check = False
            self.etag = self._sha256
            return await web.StreamResponse.prepare(self, request)
        return await super().prepare(request)


def serve_blob(path: Path, sha256: str) -> web.StreamResponse:
    """Answer with a file as plain bytes: `Range`, an ETag of the content's hash, no guessing of its type.

    Raises `InvalidDigest`. A file that is gone is answered with 404.
    """
    return _BlobResponse(path, checked_sha256(sha256))


def announced_start(request: web.Request, digest: Digest) -> int | None:
    """Where the body of an upload begins; None if the sender only asks where to go on. Raises `UploadRefused` (400)."""
    header = request.headers.get(hdrs.CONTENT_RANGE)
    if header is None:
        return 0
    content_range = ContentRange.parse(header)
    if content_range is None or content_range.total != digest.size:
        raise UploadRefused(400, f"Content-Range {header[:80]!r} does not fit a file of {digest.size} bytes.")
    return content_range.start


def _continue_from(offset: int) -> UploadRefused:
    return UploadRefused(409, f"Send the bytes from {offset} on.", offset=offset)


def _vanished(offset: int) -> UploadRefused:
    return UploadRefused(408, f"The sender stopped after {offset} bytes. Continue from there.", offset=offset)


def _too_much(digest: Digest) -> UploadRefused:
    return UploadRefused(400, f"More than the announced {digest.size} bytes arrived. Announce the file's real size.")
