"""What a group of trials found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

#: What ``run.py`` ends with when a guarantee does not hold; 1 is a mistake in the trials.
VIOLATED = 3


@dataclass
class Report:
    """The outcome for one guarantee.

    Attributes:
        guarantee: its number, as ``G2``.
        promise: what it promises, in a few words.
        fault: what was done to break it.
        trials: how often.
        violations: a sentence for each time it did not hold.
        figures: what was measured, by name.
        seconds: how long its group took.
        seed: with which everything by chance is chosen again.
        skipped: why nothing was tried, where something is missing for it.
    """

    guarantee: str
    promise: str
    fault: str
    trials: int
    violations: list[str]
    figures: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    seed: int = 0
    skipped: str = ""

    @property
    def bound(self) -> str:
        """The rate of failures that this many trials without one rule out, at 95%."""
        if self.violations or not self.trials:
            return "-"
        return f"{3 / self.trials:.2g}"

    def line(self) -> str:
        """The outcome in one line."""
        if self.skipped:
            return f"{self.guarantee:4} skipped: {self.skipped}"
        figures = "; ".join(f"{name} {value}" for name, value in self.figures.items())
        verdict = "holds" if not self.violations else f"{len(self.violations)} VIOLATIONS"
        return f"{self.guarantee:4} {verdict:14} {self.trials} trials, rate under {self.bound}. {figures}"

    def row(self) -> str:
        """The outcome as a row of a table."""
        figures = self.skipped or "; ".join(f"{name} {value}" for name, value in self.figures.items())
        cells = [
            self.guarantee,
            self.promise,
            self.fault,
            str(self.trials),
            str(len(self.violations)),
            self.bound,
            figures,
            f"{self.seconds:g}",
            str(self.seed),
        ]
        return "| " + " | ".join(cells) + " |"


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which this share of them lies; NaN for none."""
    if not values:
        return math.nan
    return sorted(values)[min(len(values) - 1, math.ceil(share * len(values)) - 1)]


def times(values: Sequence[float]) -> str:
    """The middle, the 99th in a hundred and the longest of some times in seconds."""
    if not values:
        return "none"
    return f"p50 {quantile(values, 0.5):.2f} s, p99 {quantile(values, 0.99):.2f} s, longest {max(values):.2f} s"


def page(reports: Sequence[Report], how: str, machine: str) -> str:
    """The figures as a page of the documentation; ``how`` and ``machine`` are what they were measured with."""
    lines = [
        "# What the chaos trials measured",
        "",
        "The chaos trials break a real workshop on purpose, with a real store and real worker processes, and hold",
        "what happened against the guarantees. The workers have an engine without ComfyUI, a lease of 2 s and a shared",
        "folder for files. In the trials of G16 most files travel over HTTP; those of G18 and G19 have a real ComfyUI",
        "before them; those of G20 have an S3 server (moto's) behind a bad line. No violation in N trials bounds the",
        "rate at 3/N (95%).",
        "",
        f"Measured with {how}; the full number of trials is run with `--full`. `--only G7 --seed N` does a row again.",
        f"The machine: {machine}. Groups may run at the same time, and the seconds are those of the whole group.",
        "",
        "| | promise | fault | trials | violations | rate under | figures | seconds | seed |",
        "|---|---|---|---|---|---|---|---|---|",
        *(report.row() for report in reports),
        "",
    ]
    return "\n".join(lines)
