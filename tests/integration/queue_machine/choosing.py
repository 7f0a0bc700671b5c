"""Whose turn it is at one level, as ``docs/adr/0010-who-goes-next.md`` and ``docs/adr/0012-memory.md`` have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .ledger import Ledger
from .things import CATALOGUES, Job, Request


def is_able(request: Request, job: Job) -> bool:
    """Whether a worker has all that a job needs but perhaps the memory."""
    return job.needs <= CATALOGUES[request.catalogue]


def lacks(request: Request, job: Job, ledger: Ledger) -> int | None:
    """The bytes that a job needs, if a worker has not so much room."""
    need = ledger.memory_of(job)
    return need if need is not None and request.room is not None and need > request.room else None


def in_turn(at_level: Sequence[Job], request: Request, mode: str, ledger: Ledger) -> tuple[list[Job], list[int]]:
    """The first job of each person that a worker can run, in the order of the policy, and the needs that are too large.

    Nobody overtakes themselves, so what a person wants after that job does not matter.
    """
    jobs: list[tuple[Any, Job]] = []
    shorts: list[int] = []
    for user in sorted({job.user for job in at_level}):
        theirs = sorted([job for job in at_level if job.user == user], key=lambda job: job.place)
        for job in theirs:
            if not is_able(request, job):
                continue
            need = lacks(request, job, ledger)
            if need is None:
                jobs.append((_rank(job, theirs[0], mode, ledger), job))
                break
            shorts.append(need)
    return [job for _, job in sorted(jobs, key=lambda entry: entry[0])], shorts


def _rank(job: Job, first: Job, mode: str, ledger: Ledger) -> Any:
    if mode == "fifo":
        return job.rank
    used: Any = ledger.usage(job.user) if mode == "fair" else ledger.turns.get(job.user)
    # Who used nothing, or was never served, goes first, by their first job, whether this worker can run it or not.
    return (1, used, job.user) if used is not None else (0, first.rank, job.user)
