"""Large objects of a bucket, in parts: several on their way at a time, and none twice. Blocking."""

from __future__ import annotations

import hashlib
import itertools
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from .arriving import ArrivingBlob
from .digest import CHUNK, Digest
from .errors import BlobMissing, BucketFailed, DigestMismatch
from .object_store import Moved
from .section import Section

if TYPE_CHECKING:
    from .bucket import Bucket

#: S3's own limit.
_MOST_PARTS = 10_000
#: Bytes that are asked for at once, and held in memory until those before them are written.
FETCHED = 4 * 1024 * 1024
#: Times that a put is begun anew because its upload was ended by somebody else, who sends the same content.
_BEGINNINGS = 3


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


@dataclass(frozen=True)
class _Part:
    """One part of a file: its number from 1 on, where it lies, and whether the bucket has it."""

    number: int
    start: int
    length: int
    is_there: bool


class PartwisePut:
    """Puts one file. It is read once from its beginning to its end, to be hashed; parts that are there are not sent.

    A part is known again by its MD5, which servers that do not encrypt with keys of their own tell as its ETag. Where
    an ETag is anything else, a put that another process began starts from the beginning.
    """

    def __init__(self, bucket: Bucket, key: str, source: Path, digest: Digest, moved: Moved) -> None:
        self._bucket = bucket
        self._key = key
        self._source = source
        self._digest = digest
        self._moved = moved
        self._part = max(bucket.part, -(-digest.size // _MOST_PARTS))
        self._told = 0

    def run(self) -> None:
        """See ``ObjectStore.put``."""
        for beginning in range(1, _BEGINNINGS + 1):
            try:
                return self._send_all()
            except BucketFailed as error:
                # Another process has finished it, or dropped it; or the answer to its end was lost.
                if error.code != "NoSuchUpload" or beginning == _BEGINNINGS:
                    raise
            if self._bucket.size_of(self._key) == self._digest.size:
                return None
        return None

    def _send_all(self) -> None:
        upload, there = self._begin()
        sent: dict[int, str] = {}
        waiting: deque[tuple[int, int, Future[str]]] = deque()
        hasher = hashlib.sha256()
        size = across = 0

        def settle() -> None:
            nonlocal across
            number, count, tag = waiting.popleft()
            sent[number] = tag.result()
            across += count
            self._tell(across)

        before = _identity(self._source)
        with ThreadPoolExecutor(self._bucket.at_once, "comfyume-put") as pool:
            for part in self._read(hasher, there):
                size += part.length
                if part.is_there:
                    sent[part.number] = there[part.number]
                    across += part.length
                    self._tell(across)
                    continue
                if len(waiting) == self._bucket.at_once:
                    settle()
                waiting.append((part.number, part.length, pool.submit(self._send, upload, part)))
            while waiting:
                settle()
        found = Digest(hasher.hexdigest(), size)
        # What is sent is read again, so the file must have been the same all the time.
        if found != self._digest or _identity(self._source) != before:
            self._bucket.call("Cleaning up", "abort_multipart_upload", self._key, UploadId=upload)
            raise DigestMismatch(self._digest.sha256, found.sha256 if found != self._digest else "one that changes")
        parts = [{"PartNumber": number, "ETag": tag} for number, tag in sorted(sent.items())]
        self._bucket.call(
            "Writing to",
            "complete_multipart_upload",
            self._key,
            UploadId=upload,
            MultipartUpload={"Parts": parts},
        )

    def _begin(self) -> tuple[str, dict[int, str]]:
        """The upload to go on with, and the tags of its parts by their numbers."""
        for upload in reversed(self._bucket.unfinished(self._key)):
            return upload, {part["PartNumber"]: part["ETag"] for part in self._bucket.parts(self._key, upload)}
        reply = self._bucket.call("Writing to", "create_multipart_upload", self._key)
        return str(reply["UploadId"]), {}

    def _read(self, hasher: _Hash, there: Mapping[int, str]) -> Iterator[_Part]:
        """The parts of the file, hashed as they are passed."""
        with open(self._source, "rb", buffering=0) as file:
            for number in itertools.count(1):
                md5 = hashlib.md5(usedforsecurity=False) if number in there else None
                length = 0
                while length < self._part and (data := file.read(min(CHUNK, self._part - length))):
                    hasher.update(data)
                    if md5 is not None:
                        md5.update(data)
                    length += len(data)
                if not length:
                    return
                is_there = md5 is not None and there[number] == f'"{md5.hexdigest()}"'
                yield _Part(number, (number - 1) * self._part, length, is_there)

    def _send(self, upload: str, part: _Part) -> str:
        with Section(self._source, part.start, part.length) as body:
            reply = self._bucket.call(
                "Writing to",
                "upload_part",
                self._key,
                UploadId=upload,
                PartNumber=part.number,
                Body=body,
                ContentLength=part.length,
            )
        return str(reply["ETag"])

    def _tell(self, across: int) -> None:
        """Tell what is new, also where a beginning follows another."""
        if across > self._told:
            self._moved(across - self._told)
            self._told = across


class PartwiseFetch:
    """Fetches one object: parts are asked for ahead, and appended in their order."""

    def __init__(self, bucket: Bucket, key: str, digest: Digest, moved: Moved) -> None:
        self._bucket = bucket
        self._key = key
        self._digest = digest
        self._moved = moved

    def bring(self, arriving: ArrivingBlob) -> None:
        """Append what is missing. Raises ``BlobMissing``, ``DigestMismatch``, ``BucketFailed``, ``NotEnoughSpace``."""
        size = self._bucket.size_of(self._key)
        if size is None:
            raise BlobMissing(self._digest.sha256)
        if size != self._digest.size:
            raise DigestMismatch(self._digest.sha256, f"an object of {size} instead of {self._digest.size} bytes")
        # A few places that are used again and again: memory that is asked for and given back in many threads is not
        # given back to the system.
        free = [bytearray(min(FETCHED, size)) for _ in range(self._bucket.at_once)]
        waiting: deque[tuple[bytearray, int, Future[None]]] = deque()
        asked = arriving.length
        with ThreadPoolExecutor(self._bucket.at_once, "comfyume-fetch") as pool:
            while asked < size or waiting:
                while asked < size and free:
                    place, length = free.pop(), min(FETCHED, size - asked)
                    view = memoryview(place)[:length]
                    waiting.append((place, length, pool.submit(self._bucket.read_into, self._key, asked, view)))
                    asked += length
                place, length, read = waiting.popleft()
                read.result()
                arriving.append(memoryview(place)[:length])
                free.append(place)
                self._moved(length)


def _identity(path: Path) -> tuple[int, int, int]:
    """What changes when somebody writes into a file, or puts another in its place."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino
