"""Objects in a folder, as a network drive or a second disk brings one. Blocking functions; see ``object_store``."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from .arriving import ArrivingBlob, arrive
from .digest import CHUNK, Digest
from .errors import BlobMissing, DigestMismatch, disk_full_explained
from .object_store import Moved, StoredObject, checked_key, nobody
from .store import BlobFolder

#: Beside the objects; no key ends so.
_STAGED = ".partial"


class FolderObjects:
    """A folder as an ``ObjectStore``."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    @property
    def name(self) -> str:
        """See ``ObjectStore``."""
        return str(self.root)

    def size_of(self, key: str) -> int | None:
        """See ``ObjectStore``."""
        try:
            return self._path(key).stat().st_size
        except FileNotFoundError:
            return None

    def put(self, key: str, source: Path, digest: Digest, moved: Moved = nobody) -> bool:
        """See ``ObjectStore``; a put that was cut off begins anew."""
        if self.size_of(key) == digest.size:
            return False
        self._store(key, _pieces(source, 0), digest, moved)
        return True

    def fetch(self, key: str, folder: BlobFolder, digest: Digest, moved: Moved = nobody) -> Path:
        """See ``ObjectStore``."""
        source = self._path(key)

        def bring(arriving: ArrivingBlob) -> None:
            try:
                for piece in _pieces(source, arriving.length):
                    arriving.append(piece)
                    moved(len(piece))
            except FileNotFoundError as error:
                raise BlobMissing(digest.sha256) from error

        return arrive(folder, digest, bring)

    def read(self, key: str) -> bytes:
        """See ``ObjectStore``."""
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError as error:
            raise BlobMissing(key) from error

    def write(self, key: str, data: bytes) -> None:
        """See ``ObjectStore``."""
        self._store(key, iter([data]), Digest.of_bytes(data), nobody)

    def listing(self, prefix: str) -> Iterator[StoredObject]:
        """See ``ObjectStore``."""
        folder = self.root / prefix.rpartition("/")[0]
        found = []
        for parent, _, names in os.walk(folder):
            for name in names:
                path = Path(parent, name)
                key = path.relative_to(self.root).as_posix()
                if key.startswith(prefix) and not name.endswith(_STAGED):
                    found.append((key, path))
        for key, path in sorted(found):
            try:
                state = path.stat()
            except FileNotFoundError:
                continue
            yield StoredObject(key, state.st_size, state.st_mtime)

    def delete(self, key: str) -> None:
        """See ``ObjectStore``."""
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.root / checked_key(key)

    def _store(self, key: str, pieces: Iterator[bytes], digest: Digest, moved: Moved) -> None:
        """Write an object beside its place and give it its name once it is whole, and on the disk."""
        final = self._path(key)
        final.parent.mkdir(parents=True, exist_ok=True)
        staged = final.with_name(f"{secrets.token_hex(8)}{_STAGED}")
        hasher, size = hashlib.sha256(), 0
        try:
            with disk_full_explained(self.root, digest.size), open(staged, "xb") as file:
                for piece in pieces:
                    file.write(piece)
                    hasher.update(piece)
                    size += len(piece)
                    moved(len(piece))
                file.flush()
                os.fsync(file.fileno())
            if (found := Digest(hasher.hexdigest(), size)) != digest:
                raise DigestMismatch(digest.sha256, found.sha256)
            os.replace(staged, final)
        finally:
            staged.unlink(missing_ok=True)


def _pieces(source: Path, offset: int) -> Iterator[bytes]:
    with open(source, "rb", buffering=0) as file:
        file.seek(offset)
        while piece := file.read(CHUNK):
            yield piece
