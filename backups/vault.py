"""A backup as it lies in an object store: contents, manifests, and who works on it. Blocking functions.

``backup.json``            salt of the keys, and a check of the words; the one object that is not sealed
``snapshots/ID.summary``   what lists tell of a snapshot, written before
``snapshots/ID.manifest``  which is written last: a snapshot without it does not exist
``blobs/ab/abcdef...``     contents by their secret names
``running/ID``             a snapshot that is being taken; ``pruning/ID`` a clearing up
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cryptography.exceptions import InvalidTag

from ..blobs.digest import Digest
from ..blobs.errors import BlobMissing, DigestMismatch
from ..blobs.object_store import Moved, ObjectStore, nobody
from ..blobs.store import BlobFolder
from .errors import BackupBusy, ContentDamaged, NewerFormat, NoBackup, SnapshotDamaged, WrongKey
from .manifest import Manifest, Summary, decode, encode, encode_summary, is_id, mark_of, summary_of
from .secrecy import CHUNK, MANIFEST_CHUNK, SALT, BackupKeys, CutShort, opened, sealed, sealed_size

HEAD = "backup.json"
FORMAT = 1
#: Up to so many bytes a content is sealed in memory and sent in one piece; one with more than the second number comes
#: in parts, several at a time, so no other does meanwhile.
SMALL, LARGE = 1024 * 1024, 8 * 1024 * 1024
#: Small objects that are sent or fetched at a time, since what a request waits for is the way to the bucket.
AT_ONCE = 8
#: Seconds after which a mark is renewed, and after which one that was not belongs to nobody any more.
RENEWED, ABANDONED = 120.0, 3600.0
Work = str
RUNNING: Work = "running"
PRUNING: Work = "pruning"


def content_key(name: str) -> str:
    """Where the content with this secret name lies."""
    return f"blobs/{name[:2]}/{name}"


class Mark:
    """Says that somebody works on the backup, as long as it is renewed."""

    def __init__(self, objects: ObjectStore, key: str) -> None:
        self._objects = objects
        self._key = key
        self._lock = threading.Lock()
        self._written = float("-inf")

    def renew(self, _count: int = 0) -> None:
        """Say so again if it is long ago; from any thread."""
        if time.monotonic() - self._written > RENEWED and self._lock.acquire(blocking=False):
            try:
                self._objects.write(self._key, b"")
                self._written = time.monotonic()
            finally:
                self._lock.release()

    def end(self) -> None:
        """The work is over."""
        self._objects.delete(self._key)


class Vault:
    """One backup, opened with its key. Methods may be called from several threads."""

    def __init__(self, objects: ObjectStore, keys: BackupKeys) -> None:
        self.objects = objects
        self.keys = keys

    @classmethod
    def open(cls, objects: ObjectStore, words: str, *, create: bool = False) -> Vault:
        """Open a backup; with ``create`` begin it where there is none.

        Raises:
            NoBackup, WrongKey, NewerFormat: it cannot be opened.
            BlobError: the store of objects does not do what it is asked.
        """
        try:
            head = json.loads(objects.read(HEAD))
        except BlobMissing:
            if not create:
                raise NoBackup(objects.name) from None
            salt = secrets.token_bytes(SALT)
            keys = BackupKeys(words, salt)
            objects.write(HEAD, json.dumps({"format": FORMAT, "salt": salt.hex(), "check": keys.check}).encode())
            # Somebody else may have begun it at this moment; what stands there now is what holds.
            head = json.loads(objects.read(HEAD))
        if head["format"] > FORMAT:
            raise NewerFormat(f"The backup in {objects.name}")
        keys = BackupKeys(words, bytes.fromhex(head["salt"]))
        if not secrets.compare_digest(keys.check, head["check"]):
            raise WrongKey(objects.name)
        return cls(objects, keys)

    # Who works on it.

    @contextlib.contextmanager
    def working(self, work: Work, snapshot: str) -> Iterator[Mark]:
        """Say that a snapshot is taken, or that it is cleared up; each keeps the other out.

        Both write their mark first and look then, so of two that begin at once at least one sees the other.

        Raises:
            BackupBusy: the other one is at work.
        """
        mark = Mark(self.objects, f"{work}/{snapshot}")
        mark.renew()
        try:
            self._keep_out(work, snapshot)
            yield mark
        finally:
            mark.end()

    def _keep_out(self, work: Work, snapshot: str) -> None:
        others = {
            PRUNING: "A snapshot is being taken, so nothing is cleared up now. Try again when it is done.",
            RUNNING: "Old snapshots are being cleared up, so none is taken now. Try again in a while.",
        }
        for kind in (PRUNING, RUNNING) if work == PRUNING else (PRUNING,):
            for found in self.objects.listing(f"{kind}/"):
                if found.key != f"{work}/{snapshot}" and time.time() - found.written < ABANDONED:
                    raise BackupBusy(others[work])

    # Contents.

    def contents(self) -> dict[str, tuple[int, float]]:
        """Size in bytes and age in Unix seconds of every content that is there, by its secret name."""
        found = self.objects.listing("blobs/")
        return {each.key.rpartition("/")[2]: (each.size, each.written) for each in found}

    def put_small(self, data: bytes, sha256: str) -> None:
        """Store a content from memory, in place of the same that may be there."""
        pieces = (data[start : start + CHUNK] for start in range(0, len(data), CHUNK))
        self.objects.write(
            content_key(self.keys.name_of(sha256)), b"".join(sealed(self.keys.of_content(sha256), pieces))
        )

    def put_large(self, source: Path, digest: Digest, folder: Path, moved: Moved = nobody) -> Digest | None:
        """Store the content of a file; one that was cut off goes on.

        It is sealed into a file first: parts are sent from there several at a time, and again after an error.

        Args:
            folder: where there is room for it.

        Returns:
            The digest of what is stored; None if the file is not (any more) what its digest says: nothing is stored.
        """
        staged = folder / f"{secrets.token_hex(8)}.sealed"
        plain, cipher, size = hashlib.sha256(), hashlib.sha256(), 0

        def pieces() -> Iterator[bytes]:
            with open(source, "rb") as file:
                while piece := file.read(CHUNK):
                    plain.update(piece)
                    yield piece

        try:
            with open(staged, "xb") as file:
                for piece in sealed(self.keys.of_content(digest.sha256), pieces()):
                    file.write(piece)
                    cipher.update(piece)
                    size += len(piece)
            if plain.hexdigest() != digest.sha256:
                return None
            stored = Digest(cipher.hexdigest(), size)
            self.objects.put(content_key(self.keys.name_of(digest.sha256)), staged, stored, moved)
            return stored
        finally:
            staged.unlink(missing_ok=True)

    def read_small(self, sha256: str, what: str) -> bytes:
        """A content, in memory.

        Raises:
            ContentDamaged: it is missing or not whole; ``what`` names it.
        """
        data = self._read(content_key(self.keys.name_of(sha256)), what)
        return b"".join(self._checked(io.BytesIO(data).read, sha256, what))

    def fetch(self, sha256: str, size: int, stored: str, destination: Path, what: str, moved: Moved = nobody) -> None:
        """Write a content into a file, which has its name only when it is whole.

        Args:
            stored: SHA-256 of the sealed content where it is known; it comes in parts then, and goes on after a cut.

        Raises:
            ContentDamaged: see ``read_small``.
        """
        with contextlib.ExitStack() as stack:
            if stored:
                arriving = BlobFolder(destination.parent / "arriving")
                digest = Digest(stored, sealed_size(size))
                try:
                    path = self.objects.fetch(content_key(self.keys.name_of(sha256)), arriving, digest, moved)
                except (BlobMissing, DigestMismatch):
                    raise ContentDamaged(what) from None
                stack.callback(arriving.discard, stored)
                read = stack.enter_context(open(path, "rb")).read
            else:
                data = self._read(content_key(self.keys.name_of(sha256)), what)
                moved(len(data))
                read = io.BytesIO(data).read
            partial = destination.with_name(destination.name + ".part")
            with open(partial, "wb") as file:
                for piece in self._checked(read, sha256, what):
                    file.write(piece)
                file.flush()
            partial.replace(destination)

    def _read(self, key: str, what: str) -> bytes:
        try:
            return self.objects.read(key)
        except BlobMissing:
            raise ContentDamaged(what) from None

    def _checked(self, read: Callable[[int], bytes], sha256: str, what: str) -> Iterator[bytes]:
        hasher = hashlib.sha256()
        try:
            for piece in opened(self.keys.of_content(sha256), read):
                hasher.update(piece)
                yield piece
        except (CutShort, InvalidTag):
            raise ContentDamaged(what) from None
        if hasher.hexdigest() != sha256:
            raise ContentDamaged(what)

    # Snapshots.

    def mark_of_machine(self, machine: str) -> str:
        """What the names of a machine's own snapshots end with: nobody learns its name from that. Empty for none."""
        return self.keys.name_of(hashlib.sha256(f"machine {machine}".encode()).hexdigest())[:8] if machine else ""

    def snapshots_of(self, machine: str) -> list[str]:
        """The names of a machine's own snapshots, or of the workshop's for an empty name, the oldest first."""
        mark = self.mark_of_machine(machine)
        return [snapshot for snapshot in self.snapshots() if mark_of(snapshot) == mark]

    def snapshots(self) -> list[str]:
        """The names of all snapshots that exist, the oldest first."""
        names = (each.key.removeprefix("snapshots/") for each in self.objects.listing("snapshots/"))
        return sorted(
            found for name in names if name.endswith(".manifest") and is_id(found := name.removesuffix(".manifest"))
        )

    def write_snapshot(self, manifest: Manifest) -> None:
        """Let a snapshot exist, all of whose contents are there."""
        snapshot = manifest.summary.id
        for name, data in (
            (f"{snapshot}.summary", encode_summary(manifest.summary)),
            (f"{snapshot}.manifest", encode(manifest)),
        ):
            self.objects.write(f"snapshots/{name}", self._sealed_under(name, data))

    def summary(self, snapshot: str) -> Summary:
        """What lists tell of a snapshot. Raises ``SnapshotDamaged``."""
        return summary_of(b"".join(self._opened_under(snapshot, f"{snapshot}.summary")))

    def summaries(self, snapshots: Sequence[str]) -> dict[str, Summary | None]:
        """What lists tell of these, by their names, in their order; None of one that is damaged."""

        def read(snapshot: str) -> Summary | None:
            try:
                return self.summary(snapshot)
            except SnapshotDamaged:
                return None

        with ThreadPoolExecutor(AT_ONCE, "comfyume-backup") as pool:
            return dict(zip(snapshots, pool.map(read, snapshots), strict=True))

    def manifest(self, snapshot: str, *, what_is_there: bool = False) -> Manifest:
        """A snapshot's manifest; with ``what_is_there`` as far as it goes.

        Raises:
            SnapshotDamaged: it is not whole, or there is none.
        """
        pieces: list[bytes] = []
        try:
            for piece in self._opened_under(snapshot, f"{snapshot}.manifest"):
                pieces.append(piece)
        except SnapshotDamaged:
            if not what_is_there or not pieces:
                raise
        try:
            manifest = decode(pieces)
        except ValueError:
            raise SnapshotDamaged(snapshot, "cannot be read even in part") from None
        return manifest

    def remove_snapshot(self, snapshot: str) -> None:
        """Let a snapshot exist no more; its contents stay."""
        self.objects.delete(f"snapshots/{snapshot}.manifest")
        self.objects.delete(f"snapshots/{snapshot}.summary")

    def _sealed_under(self, name: str, data: bytes) -> bytes:
        salt = secrets.token_bytes(SALT)
        pieces = (data[start : start + MANIFEST_CHUNK] for start in range(0, len(data), MANIFEST_CHUNK))
        return salt + b"".join(sealed(self.keys.of_manifest(name, salt), pieces))

    def _opened_under(self, snapshot: str, name: str) -> Iterator[bytes]:
        try:
            data = self.objects.read(f"snapshots/{name}")
        except BlobMissing:
            raise SnapshotDamaged(snapshot, "is not there") from None
        reader = io.BytesIO(data)
        try:
            yield from opened(self.keys.of_manifest(name, reader.read(SALT)), reader.read, MANIFEST_CHUNK)
        except CutShort:
            raise SnapshotDamaged(snapshot, "is cut short") from None
        except InvalidTag:
            raise SnapshotDamaged(snapshot, "is cut short or was changed") from None
