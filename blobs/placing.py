"""Move finished files into a folder with ComfyUI's numbering, never over another file. Blocking functions.

ComfyUI (`folder_paths.get_save_image_path`) names files `{prefix}_{number:05}_.ext` and takes the highest number in the
folder plus one; many node packs write `{prefix}_{number:05}.ext` or add a suffix. A worker numbers in its own empty
folder, so the number is chosen anew where the file finally goes.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .errors import UnsafeName, disk_full_explained
from .filing import CannotLink, folder_locked, link_exclusively, rename_exclusively, staged_copy

_log = logging.getLogger(__name__)

_DIGITS = re.compile(r"_([0-9]+)(?=[_.-]|\Z)")
# Digits that no padding produces belong to the name: a year, a seed, a date.
_PADDED = re.compile(r"0[0-9]{2,}\Z|[0-9]{5,6}\Z")
_DRIVE = re.compile(r"[A-Za-z]:")
_COUNTER = re.compile(r"([0-9]+)(?:[_.]|-[^0-9]|\Z)")

#: Called with the path below the root, with `/`, that a file is about to get, and the file's inode.
NotePlacing = Callable[[str, int], None]


@dataclass(frozen=True)
class Numbered:
    """A file name in its parts: `{prefix}_{number, padded to width}{rest}`."""

    prefix: str
    number: int
    width: int
    rest: str

    def with_number(self, number: int) -> str:
        """The same name with another number."""
        return f"{self.prefix}_{number:0{self.width}d}{self.rest}"


def parse_numbered(name: str) -> Numbered | None:
    """Split a name that carries a counter, as `ComfyUI_00001_.png` or `clip_00012-audio.mp4`; None for other names.

    A counter is the last group of digits after an underscore that is padded with a zero, has five or six digits, or is
    followed by `_.` as in ComfyUI's own names.
    """
    for match in reversed(list(_DIGITS.finditer(name))):
        digits, rest = match[1], name[match.end() :]
        if rest.startswith("_.") or _PADDED.match(digits):
            return Numbered(name[: match.start()], int(digits), len(digits), rest)
    return None


def highest_number(folder: Path, prefix: str) -> int:
    """The highest number that any file in `folder` carries after `{prefix}_`; 0 if none.

    As ComfyUI counts, and also numbers with a suffix, as in `clip_00012-audio.mp4`.
    """
    start = os.path.normcase(f"{prefix}_")
    highest = 0
    for name in os.listdir(folder):
        if os.path.normcase(name[: len(start)]) == start and (match := _COUNTER.match(name, len(start))):
            highest = max(highest, int(match[1]))
    return highest


class _HighestNumbers:
    """Highest numbers of this process's last placements, so that a folder is listed only when it has changed since.

    A change that the folder's time does not show, within one tick of the system's clock, costs nothing but a try: the
    number is taken then, and the next one is tried.
    """

    def __init__(self, limit: int = 1_000) -> None:
        self._limit = limit
        self._known: OrderedDict[tuple[Path, str], tuple[int, int]] = OrderedDict()

    def of(self, folder: Path, prefix: str) -> int:
        known = self._known.get((folder, os.path.normcase(prefix)))
        if known is not None and known[0] == folder.stat().st_mtime_ns:
            return known[1]
        return highest_number(folder, prefix)

    def note(self, folder: Path, prefix: str, number: int) -> None:
        self._known[folder, os.path.normcase(prefix)] = (folder.stat().st_mtime_ns, number)
        while len(self._known) > self._limit:
            self._known.popitem(last=False)


_highest = _HighestNumbers()


class Placer:
    """Places the files of one job below one folder. Safe to call from several threads.

    All files that came with the same subfolder, prefix and number get the same new number: a video and its preview
    stay together. Numbers rise in the order of the calls, so place a batch in its own order.
    """

    def __init__(self, root: Path) -> None:
        self._root = Path(os.path.realpath(root))
        self._numbers: dict[tuple[Path, str, int], int] = {}
        self._lock = threading.Lock()

    def place(
        self, source: Path, subfolder: str, name: str, *, keep_source: bool = False, note: NotePlacing | None = None
    ) -> str:
        """Move the file `source` to `subfolder` (relative to the root, `""` for the root itself); return its new name.

        A name with a counter gets the next free number, any other keeps its name or becomes `name (1).ext`. The file
        appears whole and at once; `source` is gone afterwards, and untouched after an error. Missing folders are made.
        With `keep_source` it stays, as a second name of the same file where that is possible. `note` is called before
        each name that is tried.

        Raises `UnsafeName` for a name or subfolder that leads out of the root, `NotEnoughSpace` if the disk has no
        room for it or for its name, OSError as the file system does.
        """
        _check_name(name)
        found = os.lstat(source)
        if not stat.S_ISREG(found.st_mode):
            raise UnsafeName(str(source), "is not a plain file")
        folder = self._folder(subfolder)
        with disk_full_explained(folder, found.st_size):
            placed = self._link_or_copy(source, found.st_dev, folder, name, note)
        if keep_source:
            return placed
        try:
            source.unlink()
        except OSError as error:
            _log.warning("Placed %s as %s but could not remove it: %s. Remove it by hand.", source, placed, error)
        return placed

    def _folder(self, subfolder: str) -> Path:
        if "\0" in subfolder or "\\" in subfolder:
            raise UnsafeName(subfolder, "contains a backslash or a NUL")
        if subfolder.startswith("/") or _DRIVE.match(subfolder):
            raise UnsafeName(subfolder, "is an absolute path")
        if ".." in subfolder.split("/"):
            raise UnsafeName(subfolder, "leads upwards")
        folder = self._root
        if subfolder:
            folder = Path(os.path.realpath(self._root / subfolder))
            if not folder.is_relative_to(self._root):
                raise UnsafeName(subfolder, "is a link to outside the folder")
        if os.path.isdir(folder):
            return folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise UnsafeName(subfolder, "is a file, or lies below one") from error
        return folder

    def _link_or_copy(self, source: Path, device: int, folder: Path, name: str, note: NotePlacing | None) -> str:
        if device == folder.stat().st_dev:
            try:
                return self._claim(folder, name, self._noted(source, link_exclusively, note))
            except CannotLink:
                _log.debug("No hard links from %s to %s: copying", source, folder)
        with staged_copy(source, folder) as staged:
            try:
                return self._claim(folder, name, self._noted(staged, link_exclusively, note))
            except CannotLink:
                return self._claim(folder, name, self._noted(staged, rename_exclusively, note))

    def _noted(
        self, file: Path, take: Callable[[Path, Path], None], note: NotePlacing | None
    ) -> Callable[[Path], None]:
        if note is None:
            return partial(take, file)
        inode = os.stat(file).st_ino
        below = len(os.path.join(self._root, ""))

        def note_and_take(final: Path) -> None:
            note(str(final)[below:].replace(os.sep, "/"), inode)
            take(file, final)

        return note_and_take

    def _claim(self, folder: Path, name: str, take: Callable[[Path], None]) -> str:
        """Let `take` file it under the first name that is free. The lock keeps a group's number whole between jobs."""
        with self._lock, folder_locked(folder):
            numbered = parse_numbered(name)
            if numbered is None:
                return self._claim_plain(folder, name, take)
            return self._claim_number(folder, numbered, take)

    def _claim_number(self, folder: Path, numbered: Numbered, take: Callable[[Path], None]) -> str:
        group = (folder, os.path.normcase(numbered.prefix), numbered.number)
        number = self._numbers.get(group)
        if number is not None and _taken(take, folder, final := numbered.with_number(number)):
            return final
        # The group is new, or somebody has this very name: it continues at a new number.
        for number in itertools.count(_highest.of(folder, numbered.prefix) + 1):
            if _taken(take, folder, final := numbered.with_number(number)):
                self._numbers[group] = number
                _highest.note(folder, numbered.prefix, number)
                return final
        raise AssertionError("itertools.count ended")

    @staticmethod
    def _claim_plain(folder: Path, name: str, take: Callable[[Path], None]) -> str:
        stem, extension = os.path.splitext(name)
        final = name
        for copy in itertools.count(1):
            if _taken(take, folder, final):
                break
            final = f"{stem} ({copy}){extension}"
        return final


def _taken(take: Callable[[Path], None], folder: Path, name: str) -> bool:
    """Whether `take` got the name; False if a file already has it."""
    try:
        take(folder / name)
    except FileExistsError:
        return False
    return True


def _check_name(name: str) -> None:
    if name in {"", ".", ".."}:
        raise UnsafeName(name, "is not a file name")
    if any(character in name for character in "/\\\0"):
        raise UnsafeName(name, "contains a slash, a backslash or a NUL")
    if _DRIVE.match(name) or (os.name == "nt" and ":" in name):
        raise UnsafeName(name, "names a drive or a stream")
