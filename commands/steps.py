"""Steps of a long command: each is told as it begins, and how long it took."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator


class Steps:
    """Prints numbered steps.

    Args:
        count: how many there will be.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._number = 0
        self._started = time.monotonic()

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[Callable[[str], None]]:
        """Do a step within; tell the outcome with what is yielded. What is raised within ends the step."""
        self._number += 1
        began = time.monotonic()
        outcome = ["done"]
        if sys.stdout.isatty():
            print(f"{self._number}/{self._count}  {name} ...", end="\r", flush=True)
        yield lambda text: outcome.__setitem__(0, text)
        took = time.monotonic() - began
        print(f"{self._number}/{self._count}  {name:<11} {outcome[0]}  ({took:.1f} s)", flush=True)

    def total(self) -> float:
        """Seconds since the first step."""
        return time.monotonic() - self._started
