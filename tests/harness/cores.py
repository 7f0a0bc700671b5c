"""How busy the machine was with other things than a test's own processes, which makes times long."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class CoresUsed:
    """Seconds of processor time that were used until now (``man 5 proc``: stat), by everybody and by our processes."""

    at: float
    by_all: float
    by_ours: float

    def others_since(self, before: CoresUsed) -> float:
        """How many cores all other processes, and other machines on the same hardware, had in use on average."""
        by_others = (self.by_all - before.by_all) - (self.by_ours - before.by_ours)
        return max(0.0, by_others / (self.at - before.at))


def cores_used(ours: Iterable[int]) -> CoresUsed:
    """What has been used so far; ``ours`` are the ids of the processes that are no others."""
    user, nice, system, _idle, _waiting, interrupts, soft, stolen = (
        int(ticks) for ticks in Path("/proc/stat").read_text().split()[1:9]
    )
    by_all = (user + nice + system + interrupts + soft + stolen) / _TICKS
    return CoresUsed(time.monotonic(), by_all, sum(computed(pid) for pid in ours))


def computed(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    # The name, second in the line, may hold spaces; what follows its bracket does not.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def wait_at_rest(pid: int, timeout: float = 60.0) -> None:
    """Wait until a process has computed for less than a tenth of half a second.

    Raises:
        TimeoutError: it always does something.
    """
    deadline = time.monotonic() + timeout
    before = computed(pid)
    while time.monotonic() < deadline:
        time.sleep(0.5)
        now = computed(pid)
        if now - before < 0.05:
            return
        before = now
    raise TimeoutError(f"process {pid} does not come to rest")
