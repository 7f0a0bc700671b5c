"""What the model remembers of people, levels and kinds of jobs for the sake of who goes next."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

from .constants import HALF_LIFE_MS, PATIENCE_MS, USUAL_MS
from .things import KINDS, LEVELS, Job, Place

DAY_MS = 86_400_000
#: How much the last run counts in the averages of how long jobs run and load.
LAST_RUN = 0.3
#: How much of a lower peak counts; a higher one counts at once.
LOWER_PEAK = 0.1


@dataclass
class Learned:
    """What the runs of a kind have shown: milliseconds to run and to load, bytes."""

    run: float | None = None
    load: float | None = None
    peak: int | None = None


class Ledger:
    """``now`` is the store's time in milliseconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.kinds: dict[str, Learned] = defaultdict(Learned)
        #: Who was served when, and when each lane was first passed over for the sake of loaded models.
        self.turns: dict[str, tuple[float, int]] = {}
        self._turns_taken = 0
        self.passed: dict[Place, int] = {}
        #: When each level last got a job, or somebody came to wait there.
        self.served: dict[str, int] = {}
        self._usage: dict[str, float] = {}

    @property
    def now_ms(self) -> int:
        return math.floor(self.now)

    # People. Use fades for all alike, so what is kept is log2(milliseconds) + time / half-life.

    def charge(self, user: str, ms: float) -> None:
        now = self.now_ms / HALF_LIFE_MS
        used = 2.0 ** (self._usage[user] - now) if user in self._usage else 0.0
        self._usage[user] = now + math.log(max(used + ms, 1)) / math.log(2)

    def usage(self, user: str) -> float | None:
        return self._usage.get(user)

    def serve(self, user: str, place: Place) -> None:
        # Some are served at one moment, one after the other.
        self._turns_taken += 1
        self.turns[user] = self.now, self._turns_taken
        self.passed.pop(place, None)

    def forget_old(self) -> None:
        self._usage = {user: used for user, used in self._usage.items() if used > self.now_ms / HALF_LIFE_MS}
        self.turns = {user: last for user, last in self.turns.items() if last[0] > self.now - DAY_MS}

    # Levels

    def levels(self) -> list[str]:
        """The levels in the order in which they are looked at; those that have waited for too long come first."""
        return sorted(LEVELS, key=lambda level: not self._is_overdue(level))

    def _is_overdue(self, level: str) -> bool:
        return level != "front" and self.now_ms - self.served.get(level, self.now_ms) > PATIENCE_MS

    # Kinds

    def work_of(self, job: Job) -> float:
        """Milliseconds that a job is expected to run."""
        run = self.kinds[job.kind].run
        return USUAL_MS if run is None else run

    def memory_of(self, job: Job) -> int | None:
        """Bytes that a job is taken to need: what the graph states, else what runs have shown, else the estimate."""
        graph, peak = KINDS[job.kind].memory, self.kinds[job.kind].peak
        return next((need for need in (graph.stated, peak, graph.estimate) if need is not None), None)

    def close(self, job: Job, *, learns: bool, peak: int | None) -> None:
        """Settle what a job cost that has run to its end, and learn from it. Nobody is charged for loading."""
        kind, took = self.kinds[job.kind], self.now_ms - job.claimed
        ran: float = took if not job.loads or kind.run is None else min(took, kind.run)
        self.charge(job.user, ran - job.charged)
        if not learns:
            return
        if ran < took:
            kind.load = _average(kind.load, took - ran)
        else:
            kind.run = _average(kind.run, ran)
        if peak is not None:
            known = kind.peak if kind.peak is not None else peak
            kind.peak = round(known + LOWER_PEAK * (peak - known)) if peak < known else peak


def _average(known: float | None, last: float) -> float:
    return last if known is None else known + LAST_RUN * (last - known)
