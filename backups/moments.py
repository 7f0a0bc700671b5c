"""Which snapshot is meant by words such as ``2026-11-30 14:00``, ``yesterday`` or ``2h ago``. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, time, timedelta

from .errors import NoSuchSnapshot, WrongMoment
from .manifest import is_id, moment_of

_AGO = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)\s*(m|min|minutes?|h|hours?|d|days?|w|weeks?)\s+ago")
_SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_CLOCK = r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}))?"
_DAY = r"(?P<day>\d{4}-\d{1,2}-\d{1,2}|yesterday|today)"
_WHEN = re.compile(rf"(?:{_DAY})?(?:[ T]+)?(?:{_CLOCK})?")
LATEST = ("", "latest", "now")


def chosen(text: str, snapshots: Sequence[str], now: float) -> str:
    """The newest snapshot that was taken by the moment that is meant, in this machine's time.

    Args:
        text: a moment, a day (its end is meant), or a snapshot's name.
        snapshots: their names, the oldest first.
        now: Unix seconds.

    Raises:
        WrongMoment: these words name none.
        NoSuchSnapshot: none was taken by then.
    """
    words = text.strip()
    if not snapshots:
        raise NoSuchSnapshot("There is no snapshot yet. Make one: comfyume backup")
    named = [snapshot for snapshot in snapshots if words and snapshot == words]
    if named:
        return named[0]
    if is_id(words):
        raise NoSuchSnapshot(f"There is no snapshot {words}. `comfyume snapshots` lists those that there are.")
    moment = moment_meant(words, now)
    before = [snapshot for snapshot in snapshots if moment_of(snapshot) <= moment]
    if not before:
        raise NoSuchSnapshot(
            f"No snapshot was taken by {_shown(moment)}; the first one is {snapshots[0]}, of "
            f"{_shown(moment_of(snapshots[0]))}."
        )
    return before[-1]


def moment_meant(text: str, now: float) -> float:
    """The moment that these words name, in Unix seconds. Raises ``WrongMoment``."""
    words = text.strip().lower()
    if words in LATEST:
        return float("inf")
    ago = _AGO.fullmatch(words)
    if ago is not None:
        return now - float(ago[1]) * _SECONDS[ago[2][0]]
    found = _WHEN.fullmatch(text.strip().replace("Yesterday", "yesterday").replace("Today", "today"))
    if found is None or not (found["day"] or found["hour"]):
        raise WrongMoment(text)
    try:
        today = datetime.fromtimestamp(now).date()  # noqa: DTZ006 - people mean their own clock
        if found["day"] in (None, "today"):
            day = today
        elif found["day"] == "yesterday":
            day = today - timedelta(days=1)
        else:
            year, month, number = (int(part) for part in found["day"].split("-"))
            day = today.replace(year, month, number)
        if found["hour"] is None:
            return datetime.combine(day + timedelta(days=1), time()).timestamp() - 1
        clock = time(int(found["hour"]), int(found["minute"]), int(found["second"] or 0))
        return datetime.combine(day, clock).timestamp() + (0 if found["second"] else 59)
    except (ValueError, OverflowError) as error:
        raise WrongMoment(text) from error


def _shown(moment: float) -> str:
    return datetime.fromtimestamp(moment).strftime("%Y-%m-%d %H:%M")  # noqa: DTZ006 - as above
