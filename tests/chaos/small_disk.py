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

#: Bytes that it holds, and files with folders and links, while it is not full.
SIZE = 2 * 1024**3
ENTRIES = 100_000


class SmallDisk:
    """A mounted disk. It is made full by being made smaller, so nothing needs to lie in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self, free: int) -> None:
        """Leave so many bytes."""
        found = os.statvfs(self.path)
        used = (found.f_blocks - found.f_bfree) * found.f_frsize
        self._remount(f"size={max(1, used + free)}")

    def fill_with_names(self, free: int) -> None:
        """Leave room for so many files, however small."""
        found = os.statvfs(self.path)
        self._remount(f"nr_inodes={found.f_files - found.f_ffree + free}")

    def let_nobody_write(self) -> None:
        """Take writes no more, as a disk with a fault."""
        self._remount("ro")

    def heal(self) -> None:
        """Take everything."""
        self._remount(f"rw,size={SIZE},nr_inodes={ENTRIES}")

    def _remount(self, options: str) -> None:
        # Refused while a file is open for writing, or when more has come meanwhile: then it stays as it is.
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.path)], check=False, capture_output=True)


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[SmallDisk | None]:
    """Mount one at a folder, which is made; None where this user may not."""
    path.mkdir(parents=True, exist_ok=True)
    if not may_mount():
        yield None
        return
    _mount(f"size={SIZE},nr_inodes={ENTRIES}", path)
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
            _mount("size=64k", Path(folder))
        except (subprocess.CalledProcessError, FileNotFoundError):
            return False
        subprocess.run(["umount", folder], check=True)
    return True


def _mount(options: str, path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "chaos", str(path)], check=True, capture_output=True)
