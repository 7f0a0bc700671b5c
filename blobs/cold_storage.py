"""Files that lie in a bucket because the disk is for newer ones. Blocking functions.

A cold file is an empty file with the old time, so that its name stays taken and lists keep it, and a record of its
content in another folder. What is not empty, or has another time, is not cold, whatever a record says. Content and
record are there before the file is emptied, and the file is whole before the record goes: a process may end anywhere.

The objects are this folder's own: no other frontend knows which of them are needed.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .digest import Digest, digest_file
from .filing import staged_copy, write_once, write_whole
from .object_store import Moved, ObjectStore, nobody
from .store import BlobFolder

#: Names this folder's objects in the bucket.
_MARK = "objects"


@dataclass(frozen=True)
class _State:
    """What changes when a file does."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> _State:
        found = path.stat()
        return cls(found.st_size, found.st_mtime_ns, found.st_ino)


class ColdStorage:
    """The cold files below one folder. Safe across threads of one process.

    Args:
        root: below which the files lie.
        records: where it is noted what they hold.
        arriving: where contents arrive that come back.
        objects: opens the bucket.
    """

    def __init__(self, root: Path, records: Path, arriving: BlobFolder, objects: Callable[[], ObjectStore]) -> None:
        self._root = Path(os.path.realpath(root))
        self._records = records
        self._arriving = arriving
        self._objects = objects
        self._lock = threading.Lock()

    def digest_of(self, path: Path) -> Digest | None:
        """What a cold file holds; None for a file that is not cold."""
        try:
            found = path.stat()
            if found.st_size != 0:
                return None
            value = json.loads(self._record(path).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Digest(value["sha256"], value["size"]) if value["mtime_ns"] == found.st_mtime_ns else None

    def key_of(self, digest: Digest) -> str:
        """Where in the bucket a content lies."""
        return f"{self._prefix()}{digest.sha256[:2]}/{digest.sha256}"

    def put_away(self, path: Path) -> int:
        """Bring a file into the bucket, unless its content is there, and make it cold.

        Returns:
            The bytes that the disk has got back: none if the file has changed meanwhile.

        Raises:
            BucketFailed, DigestMismatch: see ``ObjectStore.put``; the file is as it was.
        """
        before = _State.of(path)
        if before.size == 0:
            # It is cold already, or would not get smaller.
            return 0
        digest = digest_file(path)
        self._objects().put(self.key_of(digest), path, digest)
        note = {"sha256": digest.sha256, "size": digest.size, "mtime_ns": before.mtime_ns}
        write_whole(self._record(path), json.dumps(note).encode())
        empty = path.with_name(f".comfyume-{secrets.token_hex(8)}.part")
        try:
            empty.touch()
            os.utime(empty, ns=(before.mtime_ns, before.mtime_ns))
            with self._lock:
                if _State.of(path) != before:
                    return 0
                os.replace(empty, path)
        finally:
            empty.unlink(missing_ok=True)
        return before.size

    def bring(self, path: Path, moved: Moved = nobody) -> None:
        """Let a file have its content again; nothing if it is not cold.

        Raises:
            BlobMissing, BucketFailed, DigestMismatch, NotEnoughSpace: see ``ObjectStore.fetch``; it stays cold.
        """
        digest = self.digest_of(path)
        if digest is None:
            return
        blob = self._objects().fetch(self.key_of(digest), self._arriving, digest, moved)
        with staged_copy(blob, path.parent) as staged, self._lock:
            # Somebody else may have been faster, or the person has deleted it.
            if self.digest_of(path) == digest:
                found = path.stat()
                os.utime(staged, ns=(time.time_ns(), found.st_mtime_ns))
                os.replace(staged, path)
                self._record(path).unlink(missing_ok=True)
        self._arriving.discard(digest.sha256)

    def tidy(self, rest: float) -> int:
        """Remove objects of files that have been deleted or changed; returns the bytes.

        Args:
            rest: seconds that an object lies untouched at least: a file may be about to become cold.
        """
        objects = self._objects()
        needed = {self.key_of(digest) for digest in self._digests()}
        removed = 0
        for each in objects.listing(self._prefix()):
            if each.key not in needed and time.time() - each.written > rest:
                objects.delete(each.key)
                removed += each.size
        return removed

    def _prefix(self) -> str:
        # Part of the records, so that who restores them finds the objects again.
        mark = self._records / _MARK
        write_once(mark, secrets.token_hex(8))
        return f"results/{mark.read_text(encoding='ascii')}/"

    def _digests(self) -> Iterator[Digest]:
        """What the cold files hold. Drops the records of those that are cold no more."""
        for record in self._records.rglob("*.json"):
            path = self._root / record.relative_to(self._records).with_suffix("")
            digest = self.digest_of(path)
            if digest is not None:
                yield digest
            else:
                with contextlib.suppress(FileNotFoundError):
                    record.unlink()

    def _record(self, path: Path) -> Path:
        name = Path(os.path.realpath(path)).relative_to(self._root)
        return self._records / name.with_name(f"{name.name}.json")
