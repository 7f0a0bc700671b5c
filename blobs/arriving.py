"""A blob that is arriving: one writer at a time, resumable, hashed while it is written."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from aiohttp import StreamReader

from .digest import CHUNK, Digest
from .errors import DigestMismatch, NotEnoughSpace, disk_full_explained
from .filing import try_lock
from .store import BlobFolder

Progress = Callable[[int, int], None]
"""Called on the event loop with the bytes that have arrived and the total."""

_POLL_SECONDS = 0.02

# Locks between processes are the file system's, where it has any; within this process these are.
_writing: set[Path] = set()
_writing_lock = threading.Lock()


class ArrivingBlob:
    """The partial file of one blob, held open by its only writer. Blocking methods, safe across threads."""

    def __init__(self, folder: BlobFolder, digest: Digest, path: Path, descriptor: int) -> None:
        self.digest = digest
        self.length = os.fstat(descriptor).st_size
        self._folder = folder
        self._path = path
        self._descriptor = descriptor
        self._open = True
        self._lock = threading.Lock()
        self._hasher = hashlib.sha256()
        self._hashed = 0

    @classmethod
    def try_open(cls, folder: BlobFolder, digest: Digest) -> ArrivingBlob | None:
        """Become the writer of this blob, after what has already arrived; None while another one writes it."""
        path = folder.partial(digest.sha256)
        with _writing_lock:
            if path in _writing:
                return None
            _writing.add(path)
        arriving = None
        try:
            arriving = cls._locked(folder, digest, path)
        finally:
            if arriving is None:
                _released(path)
        return arriving

    @classmethod
    def _locked(cls, folder: BlobFolder, digest: Digest, path: Path) -> ArrivingBlob | None:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        try:
            # Between open and lock another process may have published or removed this very file.
            if try_lock(descriptor) and os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return cls(folder, digest, path, descriptor)
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    @property
    def missing(self) -> int:
        """Bytes still to come."""
        return self.digest.size - self.length

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Write and hash the next bytes. Raises `NotEnoughSpace`."""
        with self._lock, disk_full_explained(self._folder.root, self.missing):
            self._check_open()
            self._hash_until_here()
            view = memoryview(data)
            while view:
                written = os.pwrite(self._descriptor, view, self.length) if hasattr(os, "pwrite") else self._write(view)
                self._hasher.update(view[:written])
                self.length += written
                self._hashed += written
                view = view[written:]

    def restart(self) -> None:
        """Drop what has arrived."""
        with self._lock:
            self._check_open()
            os.ftruncate(self._descriptor, 0)
            self.length = self._hashed = 0
            self._hasher = hashlib.sha256()

    def commit(self) -> Path:
        """Publish the blob if its hash is right; return its path. Closes.

        Raises `DigestMismatch`, and then nothing of it is left.
        """
        with self._lock:
            self._check_open()
            try:
                self._hash_until_here()
                if os.name == "nt":  # an open file can be neither renamed nor removed there
                    self._close()
                return self._folder.commit(self.digest.sha256, hashed=self._hasher.hexdigest())
            finally:
                self._close()

    def commit_as_found(self) -> Digest:
        """Publish what has arrived under the hash that it has, whatever was announced; return its digest. Closes.

        For contents whose hash nobody told: the announced one only named the partial file.
        """
        with self._lock:
            self._check_open()
            try:
                self._hash_until_here()
                found = Digest(self._hasher.hexdigest(), self.length)
                if os.name == "nt":  # an open file cannot be renamed there
                    self._close()
                own = self._folder.partial(found.sha256)
                own.parent.mkdir(parents=True, exist_ok=True)
                os.replace(self._path, own)
                self._folder.commit(found.sha256, hashed=found.sha256)
                return found
            finally:
                self._close()

    def close(self, *, remove: bool = False) -> None:
        """Stop writing; keep what has arrived for a later resumption, unless it is nothing or `remove` is set."""
        with self._lock:
            if not self._open:
                return
            if remove or self.length == 0:
                self._path.unlink(missing_ok=True)
            self._close()

    def _close(self) -> None:
        if self._open:
            self._open = False
            os.close(self._descriptor)
            _released(self._path)

    def _check_open(self) -> None:
        if not self._open:
            raise ValueError("this blob is closed")

    def _write(self, view: memoryview) -> int:
        os.lseek(self._descriptor, self.length, os.SEEK_SET)
        return os.write(self._descriptor, view)

    def _hash_until_here(self) -> None:
        """Catch up with bytes that an earlier writer left."""
        if self._hashed == self.length:
            return
        with open(self._path, "rb", buffering=0) as file:
            file.seek(self._hashed)
            while self._hashed < self.length and (data := file.read(min(CHUNK, self.length - self._hashed))):
                self._hasher.update(data)
                self._hashed += len(data)


