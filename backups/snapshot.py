"""Taking a snapshot: what is as it was in the last one is named again, what is new is sealed and stored. Blocking."""

from __future__ import annotations

import hashlib
import logging
import secrets
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..blobs.digest import Digest, digest_file
from .errors import SnapshotDamaged
from .manifest import Entry, Manifest, PartEntry, Summary, new_id
from .sources import Source, look
from .vault import ABANDONED, AT_ONCE, LARGE, RUNNING, SMALL, Mark, Vault

log = logging.getLogger("comfyume")

#: Files that are sealed into a file first, at a time.
MEDIUM_AT_ONCE = 3
#: A file that changes while it is read is read again so often.
ATTEMPTS = 3
#: With so many files to store it pays to ask for the names of all that is there, instead of sending some again.
WORTH_LISTING = 50
#: A file that was changed so shortly before the last snapshot may have been changed again within a tick of the clock.
RACY_NS = 2_000_000_000


@dataclass(frozen=True)
class Part:
    """A part of what is no file. One with the version that it had in the last snapshot is not made again."""

    name: str
    version: str
    make: Callable[[], bytes]


@dataclass(frozen=True)
class Wanted:
    """What a snapshot is to hold.

    Attributes:
        parts: asked for before the files are looked at: what they name is on the disk by then.
        staging: a folder with room for the largest file.
        machine: the worker whose own files these are, which is all that it takes; empty for the workshop.
    """

    sources: Sequence[Source]
    parts: Callable[[], Iterable[Part]]
    staging: Path
    reason: str = ""
    workshop: str = ""
    facts: Callable[[], dict[str, int]] = dict
    machine: str = ""


@dataclass
class Progress:
    """How far it has come; ``told`` is called now and then, from any thread."""

    files: int = 0
    of: int = 0
    size: int = 0
    told: Callable[[Progress], None] = lambda _: None


@dataclass
class _New:
    """What this snapshot has stored."""

    names: set[str]
    files: int = 0
    size: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def take(vault: Vault, wanted: Wanted, progress: Progress | None = None) -> Summary:
    """Take a snapshot.

    Raises:
        BackupBusy: old ones are being cleared up.
        BlobError, OSError: the backup does not take it; what has been stored is found again by the next one.
    """
    begin = time.time()
    snapshot = new_id(begin, secrets.token_hex(4), vault.mark_of_machine(wanted.machine))
    wanted.staging.mkdir(parents=True, exist_ok=True)
    _clear(wanted.staging)
    with vault.working(RUNNING, snapshot) as mark, tempfile.TemporaryDirectory(dir=wanted.staging) as staging:
        taking = _Taking(vault, mark, Path(staging), progress or Progress())
        taking.compare_with(_latest(vault, wanted.machine))
        # The store first: what its jobs name is on the disk before they are in it.
        parts = tuple(taking.part(part) for part in wanted.parts())
        entries = taking.files(wanted.sources)
        files = [entry for entry in entries if entry.kind == "file"]
        summary = Summary(
            snapshot,
            begin,
            wanted.reason,
            socket.gethostname(),
            wanted.workshop,
            len(files),
            sum(entry.size for entry in files) + sum(part.size for part in parts),
            taking.new.files,
            taking.new.size,
            round(time.time() - begin, 3),
            tuple(taking.problems),
            wanted.facts(),
            wanted.machine,
        )
        vault.write_snapshot(
            Manifest(summary, {source.name: str(source.path) for source in wanted.sources}, parts, tuple(entries))
        )
    return summary


def _clear(staging: Path) -> None:
    """Remove what a snapshot left there that was killed."""
    for left in staging.iterdir():
        if time.time() - left.stat().st_mtime > ABANDONED:
            shutil.rmtree(left, ignore_errors=True)


def _latest(vault: Vault, machine: str) -> Manifest | None:
    """The newest snapshot of the same files that can be read; the contents of damaged ones are stored again."""
    for snapshot in reversed(vault.snapshots_of(machine)):
        try:
            return vault.manifest(snapshot)
        except SnapshotDamaged as error:
            log.warning("[comfyume] %s", error)
    return None


