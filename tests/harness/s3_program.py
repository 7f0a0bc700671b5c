"""The process of ``s3.S3Server``: moto's server, taught to hold large objects on the disk.

Moto copies an object as a whole for each range that is read of it, and twice when its parts are put together.
"""

from __future__ import annotations

import codecs
import hashlib
import shutil
import sys
from collections.abc import Iterable
from typing import Any

from moto.s3 import models
from moto.s3.exceptions import EntityTooSmall, InvalidPart
from moto.server import main

#: Bytes from which on an object stays on the disk.
LARGE = 16 * 1024 * 1024


class Joined:
    """The content of an object that is made of parts."""

    def __init__(self, parts: list[Any]) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return sum(part.contentsize for part in self.parts)


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
    if not isinstance(value, Joined):
        _write(key, value)
        return
    key._value_buffer.seek(0)
    key._value_buffer.truncate()
    for part in value.parts:
        part._value_buffer.seek(0)
        shutil.copyfileobj(part._value_buffer, key._value_buffer, 1024 * 1024)
    key.contentsize = len(value)


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


models.FakeKey.value = property(_read, _write_joined)
models.FakeMultipart.complete = _complete

if __name__ == "__main__":
    main(sys.argv[1:])
