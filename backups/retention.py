"""Which snapshots are kept. Pure functions.

A rule ``7d=7`` parts the last 7 days into 7 slots and keeps the newest snapshot of each. Slots lie at fixed moments
(days begin at midnight UTC), so what is kept today is not another one tomorrow.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .errors import WrongRule
from .manifest import moment_of

UNITS = {"h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_RULE = re.compile(r"\s*(\d{1,6})\s*([hdw])\s*=\s*(\d{1,6})\s*")


@dataclass(frozen=True)
class Rule:
    """Of the last ``span`` seconds ``count`` snapshots."""

    span: float
    count: int

    @property
    def slot(self) -> float:
        """Seconds of which one snapshot is kept."""
        return self.span / self.count


def rules_of(text: str) -> tuple[Rule, ...]:
    """Read ``24h=24,7d=7``. Raises ``WrongRule``."""
    rules = []
    for piece in text.split(","):
        found = _RULE.fullmatch(piece)
        if found is None or not int(found[1]) or not int(found[3]):
            raise WrongRule(text)
        rules.append(Rule(int(found[1]) * UNITS[found[2]], int(found[3])))
    return tuple(rules)


def kept(snapshots: Iterable[str], rules: Sequence[Rule], now: float) -> set[str]:
    """Those of the snapshots that are kept: by each rule the newest of each slot, and always the newest of all."""
    newest_first = sorted(snapshots, reverse=True)
    keep = set(newest_first[:1])
    for rule in rules:
        slots: dict[int, str] = {}
        for snapshot in newest_first:
            moment = moment_of(snapshot)
            if moment > now - rule.span:
                slots.setdefault(int(moment // rule.slot), snapshot)
        keep.update(sorted(slots.values(), reverse=True)[: rule.count])
    return keep
