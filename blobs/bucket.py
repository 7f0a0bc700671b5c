"""Objects in a bucket that speaks S3: Amazon's, Cloudflare R2, MinIO and others. Blocking functions.

Large objects travel in parts, several at a time. A put that was cut off is found again by its unfinished upload in the
bucket, a fetch by what has arrived in the folder; parts that are across are not sent again. A put reads what it sends
from the file; a fetch holds `AT_ONCE` pieces of 4 MiB.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from .arriving import arrive
from .bucket_failures import BROKEN, explained
from .bucket_parts import PartwiseFetch, PartwisePut
from .digest import Digest
from .errors import BlobMissing, BucketFailed, DigestMismatch
from .object_store import Moved, StoredObject, checked_key, nobody
from .store import BlobFolder

PART = 8 * 1024 * 1024
"""Bytes of a part; S3 takes 5 MiB to 5 GiB, and at most 10,000 parts."""

AT_ONCE = 8
"""Parts on their way at a time, of one object."""

PIECE = 256 * 1024
_ATTEMPTS = 6
_BACKOFF_SECONDS = 0.25
_NOT_OFFERED = frozenset({"NotImplemented", "MethodNotAllowed", "501", "405"})
_GONE = frozenset({"404", "NoSuchKey", "NotFound"})


@dataclass(frozen=True)
class BucketAddress:
    """Which bucket, and how it is reached.

    Attributes:
        prefix: put before every key, without slashes at its ends; `""` for none.
        endpoint: the service's address, as `https://ACCOUNT.eu.r2.cloudflarestorage.com`; None for Amazon's own.
        path_style: whether the bucket stands in the path of an address instead of its host.
        key, secret: credentials; None for boto3's own chain (environment, files, the machine's role).
    """

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    path_style: bool = False
    key: str | None = field(default=None, repr=False)
    secret: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


class Bucket:
    """A bucket as an `ObjectStore`."""

    def __init__(self, address: BucketAddress, *, part: int = PART, at_once: int = AT_ONCE) -> None:
        self.address = address
        self.part = part
        self.at_once = at_once
        config = Config(
            connect_timeout=10,
            read_timeout=60,
            retries={"total_max_attempts": _ATTEMPTS, "mode": "standard"},
            # As many as there may be transfers at a time, in all threads.
            max_pool_connections=4 * at_once,
            s3={"addressing_style": "path" if address.path_style else "auto"},
            # Checksums that newer clients add by themselves are refused by older servers. The line is checked anyway:
            # by TLS, or where there is none by the signature, which covers the body.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        # A session of its own: boto3's default one is not safe across threads while clients are made.
        self._client: Any = boto3.session.Session().client(
            "s3",
            endpoint_url=address.endpoint,
            region_name=address.region or ("auto" if address.endpoint else None),
            aws_access_key_id=address.key,
            aws_secret_access_key=address.secret,
            config=config,
        )

    @property
    def name(self) -> str:
        """See `ObjectStore`."""
        return str(self.address)

    def size_of(self, key: str) -> int | None:
        """See `ObjectStore`."""
        try:
            return int(self.call("Looking into", "head_object", key)["ContentLength"])
        except BlobMissing:
            return None

    def put(self, key: str, source: Path, digest: Digest, moved: Moved = nobody) -> bool:
        """See `ObjectStore`."""
        if self.size_of(key) == digest.size:
            return False
        if digest.size > self.part:
            PartwisePut(self, key, source, digest, moved).run()
        else:
            data = source.read_bytes()
            if (found := Digest.of_bytes(data)) != digest:
                raise DigestMismatch(digest.sha256, found.sha256)
            self.write(key, data)
            moved(digest.size)
        return True

    def fetch(self, key: str, folder: BlobFolder, digest: Digest, moved: Moved = nobody) -> Path:
        """See `ObjectStore`."""
        return arrive(folder, digest, PartwiseFetch(self, key, digest, moved).bring)

    def read(self, key: str) -> bytes:
        """See `ObjectStore`."""
        data = bytearray()

        def place_for(length: int) -> bytearray:
            data[:] = bytes(length)
            return data

        self._read(key, place_for)
        return bytes(data)

    def write(self, key: str, data: bytes) -> None:
        """See `ObjectStore`."""
        self.call("Writing to", "put_object", key, Body=data)

    def listing(self, prefix: str) -> Iterator[StoredObject]:
        """See `ObjectStore`."""
        start = len(self._key(""))
        with explained("Listing", self.name):
            for page in self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.address.bucket, Prefix=self._key(prefix)
            ):
                for each in page.get("Contents", ()):
                    yield StoredObject(each["Key"][start:], each["Size"], each["LastModified"].timestamp())

    def delete(self, key: str) -> None:
        """See `ObjectStore`."""
        self.call("Deleting from", "delete_object", key)

    def abandon_uploads(self, older_than: float) -> int:
        """Drop uploads that were begun `older_than` seconds ago and never finished: a bucket charges for their parts.

        Returns:
            How many.
        """
        count = 0
        for upload in self._uploads(""):
            if time.time() - upload["Initiated"].timestamp() >= older_than:
                self._ask("Cleaning up", "abort_multipart_upload", upload["Key"], UploadId=upload["UploadId"])
                count += 1
        return count

    def read_range(self, key: str, start: int, length: int) -> bytearray:
        """Bytes of an object, in memory. Raises as `read_into` does."""
        data = bytearray(length)
        self.read_into(key, start, data)
        return data

    def read_into(self, key: str, start: int, place: bytearray | memoryview) -> None:
        """Fill `place` with the bytes from `start` on; connections that break meanwhile are made anew.

        Raises `BlobMissing`, `BucketFailed`.
        """
        self._read(key, lambda _: place, Range=f"bytes={start}-{start + len(place) - 1}")

    def _read(self, key: str, place_for: Callable[[int], bytearray | memoryview], **wanted: str) -> None:
        """Read what is wanted of an object to where `place_for` its length says."""
        problem: Exception | None = None
        for attempt in range(1, _ATTEMPTS + 1):
            reply = self.call("Reading from", "get_object", key, **wanted)
            place = place_for(reply["ContentLength"])
            count = 0
            try:
                # In pieces, into one place: the HTTP library holds twice what it reads at once.
                with reply["Body"] as body, memoryview(place) as view:
                    while count < len(view) and (got := body.readinto(view[count : count + PIECE])):
                        count += got
                if count == len(place) == reply["ContentLength"]:
                    return
                problem = EOFError(f"{count} of {len(place)} bytes arrived")
            except BROKEN as error:
                problem = error
            if attempt < _ATTEMPTS:
                _back_off(attempt)
        if problem is not None:
            with explained("Reading from", f"{self.name}/{key}"):
                raise problem

    def unfinished(self, key: str) -> list[str]:
        """The ids of unfinished uploads of an object, the oldest first."""
        whole = self._key(key)
        try:
            found = [upload for upload in self._uploads(key) if upload["Key"] == whole]
        except BucketFailed as error:
            if error.code not in _NOT_OFFERED:
                raise
            # A simpler server does not tell of them: it has what was asked for, but a cut begins it anew.
            return []
        return [upload["UploadId"] for upload in sorted(found, key=lambda upload: upload["Initiated"])]

    def parts(self, key: str, upload_id: str) -> Iterator[dict[str, Any]]:
        """The parts of an unfinished upload that are there, as S3 tells of them."""
        with explained("Listing", self.name):
            for page in self._client.get_paginator("list_parts").paginate(
                Bucket=self.address.bucket, Key=self._key(key), UploadId=upload_id
            ):
                yield from page.get("Parts", ())

    def _uploads(self, prefix: str) -> Iterator[dict[str, Any]]:
        with explained("Listing", self.name):
            for page in self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.address.bucket, Prefix=self._key(prefix)
            ):
                yield from page.get("Uploads", ())

    def _key(self, key: str) -> str:
        return f"{self.address.prefix}/{key}" if self.address.prefix else key

    def call(self, action: str, operation: str, key: str, **arguments: Any) -> dict[str, Any]:
        """Ask for something about an object. Raises `BlobMissing`, `BucketFailed`."""
        return self._ask(action, operation, self._key(checked_key(key)), **arguments)

    def _ask(self, action: str, operation: str, whole_key: str, **arguments: Any) -> dict[str, Any]:
        with explained(action, f"s3://{self.address.bucket}/{whole_key}"):
            try:
                ask = getattr(self._client, operation)
                reply: dict[str, Any] = ask(Bucket=self.address.bucket, Key=whole_key, **arguments)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in _GONE:
                    raise BlobMissing(whole_key.rpartition("/")[2]) from error
                raise
        return reply


def _back_off(attempt: int) -> None:
    time.sleep(_BACKOFF_SECONDS * 2**attempt * random.uniform(0.5, 1.0))  # noqa: S311
