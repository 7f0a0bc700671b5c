"""Contents that arrive without anybody knowing their hash beforehand: resumable all the same. Blocking."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from ..blobs.arriving import ArrivingBlob
from ..blobs.digest import Digest
from ..blobs.store import BlobFolder
from .errors import ModelError


class Cut(ModelError):
    """A content ended before its announced size."""

    def __init__(self, length: int, size: int) -> None:
        super().__init__(f"It ended after {length:,} of {size:,} bytes. Try again; what is here is kept.")


class Busy(ModelError):
    """Another transfer brings the same content to the same folder."""

    def __init__(self) -> None:
        super().__init__("The same file is being fetched already. Wait until it is here.")


def stand_in(identity: str, size: int) -> Digest:
    """What a content is filed under until its hash is known: made from where it comes from and how it looked there."""
    return Digest(hashlib.sha256(f"comfyume unnamed {identity} {size}".encode()).hexdigest(), size)


def arrive_unnamed(folder: BlobFolder, identity: str, size: int, bring: Callable[[ArrivingBlob], None]) -> Digest:
    """Let ``bring`` append what is missing, and file the content under the hash that it turns out to have.

    Args:
        identity: where it comes from, with what changes there when the content does.

    Raises:
        Busy, Cut, NotEnoughSpace: nothing is filed; what has arrived is kept for the next time.
    """
    arriving = ArrivingBlob.try_open(folder, stand_in(identity, size))
    if arriving is None:
        raise Busy
    try:
        if arriving.missing < 0:
            arriving.restart()
        folder.ensure_room(arriving.missing)
        bring(arriving)
        return filed(arriving)
    finally:
        arriving.close()


def filed(arriving: ArrivingBlob) -> Digest:
    """File what has arrived under its own hash. Raises `Cut`."""
    if arriving.missing:
        raise Cut(arriving.length, arriving.digest.size)
    return arriving.commit_as_found()
