"""What a run found: errors that are the frontend's own, and where it answers otherwise than a plain ComfyUI."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .exchanges import Answer, Exchange, Operations
from .reasons import FOLLOWS, reason_of, userdata_of

#: Sends a request once more and returns its answers.
SendAgain = Callable[[Exchange], Exchange]

#: Told to a worker that announces a file which the disk has no room for.
DISK_FULL = 507

_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_FRAME = re.compile(r'  File "(?P<file>.+)", line (?P<line>\d+)(?:, in (?P<function>.+))?')


@dataclass(frozen=True)
class Raised:
    """An exception in a log: its type, and the innermost place in the code that is named."""

    kind: str
    file: str
    line: int

    @property
    def is_ours(self) -> bool:
        """Whether it arose in comfyume's own code."""
        return "/custom_nodes/comfyume/" in self.file

    def __str__(self) -> str:
        return f"{self.kind} at {self.file}:{self.line}"


def exceptions_in(log: Path) -> Counter[Raised]:
    """How often each exception is in a log of Python's."""
    found: Counter[Raised] = Counter()
    frame: re.Match[str] | None = None
    is_inside = False
    for line in _COLOR.sub("", log.read_text(encoding="utf-8", errors="replace")).splitlines():
        # With something in front of it where a logger wrote it.
        if line.endswith("Traceback (most recent call last):"):
            is_inside, frame = True, None
        elif is_inside and (match := _FRAME.match(line)):
            frame = match
        elif is_inside and line and not line.startswith(" "):
            if frame is not None:
                found[Raised(line.partition(":")[0], frame["file"], int(frame["line"]))] += 1
            is_inside = False
    return found


def new_exceptions(ours: Counter[Raised], theirs: Counter[Raised]) -> list[str]:
    """The exceptions of the frontend that a plain ComfyUI does not raise at the same place, or that are of our code."""
    return [f"in the log, {count} times: {it}" for it, count in ours.items() if it.is_ours or it not in theirs]


def errors(exchanges: Iterable[Exchange], operations: Operations, send_again: SendAgain) -> list[str]:
    """The requests that the frontend cannot answer though a plain ComfyUI can, and answers that nobody should see.

    One line for each operation and kind of error, with the first request and what it gets when it is sent once more.
    """
    groups: dict[tuple[str, str], list[Exchange]] = {}
    for it in exchanges:
        ours = it.answers["frontend"]
        label = operations.label_of(it.method, it.target)
        is_theirs_too = it.answers["vanilla"].is_error_of_the_server
        if ours.shows_traceback and (ours.status or 0) >= 400:
            groups.setdefault((label, "shows where in the code it fails"), []).append(it)
        elif ours.is_error_of_the_server and ours.status != DISK_FULL and not is_theirs_too:
            groups.setdefault((label, ours.told()), []).append(it)
    return [
        f"{len(group)} times {label}: {what}; first {group[0]}; once more: "
        f"{send_again(group[0]).answers['frontend'].told()}; sent as {group[0].head[:1000]!r}"
        for (label, what), group in groups.items()
    ]


@dataclass(frozen=True)
class Difference:
    """Requests of one operation that the two answer with statuses of different classes.

    Attributes:
        reason: why that is meant; None if it is not.
        operation: method and path; all that are not described have one row for each method.
        ours: status and kind of error, and ``theirs`` too.
        count: how many requests.
        example: one of them.
    """

    reason: str | None
    operation: str
    ours: str
    theirs: str
    count: int
    example: Exchange

    def __str__(self) -> str:
        answers = f"{self.ours} instead of {self.theirs}"
        return f"{self.count} times {self.operation}: {answers}: {self.reason or f'FOR NO REASON: {self.example}'}"


def differences(exchanges: Sequence[Exchange], operations: Operations) -> list[Difference]:
    """Where the frontend's status is of another class than a plain ComfyUI's, grouped by reason and operation."""
    groups: dict[tuple[str, str, str, str], list[Exchange]] = {}
    unlike: set[str] = set()
    for it in exchanges:
        ours, theirs = it.answers["frontend"], it.answers["vanilla"]
        if ours.status_class != theirs.status_class:
            files = userdata_of(it)
            reason = reason_of(it) or (FOLLOWS if files & unlike else "")
            if reason:
                unlike |= files
            label = operations.label_of(it.method, it.target)
            label = label if label in operations.labels else f"{it.method}, not described"
            groups.setdefault((reason, label, ours.told(), theirs.told()), []).append(it)
    return [Difference(key[0] or None, *key[1:], len(group), group[0]) for key, group in sorted(groups.items())]


def same_errors(exchanges: Iterable[Exchange], operations: Operations) -> Counter[str]:
    """How many requests of each operation neither of the two can answer."""
    return Counter(
        operations.label_of(it.method, it.target)
        for it in exchanges
        if all(answer.is_error_of_the_server for answer in it.answers.values())
    )


def slowest(exchanges: Iterable[Exchange], name: str) -> tuple[float, str]:
    """Seconds of the slowest answer of a server, and the request."""

    def answer(it: Exchange) -> Answer:
        return it.answers[name]

    it = max(exchanges, key=lambda it: answer(it).seconds)
    return answer(it).seconds, f"{it.method} {it.target[:80]}"