class _Taking:
    """One snapshot in the making."""

    def __init__(self, vault: Vault, mark: Mark, staging: Path, progress: Progress) -> None:
        self._vault = vault
        self._mark = mark
        self._staging = staging
        self._progress = progress
        self._former: dict[str, Entry] = {}
        self._former_parts: dict[str, PartEntry] = {}
        self._sealed: dict[str, str] = {}
        self._settled_ns = 0
        self._medium = threading.Semaphore(MEDIUM_AT_ONCE)
        self._large = threading.Semaphore(1)
        self.new = _New(set())
        self.problems: list[str] = []

    def compare_with(self, former: Manifest | None) -> None:
        """What that snapshot names is there, and needs to be neither read nor asked for."""
        if former is None:
            return
        self._former = {entry.name: entry for entry in former.entries}
        self._former_parts = {part.name: part for part in former.parts}
        self._sealed = {entry.sha256: entry.sealed for entry in former.entries if entry.sealed}
        self._settled_ns = int(former.summary.taken * 1e9) - RACY_NS
        self.new.names = {self._vault.keys.name_of(sha256) for sha256 in {sha for _, sha, _ in former.contents()}}

    def part(self, part: Part) -> PartEntry:
        """Store a part of what is no file."""
        former = self._former_parts.get(part.name)
        if former is not None and part.version and former.version == part.version:
            return former
        data = part.make()
        sha256 = hashlib.sha256(data).hexdigest()
        self._store_small(data, sha256)
        return PartEntry(part.name, part.version, len(data), sha256)

    def files(self, sources: Sequence[Source]) -> list[Entry]:
        """Every file of the sources, stored."""
        known: list[Entry] = []
        changed: list[tuple[Entry, Path]] = []
        for source in sources:
            found = look(source)
            self.problems += found.problems
            if found.links:
                self.problems.append(f"{found.links} links in {source.path} are left out")
            for entry, path in found.entries:
                former = self._former.get(entry.name)
                if entry.kind != "file":
                    known.append(entry)
                elif (
                    not entry.size and (stands_for := self._known_elsewhere(entry, source.elsewhere(path))) is not None
                ):
                    known.append(stands_for)
                elif former is not None and self._is_as_it_was(entry, former):
                    known.append(replace(entry, sha256=former.sha256, sealed=former.sealed))
                else:
                    changed.append((entry, path))
        self._progress.of = len(changed)
        if len(changed) > WORTH_LISTING:
            self.new.names |= self._vault.contents().keys()
        with ThreadPoolExecutor(AT_ONCE, "comfyume-backup") as pool:
            try:
                stored = list(pool.map(self._file, changed))
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        return sorted(known + [entry for entry in stored if entry is not None], key=lambda entry: entry.name)

    def _known_elsewhere(self, entry: Entry, digest: Digest | None) -> Entry | None:
        """A file whose content was brought to another place since a snapshot that has it; None for any other file.

        One that none has is kept as the empty file that it is: its content is where it was brought.
        """
        if digest is None or self._vault.keys.name_of(digest.sha256) not in self.new.names:
            return None
        sealed = self._sealed.get(digest.sha256, "")
        if digest.size > SMALL and not sealed:
            return None
        return replace(entry, size=digest.size, sha256=digest.sha256, sealed=sealed)

    def _is_as_it_was(self, entry: Entry, former: Entry) -> bool:
        same = (entry.size, entry.mtime_ns, entry.inode) == (former.size, former.mtime_ns, former.inode)
        return same and former.kind == "file" and entry.mtime_ns < self._settled_ns

    def _file(self, found: tuple[Entry, Path]) -> Entry | None:
        """Store a file; None for one that has gone, or that cannot be read."""
        entry, path = found
        self._mark.renew()
        stored: Entry | None = None
        try:
            for _ in range(ATTEMPTS):
                if (stored := self._once(entry, path)) is not None:
                    break
            else:
                self.problems.append(f"{path} is being written, so it is in the next snapshot")
        except FileNotFoundError:
            pass
        except PermissionError as error:
            self.problems.append(f"{path} cannot be read ({error.strerror})")
        with self.new.lock:
            self._progress.files += 1
        self._progress.told(self._progress)
        return stored

    def _once(self, entry: Entry, path: Path) -> Entry | None:
        size = path.stat().st_size
        if size <= SMALL:
            with open(path, "rb") as file:
                data = file.read(SMALL + 1)
            if len(data) > SMALL:
                return None
            sha256 = hashlib.sha256(data).hexdigest()
            self._store_small(data, sha256)
            return replace(entry, size=len(data), sha256=sha256)
        with self._large if size > LARGE else self._medium:
            digest = digest_file(path)
            name = self._vault.keys.name_of(digest.sha256)
            sealed = self._sealed.get(digest.sha256)
            if sealed is None or name not in self.new.names:
                was_there = name in self.new.names
                stored = self._vault.put_large(path, digest, self._staging, self._moved)
                if stored is None:
                    return None
                sealed = self._sealed[digest.sha256] = stored.sha256
                if not was_there:
                    self._count(name, digest.size)
            return replace(entry, size=digest.size, sha256=digest.sha256, sealed=sealed)

    def _store_small(self, data: bytes, sha256: str) -> None:
        name = self._vault.keys.name_of(sha256)
        with self.new.lock:
            if name in self.new.names:
                return
        self._vault.put_small(data, sha256)
        self._count(name, len(data))

    def _count(self, name: str, size: int) -> None:
        with self.new.lock:
            if name not in self.new.names:
                self.new.names.add(name)
                self.new.files += 1
                self.new.size += size
                self._progress.size += size

    def _moved(self, count: int) -> None:
        self._mark.renew(count)
        self._progress.told(self._progress)
