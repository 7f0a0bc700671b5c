"""How a transfer of models goes, on the terminal: one line that changes, or plain lines where nobody looks at once."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from typing import TextIO

from ..model_vault.locating import Located
from ..model_vault.pull import Watch

#: Seconds between two changes of the line, and between two lines that are not one.
REDRAWN, TOLD = 0.5, 15.0
#: Seconds over which the rate is measured.
SPAN = 10.0


class Progress(Watch):
    """Tells on a terminal, or in a log, from any thread."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stderr
        self._is_terminal = self._out.isatty()
        self._lock = threading.Lock()
        self._files = self._size = self._come = self._moved = 0
        self._told_at = 0.0
        self._samples: deque[tuple[float, int]] = deque()
        self._width = 0

    def begins(self, files: int, size: int) -> None:
        """See ``Watch``."""
        with self._lock:
            self._files, self._size, self._told_at = files, size, time.monotonic()
            self._samples.append((time.monotonic(), 0))
            if files:
                self._say(f"{files} {'file' if files == 1 else 'files'}, {told_size(size)} to move")

    def hashes(self, name: str, size: int) -> None:
        """See ``Watch``."""
        with self._lock:
            self._draw(f"reading {name}, {told_size(size)}, to know its hash")

    def moved(self, name: str, count: int) -> None:
        """See ``Watch``."""
        with self._lock:
            self._moved += count
            now = time.monotonic()
            if now - self._told_at < (REDRAWN if self._is_terminal else TOLD):
                return
            self._told_at = now
            self._samples.append((now, self._moved))
            while len(self._samples) > 2 and now - self._samples[0][0] > SPAN:
                self._samples.popleft()
            self._draw(f"{self._state()}  {name}")

    def has_come(self, located: Located, where: str) -> None:
        """See ``Watch``."""
        with self._lock:
            self._come += 1
            size = told_size(located.size) if located.size is not None else ""
            self._say(f"{self._come} of {self._files}  {located.need.path}  {size}  {where}")

    def failed(self, located: Located, why: str) -> None:
        """See ``Watch``."""
        with self._lock:
            self._say(f"not {located.need.path}: {why}")

    def _state(self) -> str:
        (then, before), (now, after) = self._samples[0], self._samples[-1]
        rate = (after - before) / (now - then) if now > then else 0.0
        left = f"{told_time((self._size - self._moved) / rate)} left" if rate > 0 and self._size >= self._moved else ""
        return (
            f"{self._come} of {self._files} files  {told_size(self._moved)} of {told_size(self._size)}"
            f"  {told_size(int(rate))}/s  {left}".rstrip()
        )

    def _draw(self, line: str) -> None:
        if not self._is_terminal:
            return self._say(line)
        line = line[:118]
        self._out.write("\r" + line.ljust(self._width))
        self._out.flush()
        self._width = len(line)
        return None

    def _say(self, line: str) -> None:
        if self._width:
            self._out.write("\r" + " " * self._width + "\r")
            self._width = 0
        self._out.write(line + "\n")
        self._out.flush()


def told_size(size: int) -> str:
    """A number of bytes for people."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def told_time(seconds: float) -> str:
    """A time for people: ``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(int(min(seconds, 359_999)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