def arrive(folder: BlobFolder, digest: Digest, bring: Callable[[ArrivingBlob], None]) -> Path:
    """Let `bring` append what is missing of a blob, unless it is there, and return its path. Blocking.

    Waits while another writer brings the same blob. What was brought before a failure is kept, unless the disk is full.
    A content that is wrong after a resumption is brought once more from its beginning, since what an earlier call left
    may have spoiled it. Raises `DigestMismatch`, `NotEnoughSpace`, and what `bring` raises.
    """
    resumed = True
    while True:
        arriving = ArrivingBlob.try_open(folder, digest)
        present = folder.path(digest.sha256)
        if present is not None:
            if arriving is not None:
                arriving.close(remove=True)
            return present
        if arriving is None:
            time.sleep(_POLL_SECONDS)
            continue
        is_full = False
        try:
            if arriving.missing < 0:
                arriving.restart()
            resumed = resumed and arriving.length > 0
            folder.ensure_room(arriving.missing)
            bring(arriving)
            return arriving.commit()
        except DigestMismatch:
            if not resumed:
                raise
            resumed = False
        except NotEnoughSpace:
            is_full = True  # what cannot be completed only fills the disk
            raise
        finally:
            arriving.close(remove=is_full)


def _released(path: Path) -> None:
    with _writing_lock:
        _writing.discard(path)


class Stalled(Exception):
    """The other side has sent nothing for too long."""


class TooMuch(Exception):
    """The other side sent more bytes than it announced."""


async def read_some(stream: StreamReader, stall_seconds: float) -> bytes:
    """Whatever has arrived, waiting only if nothing has; `b""` at the end. Raises `Stalled`."""
    ready = stream.read_nowait()
    if ready or stream.at_eof():
        return ready
    try:
        return await asyncio.wait_for(stream.readany(), stall_seconds)
    except asyncio.TimeoutError as error:
        raise Stalled from error


async def read_small(stream: StreamReader, limit: int, stall_seconds: float) -> bytes:
    """The whole body in memory. Raises `Stalled`, `TooMuch` beyond `limit` bytes, or what the stream raises."""
    pieces = bytearray()
    while data := await read_some(stream, stall_seconds):
        pieces += data
        if len(pieces) > limit:
            raise TooMuch
    return bytes(pieces)


async def receive_into(
    arriving: ArrivingBlob, stream: StreamReader, stall_seconds: float, on_progress: Progress | None = None
) -> None:
    """Append the stream to the blob until it ends, writing one piece in a thread while the next arrives.

    What arrived before a failure is kept. Raises `Stalled`, `TooMuch`, `NotEnoughSpace`, or what the stream raises.
    """
    writing: asyncio.Future[None] | None = None
    buffer = bytearray()
    expected = arriving.missing
    try:
        while data := await read_some(stream, stall_seconds):
            expected -= len(data)
            if expected < 0:
                raise TooMuch
            buffer += data
            if len(buffer) >= CHUNK:
                if writing is not None:
                    await writing
                    _report(arriving, on_progress)
                writing = asyncio.ensure_future(asyncio.to_thread(arriving.append, buffer))
                buffer = bytearray()
    finally:
        # In this order also after a failure or a cancellation: the more has been kept, the less is sent again.
        if writing is not None:
            await writing
        if buffer:
            await asyncio.to_thread(arriving.append, buffer)
        _report(arriving, on_progress)


def _report(arriving: ArrivingBlob, on_progress: Progress | None) -> None:
    if on_progress is not None:
        on_progress(arriving.length, arriving.digest.size)
