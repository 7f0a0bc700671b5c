"""Objects by key outside this machine: in a bucket, or in a folder that a network drive brings. Blocking functions.

A key is a path with ``/``, such as ``blobs/ab/abcdef...``. An object appears whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .digest import Digest, checked_sha256
from .errors import UnsafeName
from .store import BlobFolder

Moved = Callable[[int], None]
"""Called from any thread with the number of bytes that have come across since the last call; what it raises ends the
transfer, and what has come across is kept for the next one."""


def nobody(_count: int) -> None:
    """For who does not want to know how far a transfer has come."""


@dataclass(frozen=True)
class StoredObject:
    """An object as a listing tells of it: its size in bytes, and when it was written, in seconds since 1970."""

    key: str
    size: int
    written: float


class ObjectStore(Protocol):
    """Where objects are kept. Methods block and may be called from several threads.

    All of them raise ``BucketFailed`` (or OSError, for a folder) where the store does not do what it is asked.
    """

    @property
    def name(self) -> str:
        """Where it is, for people: ``s3://bucket/prefix`` or a folder. Holds no secret."""

    def size_of(self, key: str) -> int | None:
        """The size of an object in bytes; None if there is none."""

    def put(self, key: str, source: Path, digest: Digest, moved: Moved = nobody) -> bool:
        """Store a file whose digest is known; False if an object of that size is there already.

        Only for keys that tell the content. A put that was cut off goes on where it was, in another process too.

        Raises:
            DigestMismatch: the file is not (any more) what the digest says; nothing is stored.
        """

    def fetch(self, key: str, folder: BlobFolder, digest: Digest, moved: Moved = nobody) -> Path:
        """Bring an object into a folder of blobs, unless it is there, and return its path.

        Goes on where an earlier call was cut off.

        Raises:
            BlobMissing: there is no such object.
            DigestMismatch: it has another content.
            NotEnoughSpace: the disk has no room for it.
        """

    def read(self, key: str) -> bytes:
        """A small object, in memory. Raises ``BlobMissing``."""

    def write(self, key: str, data: bytes) -> None:
        """Store a small object, in place of one that may be there."""

    def listing(self, prefix: str) -> Iterator[StoredObject]:
        """The objects whose keys begin with ``prefix``, in the order of their keys."""

    def delete(self, key: str) -> None:
        """Remove an object; nothing if there is none."""


def blob_key(sha256: str) -> str:
    """The key under which a content is kept. Raises ``InvalidDigest``."""
    return f"blobs/{checked_sha256(sha256)[:2]}/{sha256}"


def checked_key(key: str) -> str:
    """Return ``key`` if it is a plain path; raise ``UnsafeName`` if it leads elsewhere."""
    if "\\" in key or "\0" in key or any(part in ("", ".", "..") for part in key.split("/")):
        raise UnsafeName(key, "is no key of an object")
    return key
