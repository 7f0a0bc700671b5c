"""Results that lie in the bucket alone, since this machine's disk is for newer ones: served as if they were here."""

from __future__ import annotations

import asyncio
import logging
import mimetypes
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from ..blobs.cold_storage import ColdStorage
from ..blobs.digest import Digest
from ..blobs.errors import BlobError
from ..blobs.protocol import SMALL
from ..blobs.shared_bucket import SharedBucket
from ..comfyui_seams.context import Folders
from .problems import problem

if TYPE_CHECKING:
    from ..blobs.bucket import Bucket

log = logging.getLogger("comfyume")

#: Seconds between two looks at how much lies here.
EVERY = 300.0
#: Seconds without use before which nothing is put away.
REST = 3600.0
#: Seconds for which the content of a file that was deleted stays in the bucket.
KEPT = 24 * 3600.0
#: Bytes of a film that are read from the bucket at once.
PIECE = 1024 * 1024


@dataclass(frozen=True)
class _File:
    used: float
    size: int
    path: Path


class ColdFiles:
    """Puts files away, and answers for them.

    Args:
        most_bytes: that results may take on this machine's disk.
        root: the folder of all people's results.
    """

    def __init__(self, storage: ColdStorage, bucket: SharedBucket, root: Path, most_bytes: int) -> None:
        self.storage = storage
        self._bucket = bucket
        self._root = root
        self._most_bytes = most_bytes
        self._coming: dict[Path, asyncio.Task[None]] = {}

    async def warm(self, path: Path) -> None:
        """Have a file here. Raises as ``ColdStorage.bring`` does."""
        task = self._coming.get(path)
        if task is None:
            if self.storage.digest_of(path) is None:
                return
            task = asyncio.create_task(asyncio.to_thread(self.storage.bring, path))
            self._coming[path] = task
            task.add_done_callback(lambda done: self._forget(path, done))
        await asyncio.shield(task)

    async def view(self, request: web.Request, folders: Folders) -> web.StreamResponse | None:
        """Answer ``/view`` for a cold film or sound, in ranges, while it comes back; None where ComfyUI can answer.

        Other files are brought back first.
        """
        path = _viewed(request.query, folders)
        digest = None if path is None else self.storage.digest_of(path)
        if path is None or digest is None:
            return None
        kind = mimetypes.guess_type(path.name)[0] or ""
        is_as_it_is = "preview" not in request.query and "channel" not in request.query
        try:
            if is_as_it_is and kind.startswith(("video/", "audio/")):
                await self._begin_to_bring(path)
                return await self._send(request, path.name, kind, digest)
            await self.warm(path)
        except BlobError as error:
            log.warning("[comfyume] %s cannot be shown: %s", path.name, error)
            return problem(503, "not-here-now", "This file is in the bucket, which does not answer. Try again.")
        return None

    async def run(self) -> None:
        """Put away what is too much, the longest unused first."""
        while True:
            await asyncio.sleep(EVERY)
            try:
                freed = await asyncio.to_thread(self.put_away_old)
                await asyncio.to_thread(self.storage.tidy, KEPT)
            except (BlobError, OSError) as error:
                log.warning("[comfyume] old results stay on this disk: %s", error)
                continue
            if freed:
                log.info("[comfyume] %.1f MB of old results are in the bucket alone now", freed / 1e6)

    def put_away_old(self, rest: float = REST) -> int:
        """Put files away until the others are few enough; returns the bytes that were freed. Blocking."""
        files = sorted(self._files(), key=lambda file: file.used)
        excess = sum(file.size for file in files) - self._most_bytes
        freed = 0
        for file in files:
            if freed >= excess:
                break
            if file.size > SMALL and file.used < time.time() - rest:
                freed += self.storage.put_away(file.path)
        return freed

    def _files(self) -> Iterator[_File]:
        for folder, _, names in os.walk(self._root):
            for name in names:
                path = Path(folder, name)
                try:
                    found = path.lstat()
                except FileNotFoundError:
                    continue
                if not name.startswith(".") and path.is_file() and not path.is_symlink():
                    yield _File(max(found.st_atime, found.st_mtime), found.st_size, path)

    async def _begin_to_bring(self, path: Path) -> None:
        """Let a file come back; who watches it does not wait for that."""
        waiting = asyncio.ensure_future(self.warm(path))
        waiting.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.sleep(0)

    async def _send(self, request: web.Request, name: str, kind: str, digest: Digest) -> web.StreamResponse:
        try:
            wanted = request.http_range
        except ValueError:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{digest.size}"})
        start, stop, _ = wanted.indices(digest.size)
        is_part = "Range" in request.headers
        if is_part and start >= stop:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{digest.size}"})
        response = web.StreamResponse(status=206 if is_part else 200)
        response.content_type = kind
        response.content_length = stop - start
        response.headers["Accept-Ranges"] = "bytes"
        response.headers["Content-Disposition"] = f'filename="{name}"'
        if is_part:
            response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{digest.size}"
        if request.method == "HEAD":
            return response
        bucket = await asyncio.to_thread(self._bucket.bucket)
        key = self.storage.key_of(digest)
        piece = await _read(bucket, key, start, stop)
        await response.prepare(request)
        try:
            while start < stop:
                # The next piece comes while this one goes out.
                following = asyncio.ensure_future(_read(bucket, key, start + len(piece), stop))
                await response.write(piece)
                start += len(piece)
                piece = await following
        except BlobError as error:
            # It has begun: all that can be said is that it is not whole, and the browser asks for the rest.
            log.warning("[comfyume] %s was cut off: %s", name, error)
            if request.transport is not None:
                request.transport.close()
            return response
        await response.write_eof()
        return response

    def _forget(self, path: Path, task: asyncio.Task[None]) -> None:
        del self._coming[path]
        if not task.cancelled():
            task.exception()


async def _read(bucket: Bucket, key: str, start: int, stop: int) -> bytearray:
    length = min(PIECE, stop - start)
    return await asyncio.to_thread(bucket.read_range, key, start, length) if length > 0 else bytearray()


def _viewed(query: Mapping[str, str], folders: Folders) -> Path | None:
    """The file that ``/view`` is asked for, if it is a result; whether it is the person's own is checked already."""
    name = query.get("filename", "")
    kind = query.get("type", "output")
    if name.endswith("[output]"):
        kind, name = "output", name[: -len("[output]")].rstrip()
    if kind != "output" or not name or "\0" in name:
        return None
    return folders.output / query.get("subfolder", "") / os.path.basename(name)
