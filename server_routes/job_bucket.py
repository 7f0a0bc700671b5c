"""The frontend's side of the bucket through which jobs' large files travel."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

from ..blobs.digest import Digest
from ..blobs.errors import BlobError
from ..blobs.object_pruning import prune
from ..blobs.protocol import SMALL
from ..blobs.shared_bucket import SharedBucket
from ..blobs.store import BlobFolder

log = logging.getLogger("comfyume")

#: Seconds after which a worker that waits for its result to be fetched hears how far that is.
PATIENCE = 15.0
#: Seconds between two looks at what lies in the bucket for too long.
PRUNE_EVERY = 3600.0
#: Seconds after which an upload that nobody goes on with is dropped.
ABANDONED = 24 * 3600.0
DAY = 24 * 3600.0


class JobBucket:
    """Brings people's inputs into the bucket, and results out of it.

    Args:
        arriving: where results arrive.
        days: after which an object is removed from the bucket.
        most_bytes: that the objects may take together; the oldest go first. None for no limit.
    """

    def __init__(self, bucket: SharedBucket, arriving: BlobFolder, *, days: float, most_bytes: int | None) -> None:
        self.shared = bucket
        self._arriving = arriving
        self._days = days
        self._most_bytes = most_bytes
        self._fetching: dict[str, asyncio.Task[Path]] = {}
        self._shipping: dict[str, asyncio.Task[None]] = {}

    @property
    def mark(self) -> str | None:
        """What a worker must find in its bucket for it to be this one; None while the bucket has not answered."""
        return self.shared.known_mark

    def ship(self, file: Path, digest: Digest) -> None:
        """Bring a person's file into the bucket meanwhile, for the worker of a job that was just queued.

        Whether it has got there shows when the worker looks; if not, the worker asks the frontend for it.
        """
        if digest.size > SMALL and self.mark is not None and digest.sha256 not in self._shipping:
            task = asyncio.create_task(self._put(file, digest))
            self._shipping[digest.sha256] = task
            task.add_done_callback(lambda _: self._shipping.pop(digest.sha256))

    async def arrive(self, digest: Digest) -> Path | int:
        """Fetch a result, once for all who ask.

        Returns:
            Its path once it is here, else how many bytes are, after a while.

        Raises:
            BlobError: it cannot be had from the bucket.
            NotEnoughSpace: the disk is full.
        """
        task = self._fetching.get(digest.sha256)
        if task is None:
            task = asyncio.create_task(self.shared.fetch(self._arriving, digest))
            self._fetching[digest.sha256] = task
            task.add_done_callback(lambda done: self._forget(digest.sha256, done))
        await asyncio.wait([task], timeout=PATIENCE)
        if task.done():
            return task.result()
        return await asyncio.to_thread(self._arriving.partial_length, digest.sha256)

    async def run(self) -> None:
        """Leave the mark, then keep the bucket from growing for ever."""
        pruned = float("-inf")
        while True:
            if await self.shared.mark(make=True) is not None and time.monotonic() - pruned > PRUNE_EVERY:
                pruned = time.monotonic()
                try:
                    removed = await asyncio.to_thread(self._prune)
                except BlobError as error:
                    log.warning("[comfyume] the bucket was not tidied: %s", error)
                else:
                    log.info("[comfyume] removed %.1f MB of old files from the bucket", removed / 1e6)
            await asyncio.sleep(30)

    def _prune(self) -> int:
        bucket = self.shared.bucket()
        bucket.abandon_uploads(ABANDONED)
        return prune(bucket, "blobs/", older_than=self._days * DAY, most_bytes=self._most_bytes)

    async def _put(self, file: Path, digest: Digest) -> None:
        try:
            await self.shared.put(file, digest)
        except (BlobError, OSError) as error:
            log.warning("[comfyume] %s is not in the bucket, and the worker will ask for it: %s", file.name, error)

    def _forget(self, sha256: str, task: asyncio.Task[Path]) -> None:
        del self._fetching[sha256]
        if not task.cancelled():
            task.exception()  # read it, so that a failure that nobody waits for is not logged as unseen
