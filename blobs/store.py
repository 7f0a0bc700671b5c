"""A folder of blobs, each filed under the SHA-256 of its content. Blocking functions: call them in a thread."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .digest import Digest, checked_sha256, digest_file
from .errors import BlobMissing, DigestMismatch, NotEnoughSpace, disk_full_explained
from .filing import link_or_copy

_PARTIAL_SUFFIX = ".partial"
_ABANDONED_SECONDS = 3600.0


@dataclass(frozen=True)
class _Entry:
    """A file of the folder, as `prune` weighs it."""

    used_ns: int
    size: int
    path: Path


class BlobFolder:
    """Blobs as `root/ab/abcdef...`, and beside them `abcdef....partial` for what has not fully arrived.

    Blobs may be hard-linked elsewhere (`link_to`), where a careless program could write into them. So a blob counts as
    whole while its size and mtime are those at which this object last verified its hash; otherwise it is hashed again.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self._verified: dict[str, tuple[int, int]] = {}

    def path(self, sha256: str) -> Path | None:
        """Where the blob is if it is present and whole, else None. Marks it as used.

        Hashes the file the first time it is asked for, and drops it if damaged. Raises `InvalidDigest`.
        """
        final = self._final(sha256)
        try:
            found = final.stat()
        except FileNotFoundError:
            self._verified.pop(sha256, None)
            return None
        state = (found.st_size, found.st_mtime_ns)
        try:
            if self._verified.get(sha256) != state:
                if digest_file(final).sha256 != sha256:
                    self.discard(sha256)
                    return None
                self._verified[sha256] = state
            # The access time alone: the mtime is what shows that nobody wrote into it.
            os.utime(final, ns=(time.time_ns(), found.st_mtime_ns))
        except FileNotFoundError:  # pruned or placed meanwhile
            return None
        return final

    def partial(self, sha256: str) -> Path:
        """Where the bytes that have arrived so far are kept; the file need not exist. Raises `InvalidDigest`."""
        final = self._final(sha256)
        return final.with_name(final.name + _PARTIAL_SUFFIX)

    def partial_length(self, sha256: str) -> int:
        """How many bytes of the blob have arrived; 0 if none."""
        try:
            return self.partial(sha256).stat().st_size
        except FileNotFoundError:
            return 0

    def commit(self, sha256: str, *, hashed: str | None = None) -> Path:
        """Publish the partial file as the blob, at once, after checking its hash; return the blob's path.

        `hashed` is its SHA-256 if the caller computed it while writing. Raises `DigestMismatch`, and then the partial
        file is gone; `BlobMissing` without a partial file.
        """
        final, partial = self._final(sha256), self.partial(sha256)
        try:
            found = hashed if hashed is not None else digest_file(partial).sha256
            if found != sha256:
                partial.unlink(missing_ok=True)
                raise DigestMismatch(sha256, found)
            os.replace(partial, final)
        except FileNotFoundError as error:
            if final.exists():  # another process published the same content
                return final
            raise BlobMissing(sha256) from error
        self._remember(sha256, final)
        return final

    def add(self, data: bytes, digest: Digest) -> Path:
        """File a small blob from memory; return its path. Cheap enough for the event loop up to some 256 KiB.

        Raises `DigestMismatch`, `NotEnoughSpace`.
        """
        found = Digest.of_bytes(data)
        if found != digest:
            raise DigestMismatch(digest.sha256, found.sha256)
        final = self._final(digest.sha256)
        staged = final.with_name(f".{secrets.token_hex(8)}{_PARTIAL_SUFFIX}")
        with disk_full_explained(self.root, digest.size):
            try:
                self._write_new(staged, data)
                os.replace(staged, final)
            except OSError:
                staged.unlink(missing_ok=True)
                raise
        self._remember(digest.sha256, final)
        return final

    def link_to(self, sha256: str, destination: Path) -> None:
        """Let the file `destination` have the blob's content: a hard link, or a copy where links are impossible.

        A hard link is the blob: nobody may write into it. Missing folders are made. Does nothing if `destination` is
        the blob already. Raises `BlobMissing`, FileExistsError if another file is there, `NotEnoughSpace`.
        """
        source = self.path(sha256)
        if source is None:
            raise BlobMissing(sha256)
        destination.parent.mkdir(parents=True, exist_ok=True)
        try:
            link_or_copy(source, destination)
        except FileExistsError:
            if not os.path.samefile(source, destination):
                raise

    def discard(self, sha256: str) -> None:
        """Forget the blob; what it was linked to stays."""
        self._verified.pop(sha256, None)
        self._final(sha256).unlink(missing_ok=True)

    def ensure_room(self, size: int) -> None:
        """Raise `NotEnoughSpace` if `size` further bytes do not fit on the disk."""
        self.root.mkdir(parents=True, exist_ok=True)
        if size > shutil.disk_usage(self.root).free:
            raise NotEnoughSpace(str(self.root), size)

    def prune(self, max_bytes: int, *, unused_seconds: float = 0.0) -> int:
        """Remove the blobs longest unused until at most `max_bytes` remain; return how many bytes were removed.

        Blobs used within `unused_seconds` stay, and so do partial files written within the last hour.
        """
        now = time.time()
        entries = sorted(self._entries(), key=lambda entry: entry.used_ns)
        excess = sum(entry.size for entry in entries) - max_bytes
        removed = 0
        for entry in entries:
            if removed >= excess:
                break
            partial = entry.path.name.endswith(_PARTIAL_SUFFIX)
            keep_seconds = max(unused_seconds, _ABANDONED_SECONDS if partial else 0.0)
            if keep_seconds and entry.used_ns / 1e9 > now - keep_seconds:
                continue
            with suppress(FileNotFoundError):
                entry.path.unlink()
                removed += entry.size
            self._verified.pop(entry.path.name, None)
        return removed

    def _entries(self) -> list[_Entry]:
        entries = []
        for path in self.root.glob("[0-9a-f][0-9a-f]/*"):
            with suppress(FileNotFoundError):
                found = path.stat()
                entries.append(_Entry(max(found.st_atime_ns, found.st_mtime_ns), found.st_size, path))
        return entries

    def _final(self, sha256: str) -> Path:
        return self.root / checked_sha256(sha256)[:2] / sha256

    def _remember(self, sha256: str, final: Path) -> None:
        with suppress(FileNotFoundError):
            found = final.stat()
            self._verified[sha256] = (found.st_size, found.st_mtime_ns)

    @staticmethod
    def _write_new(path: Path, data: bytes) -> None:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb") as file:
            file.write(data)
