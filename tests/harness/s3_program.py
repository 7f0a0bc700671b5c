"""The process of ``s3.S3Server``: moto's server, taught to hold large objects on the disk.

Moto copies an object as a whole for each range that is read of it, and twice when its parts are put together. An end
of an upload that has ended already it takes for a failure of its own, where S3 knows of no such upload.
"""

from __future__ import annotations

import codecs
import hashlib
import shutil
import sys
import tempfile
from collections.abc import Iterable
from typing import Any

from moto.s3 import models
from moto.s3.exceptions import EntityTooSmall, InvalidPart, NoSuchUpload
from moto.server import main

#: Bytes from which on an object stays on the disk.
LARGE = 16 * 1024 * 1024


class Joined:
    """The content of an object that was made of parts, in a file."""

    def __init__(self, parts: list[Any]) -> None:
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 - the object keeps it
        for part in parts:
            part._value_buffer.seek(0)
            shutil.copyfileobj(part._value_buffer, self.file, 1024 * 1024)

    def __len__(self) -> int:
        return self.file.tell()


class OnDisk:
    """A large object's content, of which slices are read."""

    def __init__(self, key: Any) -> None:
        self._key = key

    def __len__(self) -> int:
        return int(self._key.contentsize)

    def __getitem__(self, wanted: slice) -> bytes:
        start, stop, _ = wanted.indices(len(self))
        with self._key.lock:
            self._key._value_buffer.seek(start)
            return bytes(self._key._value_buffer.read(stop - start))


_read_all, _write = models.FakeKey.value.fget, models.FakeKey.value.fset


def _read(key: Any) -> Any:
    return OnDisk(key) if key.contentsize > LARGE else _read_all(key)


def _write_joined(key: Any, value: Any) -> None:
    if isinstance(value, Joined):
        key.contentsize = len(value)
        key._value_buffer = value.file
    else:
        _write(key, value)


def _complete(upload: Any, body: Iterable[tuple[int, str]]) -> tuple[Any, str, None]:
    parts, tags = [], bytearray()
    for number, etag in body:
        part = upload.parts.get(number)
        if part is None or part.etag.strip('"') != etag.strip('"'):
            raise InvalidPart
        if parts and parts[-1].contentsize < models.S3_UPLOAD_PART_MIN_SIZE:
            raise EntityTooSmall
        tags += codecs.decode(part.etag.strip('"'), "hex")
        parts.append(part)
    return Joined(parts), f"{hashlib.md5(tags, usedforsecurity=False).hexdigest()}-{len(parts)}", None


def _complete_if_there(backend: Any, bucket: str, upload: str, body: Any) -> Any:
    if upload not in backend.get_bucket(bucket).multiparts:
        raise NoSuchUpload(upload)
    return _complete_upload(backend, bucket, upload, body)


_complete_upload = models.S3Backend.complete_multipart_upload
models.S3Backend.complete_multipart_upload = _complete_if_there
models.FakeKey.value = property(_read, _write_joined)
models.FakeMultipart.complete = _complete

if __name__ == "__main__":
    main(sys.argv[1:])
