"""A part of a file as a file of its own, to be read from its beginning any number of times."""

from __future__ import annotations

import io
import os
from pathlib import Path


class Section(io.RawIOBase):
    """The bytes from `start` on, `length` of them. Raises OSError as `open` does."""

    def __init__(self, path: Path, start: int, length: int) -> None:
        super().__init__()
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed with this
        self._start = start
        self._length = length
        self.seek(0)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """See `io.RawIOBase`."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self._length}[whence]
        self._file.seek(self._start + max(0, min(base + offset, self._length)))
        return self.tell()

    def tell(self) -> int:
        """See `io.RawIOBase`."""
        return self._file.tell() - self._start

    def readinto(self, buffer: object) -> int:
        """See `io.RawIOBase`."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        return self._file.readinto(view[: self._length - self.tell()]) or 0

    def readable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def seekable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def close(self) -> None:
        """See `io.RawIOBase`."""
        self._file.close()
        super().close()
