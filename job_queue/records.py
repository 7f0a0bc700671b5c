"""A job as its person and the instructor look at it, from its submit until it is forgotten."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .jobs import RUNNING, plain_number

#: Fields of the hash in the store, in the order in which ``from_row`` takes them.
FIELDS = ("user", "name", "state", "number", "submitted", "claimed", "finished", "worker", "result")


@dataclass(frozen=True)
class JobRecord:
    """One job. Moments are Unix seconds.

    Attributes:
        name: of its workflow; empty where nobody has told.
        state: ``queued``, ``running``, ``done``, ``error``, ``cancelled`` or ``quarantined``.
        started: when its last attempt was claimed.
        result: what history shows of it, see ``Reports.ending``; empty until it has ended.
    """

    job_id: str
    user: str
    name: str
    state: str
    number: float
    submitted: float
    started: float | None
    finished: float | None
    worker: str | None
    result: dict[str, Any]

    @property
    def has_ended(self) -> bool:
        """Whether it is in its final state."""
        return self.state not in ("queued", "running")

    @classmethod
    def from_row(cls, job_id: str, row: Sequence[bytes | None]) -> JobRecord | None:
        """From its fields in the store; None for a job that is not there, or not a whole one."""
        user, name, state, number, submitted, claimed, finished, worker, result = row
        if user is None or state is None or number is None or submitted is None:
            return None
        shown = "running" if state.decode() in RUNNING else state.decode()
        return cls(
            job_id,
            user.decode(),
            (name or b"").decode(),
            shown,
            plain_number(number),
            int(submitted) / 1000,
            int(claimed) / 1000 if claimed and shown != "queued" else None,
            int(finished) / 1000 if finished else None,
            worker.decode() if worker and shown != "queued" else None,
            json.loads(result) if result else {},
        )
