"""What happened in a trial run: every operation with its start and end, in memory and in a file of JSON lines."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One thing that was done or seen.

    Attributes:
        what: its kind, as ``submit``, ``kill``, ``batch``, ``begin``, ``final``.
        start: when it began, in seconds of the machine's monotonic clock, which all processes share.
        end: when it was over; the same as ``start`` for what was merely seen.
        job: the job that it is about, or an empty string.
        data: everything else.
    """

    what: str
    start: float
    end: float
    job: str = ""
    data: dict[str, Any] = field(default_factory=dict)


class History(list[Entry]):
    """Entries in the order in which they were noted."""

    def of(self, *kinds: str) -> list[Entry]:
        """The entries of some kinds."""
        return [entry for entry in self if entry.what in kinds]

    def by_job(self, *kinds: str) -> dict[str, list[Entry]]:
        """The entries of some kinds for each job."""
        found: dict[str, list[Entry]] = {}
        for entry in self.of(*kinds):
            found.setdefault(entry.job, []).append(entry)
        return found


class Record:
    """Notes entries as they come."""

    def __init__(self, path: Path) -> None:
        self.history = History()
        self._file = path.open("a", encoding="utf-8")

    def note(self, what: str, *, job: str = "", start: float | None = None, **data: Any) -> Entry:
        """Note something that is over now, or happened at ``start``."""
        now = time.monotonic()
        began = now if start is None else start
        return self._add(Entry(what, began, max(began, now) if start is not None else now, job, data))

    def seen(self, what: str, at: float, job: str, **data: Any) -> Entry:
        """Note something that another process saw."""
        return self._add(Entry(what, at, at, job, data))

    @contextlib.contextmanager
    def operation(self, what: str, *, job: str = "", **data: Any) -> Iterator[dict[str, Any]]:
        """Note an operation with its start, its end, the name of its error, and what is put into the dict."""
        start = time.monotonic()
        try:
            yield data
        except BaseException as error:
            data["error"] = type(error).__name__
            raise
        finally:
            self.note(what, job=job, start=start, **data)

    def _add(self, entry: Entry) -> Entry:
        self.history.append(entry)
        line = {"what": entry.what, "start": entry.start, "end": entry.end, "job": entry.job, **entry.data}
        self._file.write(json.dumps(line, default=str) + "\n")
        return entry

    def close(self) -> None:
        """Write all of it."""
        self._file.close()
