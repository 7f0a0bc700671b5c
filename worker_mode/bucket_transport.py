"""How a job's large files travel where frontend and worker reach the same bucket."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

from ..blobs.digest import digest_file
from ..blobs.errors import BlobMissing, BucketFailed, TransferFailed
from ..blobs.protocol import SMALL
from ..blobs.shared_bucket import SharedBucket
from ..blobs.store import BlobFolder
from .transports import HttpTransport, InputFile

log = logging.getLogger("comfyume")


class BucketTransport:
    """Large files go through the bucket; small ones, and what the bucket refuses, straight to the frontend.

    Args:
        mark: of the frontend's bucket, as the job tells it.
    """

    def __init__(self, bucket: SharedBucket, mark: str, blobs: BlobFolder, direct: HttpTransport) -> None:
        self._bucket = bucket
        self._mark = mark
        self._blobs = blobs
        self._direct = direct

    async def fetch(self, file: InputFile, destination: Path) -> None:
        """See ``Transport``. What the frontend has not put there yet is asked of itself."""
        if file.digest.size > SMALL and await self._is_usable():
            try:
                await self._bucket.fetch(self._blobs, file.digest)
            except BlobMissing:
                log.debug("%s is not in the bucket yet", file.path)
            except BucketFailed as error:
                log.warning("[comfyume] %s is fetched from the frontend instead: %s", file.path, error)
        await self._direct.fetch(file, destination)

    async def deliver(self, kind: str, subfolder: str, name: str, source: Path) -> str:
        """See ``Transport``."""
        if os.stat(source).st_size > SMALL and await self._is_usable():
            digest = await asyncio.to_thread(digest_file, source)
            try:
                await self._bucket.put(source, digest)
                return await self._direct.announce(kind, subfolder, name, digest)
            except (BucketFailed, TransferFailed) as error:
                log.warning("[comfyume] %s goes to the frontend directly: %s", name, error)
        return await self._direct.deliver(kind, subfolder, name, source)

    def settle(self) -> None:
        """See ``Transport``."""
        self._direct.settle()

    async def _is_usable(self) -> bool:
        return await self._bucket.mark() == self._mark
