"""Large objects of a bucket, in parts: several on their way at a time, and none twice. Blocking."""

from __future__ import annotations

import hashlib
import itertools
import re
from base64 import b64encode
from collections import deque
from collections.abc import Iterator
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

_IS_MD5 = re.compile('"[0-9a-f]{32}"')
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
    """One part of a file: its number from 1 on, where it lies, and its MD5."""

    number: int
    start: int
    length: int
    md5: bytes

    @property
    def tag(self) -> str:
        """The ETag of its content."""
        return f'"{self.md5.hex()}"'


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

        with ThreadPoolExecutor(self._bucket.at_once, "comfyume-put") as pool:
            for part in self._read(hasher):
                size += part.length
                if there.get(part.number) == part.tag:
                    sent[part.number] = part.tag
                    across += part.length
                    self._tell(across)
                    continue
                if len(waiting) == self._bucket.at_once:
                    settle()
                waiting.append((part.number, part.length, pool.submit(self._send, upload, part)))
            while waiting:
                settle()
        if (found := Digest(hasher.hexdigest(), size)) != self._digest:
            self._bucket.call("Cleaning up", "abort_multipart_upload", self._key, UploadId=upload)
            raise DigestMismatch(self._digest.sha256, found.sha256)
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

    def _read(self, hasher: _Hash) -> Iterator[_Part]:
        """The parts of the file as they are now; what is sent is read once more then, and checked by its MD5."""
        with open(self._source, "rb", buffering=0) as file:
            for number in itertools.count(1):
                md5 = hashlib.md5(usedforsecurity=False)
                length = 0
                while length < self._part and (data := file.read(min(CHUNK, self._part - length))):
                    hasher.update(data)
                    md5.update(data)
                    length += len(data)
                if not length:
                    return
                yield _Part(number, (number - 1) * self._part, length, md5.digest())

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
                ContentMD5=b64encode(part.md5).decode(),
            )
        tag = str(reply["ETag"])
        if _IS_MD5.fullmatch(tag) and tag != part.tag:
            raise DigestMismatch(self._digest.sha256, "a file that changes while it is sent")
        return tag

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
        waiting: deque[Future[bytes]] = deque()
        asked = arriving.length
        with ThreadPoolExecutor(self._bucket.at_once, "comfyume-fetch") as pool:

            def ask(start: int) -> int:
                length = min(FETCHED, size - start)
                waiting.append(pool.submit(self._bucket.read_range, self._key, start, length))
                return length

            while asked < size and len(waiting) < self._bucket.at_once:
                asked += ask(asked)
            while waiting:
                data = waiting.popleft().result()
                if asked < size:
                    asked += ask(asked)
                arriving.append(data)
                self._moved(len(data))


def content_md5(data: bytes) -> str:
    """What S3 checks a body by, as its header has it."""
    return b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
