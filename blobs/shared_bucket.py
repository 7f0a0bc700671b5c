"""A bucket that frontends and workers both reach, for the files of jobs.

Whether both reach the same one is not believed but looked up, as with a shared folder: a random mark in the bucket. Its
objects are blobs under the SHA-256 of their content.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from .digest import Digest
from .errors import BlobError, BlobMissing
from .object_store import Moved, blob_key
from .store import BlobFolder

if TYPE_CHECKING:
    from .bucket import Bucket

log = logging.getLogger("comfyume")

T = TypeVar("T")

MARK = "comfyume-mark"
#: Whole files on their way at a time; each of them has several parts on its way.
TRANSFERS = 2
#: Seconds after which a bucket that did not answer is asked for its mark again.
AGAIN = 30.0


class Stopped(Exception):
    """Who wanted a transfer does not want it any more."""


class SharedBucket:
    """Moves whole blobs in a few threads of its own. Use it from one event loop.

    Args:
        open_bucket: opens it; called in a thread once something is to be moved.
    """

    def __init__(self, open_bucket: Callable[[], Bucket]) -> None:
        self._open = open_bucket
        self._bucket: Bucket | None = None
        self._opening = threading.Lock()
        self._mark: str | None = None
        self._mark_asked = float("-inf")
        self._asking = asyncio.Lock()
        self._transfers = ThreadPoolExecutor(TRANSFERS, "comfyume-bucket")

    @property
    def known_mark(self) -> str | None:
        """The mark, where it is known already."""
        return self._mark

    async def mark(self, *, make: bool = False) -> str | None:
        """The mark of the bucket; None where it has none, or cannot be asked now, which is looked into again later.

        Args:
            make: whether to leave one where there is none.
        """
        async with self._asking:
            if self._mark is None and time.monotonic() - self._mark_asked > AGAIN:
                try:
                    self._mark = await asyncio.to_thread(self._read_mark, make)
                except BlobError as error:
                    log.warning("[comfyume] the bucket is not used for now, and files travel over HTTP: %s", error)
                self._mark_asked = time.monotonic()
        return self._mark

    async def put(self, source: Path, digest: Digest) -> None:
        """Put a file into the bucket, unless it is there. Raises as ``ObjectStore.put`` does."""
        await self._transfer(lambda moved: self.bucket().put(blob_key(digest.sha256), source, digest, moved))

    async def fetch(self, folder: BlobFolder, digest: Digest) -> Path:
        """Bring a blob into a folder, unless it is there. Raises as ``ObjectStore.fetch`` does."""
        return await self._transfer(lambda moved: self.bucket().fetch(blob_key(digest.sha256), folder, digest, moved))

    def bucket(self) -> Bucket:
        """The bucket itself; blocking, since opening it loads boto3."""
        with self._opening:
            if self._bucket is None:
                self._bucket = self._open()
            return self._bucket

    async def _transfer(self, work: Callable[[Moved], T]) -> T:
        """Run a transfer in a thread; when the caller is cancelled it ends with the part that is on its way."""
        stop = threading.Event()

        def moved(_count: int) -> None:
            if stop.is_set():
                raise Stopped

        try:
            return await asyncio.get_running_loop().run_in_executor(self._transfers, work, moved)
        except asyncio.CancelledError:
            stop.set()
            raise

    def _read_mark(self, make: bool) -> str | None:
        bucket = self.bucket()
        for _ in range(2):
            try:
                return bucket.read(MARK).decode("ascii", "replace")
            except BlobMissing:
                if not make:
                    return None
                bucket.write(MARK, secrets.token_hex(16).encode())
        return None
