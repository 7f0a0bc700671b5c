"""Where the files of a snapshot are, and how they are found. Blocking functions."""

from __future__ import annotations

import fnmatch
import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..blobs.digest import Digest
from .manifest import Entry

#: What restores leave beside the files, and comfyume's own: no part of a snapshot.
ASIDE = "before-restore-"
OURS = (".comfyume*", f"{ASIDE}*")


@dataclass(frozen=True)
class Source:
    """A folder of which a snapshot holds all, or some.

    Attributes:
        name: what the names of its files begin with.
        only: what of it, as paths in it; nothing means all.
        skip: patterns of names directly below it that are left out.
        elsewhere: what an empty file stands for whose content was brought to another place; None for any other one.
        is_system: whether it is the machine's: its folders, links, modes and owners matter then, and a restore
            touches it only if it is told to.
    """

    name: str
    path: Path
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    is_system: bool = False
    elsewhere: Callable[[Path], Digest | None] = lambda _: None


@dataclass
class Found:
    """What a source holds; ``problems`` says in words for people what could not be looked at."""

    entries: list[tuple[Entry, Path]]
    problems: list[str]
    links: int = 0


def look(source: Source) -> Found:
    """All files of a source, without their hashes.

    Links among people's files lead who knows where: they are left out, and counted.
    """
    found = Found([], [])
    skip = (*OURS, *source.skip)
    if not source.only:
        _look_below(source, source.path, "", skip, found)
    for path in source.only:
        relative = path.strip("/")
        _take(source, source.path / relative, relative, found)
    found.entries.sort(key=lambda pair: pair[0].name)
    return found


def _look_below(source: Source, folder: Path, relative: str, skip: tuple[str, ...], found: Found) -> None:
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return
    except OSError as error:
        found.problems.append(f"{folder} cannot be read ({error.strerror})")
        return
    for name in names:
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in skip):
            _take(source, folder / name, f"{relative}/{name}" if relative else name, found)


def _take(source: Source, path: Path, relative: str, found: Found) -> None:
    try:
        state = os.lstat(path)
    except FileNotFoundError:
        if relative in (each.strip("/") for each in source.only) and source.is_system:
            found.problems.append(f"{path} is not there")
        return
    except OSError as error:
        found.problems.append(f"{path} cannot be read ({error.strerror})")
        return
    name = f"{source.name}/{relative}"
    if stat.S_ISDIR(state.st_mode):
        if source.is_system:
            found.entries.append((_entry(name, "folder", state), path))
        _look_below(source, path, relative, (), found)
    elif stat.S_ISLNK(state.st_mode):
        if source.is_system:
            found.entries.append((_entry(name, "link", state, os.readlink(path)), path))
        else:
            found.links += 1
    elif stat.S_ISREG(state.st_mode):
        found.entries.append((_entry(name, "file", state), path))


def _entry(name: str, kind: str, state: os.stat_result, target: str = "") -> Entry:
    return Entry(
        name,
        kind,  # type: ignore[arg-type]
        state.st_size if kind == "file" else 0,
        state.st_mtime_ns,
        state.st_ino,
        stat.S_IMODE(state.st_mode),
        state.st_uid,
        state.st_gid,
        _user(state.st_uid),
        _group(state.st_gid),
        target=target,
    )


@cache
def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return ""


@cache
def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return ""


def unsafe_names(entries: Iterator[Entry]) -> Iterator[str]:
    """Names that would lead out of their source."""
    for entry in entries:
        parts = entry.name.split("/")
        if len(parts) < 2 or "\0" in entry.name or any(part in ("", ".", "..") for part in parts):
            yield entry.name
