"""How late the event loop of a ComfyUI process was, as the node pack ``cfm_lag`` in it has noted."""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from .package import ROOT
from .processes import ComfyProcess

PACK = ROOT / "tests" / "node_packs" / "cfm_lag"
VARIABLE = "CFM_LAG"
#: Seconds between two looks; the node pack's own.
PAUSE = 0.005


@dataclass(frozen=True)
class Look:
    """One sleep of `PAUSE` on the loop. All in seconds.

    Attributes:
        ended: when it ended, by the clock that all processes of a machine share (``time.monotonic`` on Linux).
        late: how much longer it took; so long did everybody wait.
        computed: how long the loop's thread computed meanwhile.
        waited: how long it was ready and no core was free, since other threads and processes had them.
        cpu: how long the process computed meanwhile, in any of its threads.
    """

    ended: float
    late: float
    computed: float
    waited: float
    cpu: float

    @property
    def began(self) -> float:
        """When the sleep began, by the same clock."""
        return self.ended - self.late - PAUSE


@dataclass(frozen=True)
class Lag:
    """Quantiles of how late a loop was at a moment of a period, in seconds.

    A loop that is held for 100 ms is looked at once in that time, a free one twenty times, so that plain quantiles of
    the looks are too good. Here the looks that a stall left out are added: 95, 90, 85 ms and so on.

    Attributes:
        own_p99: the same without the time in which no core was free for the loop.
    """

    p50: float
    p99: float
    longest: float
    own_p99: float

    def __str__(self) -> str:
        p50, p99, longest, own = (1000 * each for each in (self.p50, self.p99, self.longest, self.own_p99))
        return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {longest:.0f} ms (p99 without waits for a core {own:.1f})"


def install(process: ComfyProcess) -> None:
    """Add the node pack to a process that has not been started, with `VARIABLE` in its environment: a file's path."""
    packs = process.base / "custom_nodes"
    packs.mkdir(parents=True, exist_ok=True)
    (packs / PACK.name).symlink_to(PACK)


def during(file: Path, began: float, ended: float, timeout: float = 10.0) -> list[Look]:
    """The looks of a period and at its ends, by ``time.monotonic``; waits until all of them are written.

    Raises:
        TimeoutError: they are not: the loop is held, or ended.
    """
    deadline = time.monotonic() + timeout
    while not (looks := read(file)) or looks[-1].ended < ended:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{file} does not reach the end of the period")
        time.sleep(0.05)
    return [look for look in looks if began <= look.ended and look.began <= ended]


def read(file: Path) -> list[Look]:
    """All looks so far."""
    numbers = array("d")
    content = file.read_bytes() if file.exists() else b""
    count = len(fields(Look))
    whole = count * numbers.itemsize
    numbers.frombytes(content[: len(content) // whole * whole])
    return [Look(*numbers[start : start + count]) for start in range(0, len(numbers), count)]


def lag(looks: Sequence[Look]) -> Lag:
    """What the looks say."""
    late = sorted(_filled(look.late for look in looks))
    own = sorted(_filled(max(0.0, look.late - look.waited) for look in looks))
    return Lag(quantile(late, 0.5), quantile(late, 0.99), late[-1], quantile(own, 0.99))


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest number that so large a share does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _filled(lates: Iterable[float]) -> Iterable[float]:
    """With the looks that were left out while the loop was held."""
    for late in lates:
        rest = late
        while True:
            yield rest
            rest -= PAUSE
            if rest <= 0:
                break
