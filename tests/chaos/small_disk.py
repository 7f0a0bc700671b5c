"""A disk that is soon full: a small file system of its own in memory, where this user may mount one."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

SIZE = 48 * 1024 * 1024
#: Files, folders and links that it holds.
ENTRIES = 4_000


class SmallDisk:
    """A mounted disk, and what keeps it full."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast: list[Path] = []

    def fill(self, free: int) -> None:
        """Leave so many bytes."""
        ballast = self.path / ".ballast"
        self._ballast.append(ballast)
        found = os.statvfs(self.path)
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, found.f_bavail * found.f_frsize - free))

    def fill_with_names(self, free: int) -> None:
        """Leave room for so many files, however small."""
        for number in range(os.statvfs(self.path).f_favail - free):
            ballast = self.path / f".ballast-{number}"
            ballast.touch()
            self._ballast.append(ballast)

    def let_nobody_write(self) -> None:
        """Take writes no more, as a disk with a fault or a server that lost its own."""
        _mount("-o", "remount,ro", str(self.path))

    def heal(self) -> None:
        """Take everything."""
        _mount("-o", "remount,rw", str(self.path))
        for ballast in self._ballast:
            ballast.unlink(missing_ok=True)
        self._ballast = []


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[SmallDisk | None]:
    """Mount one at a folder, which is made; None where this user may not."""
    path.mkdir(parents=True, exist_ok=True)
    if not may_mount():
        yield None
        return
    _mount("-t", "tmpfs", "-o", f"size={SIZE},nr_inodes={ENTRIES},mode=0777", "chaos", str(path))
    try:
        yield SmallDisk(path)
    finally:
        # What is still open in it is gone when it is closed.
        subprocess.run(["umount", "--lazy", str(path)], check=False)


@cache
def may_mount() -> bool:
    """Whether this user may mount a file system."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory() as folder:
        try:
            _mount("-t", "tmpfs", "-o", "size=64k", "chaos", folder)
        except (subprocess.CalledProcessError, FileNotFoundError):
            return False
        subprocess.run(["umount", folder], check=True)
    return True


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)
