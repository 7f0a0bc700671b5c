"""Bringing a snapshot's files back: first all to a place beside, then each whole to its own. Blocking functions.

A restore that was cut off can be run again: what has arrived is not fetched again, what is in place is seen to be so.
Nothing is overwritten: a file that differs moves to a folder ``before-restore-...`` of its source, and what came later
than the snapshot stays.
"""

from __future__ import annotations

import contextlib
import grp
import hashlib
import os
import pwd
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ..blobs.digest import digest_file
from ..blobs.errors import NotEnoughSpace
from ..blobs.filing import is_below
from .errors import ContentDamaged, EscapingName, SnapshotIncomplete
from .manifest import Entry, Manifest
from .secrecy import sealed_size
from .snapshot import Progress
from .sources import ASIDE, Source, unsafe_names
from .vault import AT_ONCE, LARGE, Vault

#: Below a source: what has arrived and is not in its place yet.
STAGED = ".comfyume-restore"


@dataclass(frozen=True)
class Target:
    """Where the files of a source go."""

    source: Source
    root: Path


@dataclass
class Plan:
    """What a restore would do.

    Attributes:
        bring: entries and where they go, folders before what is in them.
        differs: those of them in whose place something else is, which is kept aside.
        same: how many files are there already as they were.
        missing: what the backup does not hold (any more).
        left: how many files were not asked for, by why.
    """

    manifest: Manifest
    bring: list[tuple[Entry, Path, Target]] = field(default_factory=list)
    differs: list[Path] = field(default_factory=list)
    same: int = 0
    missing: list[str] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes that are brought."""
        return sum(entry.size for entry, _, _ in self.bring)


@dataclass
class Done:
    """What a restore has done. ``problems`` says what could not be, in words for people; ``aside`` where the files
    lie that were in the way."""

    files: int = 0
    aside: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def plan(
    vault: Vault,
    manifest: Manifest,
    targets: Mapping[str, Target],
    wanted: Callable[[Entry], bool],
    parts: Iterable[str],
) -> Plan:
    """Look what a restore would do; changes nothing.

    Args:
        targets: by the name of their source; what has none is left.
        wanted: whether an entry was asked for.
        parts: names of the parts that will be asked for, to look whether they are there.

    Raises:
        EscapingName: a name in the manifest leads out of its folder, by itself or over a link that is there.
    """
    for name in unsafe_names(iter(manifest.entries)):
        raise EscapingName(name)
    planned = Plan(manifest)
    there = vault.contents()
    asked = set(parts)

    def is_there(sha256: str, size: int) -> bool:
        return there.get(vault.keys.name_of(sha256), (-1, 0.0))[0] == sealed_size(size)

    planned.missing = [
        part.name for part in manifest.parts if part.name in asked and not is_there(part.sha256, part.size)
    ]
    for entry in manifest.entries:
        source, _, relative = entry.name.partition("/")
        target = targets.get(source)
        if not wanted(entry) or target is None:
            why = "asked" if target is not None else source
            planned.left[why] = planned.left.get(why, 0) + 1
            continue
        place = target.root / relative
        if not is_below(place.parent, target.root):
            raise EscapingName(entry.name)
        if _is_same(entry, place):
            planned.same += entry.kind == "file"
            continue
        if entry.kind == "file" and not is_there(entry.sha256, entry.size):
            planned.missing.append(entry.name)
            continue
        if os.path.lexists(place):
            planned.differs.append(place)
        planned.bring.append((entry, place, target))
    return planned


def _is_same(entry: Entry, place: Path) -> bool:
    if entry.kind == "folder":
        return place.is_dir() and not place.is_symlink()
    if entry.kind == "link":
        return place.is_symlink() and os.readlink(place) == entry.target
    if place.is_symlink() or not place.is_file() or place.stat().st_size != entry.size:
        return False
    return digest_file(place).sha256 == entry.sha256


def restore(vault: Vault, planned: Plan, progress: Progress | None = None, *, what_is_there: bool = False) -> Done:
    """Do what is planned.

    Args:
        what_is_there: go on without what is missing or damaged.

    Raises:
        SnapshotIncomplete: something is missing or damaged; no file was changed.
        NotEnoughSpace: there is no room for the files; none was changed.
    """
    snapshot = planned.manifest.summary.id
    if planned.missing and not what_is_there:
        raise SnapshotIncomplete(snapshot, planned.missing)
    _look_for_room(planned)
    done = Done(problems=[f"{name} is not in the backup any more" for name in planned.missing])
    bringing = _Bringing(vault, progress or Progress())
    damaged = bringing.fetch([each for each in planned.bring if each[0].kind == "file"])
    if damaged and not what_is_there:
        raise SnapshotIncomplete(snapshot, damaged)
    done.problems += [f"{name} is damaged in the backup" for name in damaged]
    aside = f"{ASIDE}{time.strftime('%Y%m%d-%H%M%S')}"
    lost = set(damaged)
    for entry, place, target in planned.bring:
        if entry.name not in lost:
            _put_in_place(entry, place, target, aside, done)
            done.files += entry.kind == "file"
    # The modes of folders last: one that is read-only would take no files.
    for entry, place, target in reversed(planned.bring):
        if entry.kind == "folder":
            _own(entry, place, target, done)
    for target in {id(target): target for _, _, target in planned.bring}.values():
        shutil.rmtree(target.root / STAGED, ignore_errors=True)
    return done


def _look_for_room(planned: Plan) -> None:
    needed: dict[int, tuple[Path, int]] = {}
    for entry, _, target in planned.bring:
        target.root.mkdir(parents=True, exist_ok=True)
        device = target.root.stat().st_dev
        root, size = needed.get(device, (target.root, 0))
        needed[device] = (root, size + (entry.size if not _staged(target, entry).exists() else 0))
    for root, size in needed.values():
        if size > shutil.disk_usage(root).free:
            raise NotEnoughSpace(str(root), size)


def _staged(target: Target, entry: Entry) -> Path:
    return (
        target.root
        / STAGED
        / hashlib.sha256(f"{entry.name}\0{entry.sha256}".encode("utf-8", "surrogateescape")).hexdigest()
    )


class _Bringing:
    """Fetches contents to where they are staged."""

    def __init__(self, vault: Vault, progress: Progress) -> None:
        self._vault = vault
        self._progress = progress

    def fetch(self, wanted: list[tuple[Entry, Path, Target]]) -> list[str]:
        """Fetch what has not arrived; returns the names of what is damaged."""
        self._progress.of = len(wanted)
        for target in {id(target): target for _, _, target in wanted}.values():
            (target.root / STAGED).mkdir(parents=True, exist_ok=True, mode=0o700)
        # Large ones come in parts, several at a time, and need the disk twice: one after the other.
        large = [each for each in wanted if each[0].size > LARGE]
        small = [each for each in wanted if each[0].size <= LARGE]
        with ThreadPoolExecutor(AT_ONCE, "comfyume-restore") as pool:
            try:
                names = list(pool.map(self._one, small))
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        names += [self._one(each) for each in large]
        return [name for name in names if name]

    def _one(self, each: tuple[Entry, Path, Target]) -> str:
        entry, _, target = each
        staged = _staged(target, entry)
        try:
            # What was written before a machine went off may have its length and not its content.
            if not (staged.exists() and digest_file(staged).sha256 == entry.sha256):
                self._vault.fetch(entry.sha256, entry.size, entry.sealed, staged, entry.name)
        except ContentDamaged:
            return entry.name
        self._progress.files += 1
        self._progress.size += entry.size
        self._progress.told(self._progress)
        return ""


def _put_in_place(entry: Entry, place: Path, target: Target, aside: str, done: Done) -> None:
    folder = place if entry.kind == "folder" else place.parent
    for parent in (*reversed(folder.relative_to(target.root).parents), folder.relative_to(target.root)):
        step = target.root / parent
        if os.path.lexists(step) and not step.is_dir():
            _move_aside(step, target, aside, done)
        step.mkdir(exist_ok=True)
        if parent.parts and not target.source.is_system:
            _as_its_root(step, target)
    if entry.kind == "folder":
        return
    staged = _staged(target, entry)
    if entry.kind == "link":
        (target.root / STAGED).mkdir(parents=True, exist_ok=True, mode=0o700)
        staged.unlink(missing_ok=True)
        staged.symlink_to(entry.target)
    else:
        _own(entry, staged, target, done)
        os.utime(staged, ns=(entry.mtime_ns, entry.mtime_ns))
        with open(staged, "rb") as file:
            os.fsync(file.fileno())
    if os.path.lexists(place):
        _move_aside(place, target, aside, done, keep_place=entry.kind == "file")
    os.replace(staged, place)


def _move_aside(path: Path, target: Target, aside: str, done: Done, *, keep_place: bool = False) -> None:
    """Keep what is in the way; a file keeps its place too, until the new one takes it."""
    kept = target.root / aside / path.relative_to(target.root)
    kept.parent.mkdir(parents=True, exist_ok=True)
    if keep_place and path.is_file() and not path.is_symlink():
        try:
            os.link(path, kept)
        except OSError:
            # A file system without links; there is a moment without the file then.
            os.rename(path, kept)
    else:
        os.rename(path, kept)
    if target.root / aside not in done.aside:
        done.aside.append(target.root / aside)


def _own(entry: Entry, path: Path, target: Target, done: Done) -> None:
    """Give a file its mode, and its owner where that is possible."""
    if target.source.is_system:
        uid, gid = _number(entry.owner, entry.uid, pwd.getpwnam, 2), _number(entry.group, entry.gid, grp.getgrnam, 2)
        state = path.stat()
        if (state.st_uid, state.st_gid) != (uid, gid):
            try:
                os.chown(path, uid, gid)
            except PermissionError:
                done.problems.append(
                    f"{entry.name} belongs to {entry.owner or uid}:{entry.group or gid}, which only root can restore"
                )
    else:
        _as_its_root(path, target)
    # After the owner: a change of that takes special bits away.
    os.chmod(path, entry.mode)


def _as_its_root(path: Path, target: Target) -> None:
    """People's files belong to whoever the folder belongs to, also if root restores them."""
    root, state = target.root.stat(), path.stat()
    if (state.st_uid, state.st_gid) != (root.st_uid, root.st_gid):
        with contextlib.suppress(PermissionError):
            os.chown(path, root.st_uid, root.st_gid)


def _number(name: str, number: int, find: Callable[[str], tuple[object, ...]], index: int) -> int:
    """The number that a name has on this machine."""
    try:
        return int(str(find(name)[index])) if name else number
    except KeyError:
        return number
