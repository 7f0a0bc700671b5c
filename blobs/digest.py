"""The identity of a file's content, and a memory of identities already computed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import time
from collections import OrderedDict
from dataclasses import dataclass

from .errors import InvalidDigest

CHUNK = 1024 * 1024
"""Bytes read, hashed and written at a time."""

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
# A file changed twice within one tick of the file system's clock keeps its mtime: too young is not remembered.
_RACY_NS = 50_000_000


def checked_sha256(sha256: str) -> str:
    """Return `sha256` if it is 64 lowercase hexadecimal digits, else raise `InvalidDigest`."""
    if not _SHA256.match(sha256):
        raise InvalidDigest(f"{sha256[:80]!r} is not a SHA-256")
    return sha256


@dataclass(frozen=True)
class Digest:
    """SHA-256 (64 lowercase hexadecimal digits) and size (bytes) of a file's content."""

    sha256: str
    size: int

    def __post_init__(self) -> None:
        checked_sha256(self.sha256)
        if self.size < 0:
            raise InvalidDigest(f"{self.size} is not a size")

    @classmethod
    def of_bytes(cls, data: bytes) -> Digest:
        """The digest of bytes in memory."""
        return cls(hashlib.sha256(data).hexdigest(), len(data))


def digest_file(path: str | os.PathLike[str]) -> Digest:
    """Hash a file in pieces of 1 MiB. Blocking. Raises OSError as `open` and `read` do."""
    # hashlib.file_digest needs Python 3.11.
    hasher = hashlib.sha256()
    size = 0
    buffer = memoryview(bytearray(CHUNK))
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            hasher.update(buffer[:count])
            size += count
    return Digest(hasher.hexdigest(), size)


@dataclass(frozen=True)
class _Identity:
    """What changes whenever a file's content is replaced or rewritten."""

    path: str
    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> _Identity:
        real = os.path.realpath(path)
        found = os.stat(real)
        return cls(real, found.st_size, found.st_mtime_ns, found.st_ino)


class DigestCache:
    """Digests of files, computed in a thread and remembered until the file changes.

    Bounded: the least recently asked is forgotten first. Use one instance from one event loop.
    """

    def __init__(self, capacity: int = 10_000) -> None:
        self._capacity = capacity
        self._known: OrderedDict[_Identity, Digest] = OrderedDict()
        self._computing: dict[_Identity, asyncio.Task[Digest]] = {}

    def __len__(self) -> int:
        return len(self._known)

    async def of(self, path: str | os.PathLike[str]) -> Digest:
        """The digest of the file at `path`. Raises OSError if it cannot be read.

        Callers who ask for the same file at the same time share one computation, which a cancelled one leaves running.
        """
        identity = await asyncio.to_thread(_Identity.of, path)
        known = self._known.get(identity)
        if known is not None:
            self._known.move_to_end(identity)
            return known
        task = self._computing.get(identity)
        if task is None:
            task = asyncio.create_task(self._compute(identity))
            self._computing[identity] = task
            task.add_done_callback(lambda done: self._forget_task(identity, done))
        return await asyncio.shield(task)

    async def _compute(self, identity: _Identity) -> Digest:
        started_ns = time.time_ns()
        digest = await asyncio.to_thread(digest_file, identity.path)
        settled = identity.mtime_ns < started_ns - _RACY_NS
        if settled and await asyncio.to_thread(_Identity.of, identity.path) == identity:
            self._known[identity] = digest
            while len(self._known) > self._capacity:
                self._known.popitem(last=False)
        return digest

    def _forget_task(self, identity: _Identity, task: asyncio.Task[Digest]) -> None:
        del self._computing[identity]
        if not task.cancelled():
            task.exception()  # read it, so that a failure whose callers have all gone is not logged as unseen
