"""What can go wrong with a blob. Each message says what happened and what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT}) if hasattr(errno, "EDQUOT") else frozenset({errno.ENOSPC})


class BlobError(Exception):
    """Anything that this package refuses or fails to do with a blob."""


class InvalidDigest(BlobError, ValueError):
    """A hash or size that no blob can have."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"{problem}. Send the SHA-256 as 64 lowercase hexadecimal digits and the size in bytes.")


class UnsafeName(BlobError, ValueError):
    """A file or folder name that would leave the folder it belongs in."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name!r} {problem}. Use a plain file name and a relative subfolder with forward slashes.")
        self.name = name


class BlobMissing(BlobError, FileNotFoundError):
    """The folder does not hold this blob, or held it damaged and dropped it."""

    def __init__(self, sha256: str) -> None:
        super().__init__(f"The blob {sha256} is not here. Transfer it (again), then retry.")
        self.sha256 = sha256


class DigestMismatch(BlobError):
    """The bytes are not the ones that were announced."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(
            f"Expected a file with SHA-256 {expected} but got {found}. "
            "The file changed on its way or since it was announced; send it again."
        )
        self.expected = expected
        self.found = found


class NotEnoughSpace(BlobError):
    """The disk is full, here or on the other side."""

    def __init__(self, where: str, needed: int) -> None:
        super().__init__(f"No space for {needed:,} more bytes in {where}. Free some disk space there, then retry.")
        self.where = where
        self.needed = needed


class TransferFailed(BlobError):
    """A download or upload ended without success; `status` is the last HTTP status, if one arrived."""

    def __init__(self, action: str, url: str, reason: str, advice: str, status: int | None = None) -> None:
        super().__init__(f"{action} {url} failed: {reason}. {advice}")
        self.url = url
        self.reason = reason
        self.status = status


class BucketFailed(BlobError):
    """A bucket does not do what it is asked; `code` is its own word for why, where it said one."""

    def __init__(self, action: str, where: str, reason: str, advice: str, code: str = "") -> None:
        super().__init__(f"{action} {where} failed: {reason}. {advice}")
        self.reason = reason
        self.code = code


class UploadRefused(BlobError):
    """The receiver's answer to an upload that it does not accept: an HTTP status and a JSON body."""

    def __init__(self, status: int, message: str, **details: int) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, str | int] = {"error": message, **details}


@contextmanager
def disk_full_explained(folder: Path, needed: int) -> Iterator[None]:
    """Turn the system's "no space left" and "quota exceeded" into `NotEnoughSpace`; `needed` is in bytes."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise NotEnoughSpace(str(folder), needed) from error
