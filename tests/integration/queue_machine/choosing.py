"""Who may go next, as ``docs/adr/0010-who-goes-next.md`` has it.

Where the rules leave a choice, every job that they allow is named: two people with one number under ``fifo``, and
under ``fair``, whose use of the GPUs the model does not reckon, everybody at the level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .things import CATALOGUES, LEVELS, Job


class Entry(NamedTuple):
    """The first job of a person that the worker can run; the lowest rank goes first."""

    rank: Any
    job: Job


def candidates(
    standing: Sequence[Job],
    *,
    catalogue: str,
    only: str | None,
    mode: str,
    loaded: str | None,
    overdue: set[str],
    turns: Mapping[str, int],
) -> list[Job]:
    """The jobs of which a worker may get one now; none when nothing is for it.

    Args:
        standing: the jobs in the lanes.
        only: the person that the worker is reserved for.
        loaded: the models that the worker has loaded.
        overdue: the levels that have waited for too long.
        turns: when each person was served last.
    """
    for level in sorted(LEVELS, key=lambda level: level not in overdue):
        at_level = [job for job in standing if job.level == level and only in (None, job.user)]
        entries = _entries(at_level, catalogue, "fifo" if level == "front" else mode, turns)
        if entries:
            return _first(entries) if level == "front" else _first_but_for_models(entries, loaded)
    return []


def _entries(at_level: Sequence[Job], catalogue: str, mode: str, turns: Mapping[str, int]) -> list[Entry]:
    entries = []
    for user in sorted({job.user for job in at_level}):
        theirs = [job for job in at_level if job.user == user]
        fitting = [job for job in theirs if job.needs <= CATALOGUES[catalogue]]
        if not fitting:
            continue
        job = min(fitting, key=lambda job: job.place)
        rank: Any = 0
        if mode == "fifo":
            rank = job.number
        elif mode == "round_robin":
            # Among equals the first job decides, whether this worker can run it or not.
            rank = (turns.get(user, -1), min(job.number for job in theirs), user)
        entries.append(Entry(rank, job))
    return entries


def _first(entries: Sequence[Entry]) -> list[Job]:
    best = min(entry.rank for entry in entries)
    return [entry.job for entry in entries if entry.rank == best]


def _first_but_for_models(entries: Sequence[Entry], loaded: str | None) -> list[Job]:
    """Whoever is first may be passed over for others whose jobs need the models that are loaded already.

    For how long people were passed over the model does not reckon: of those it is anybody, and of those who need other
    models the first in turn among the people who need the same.
    """
    if loaded is None:
        return _first(entries)
    own = [entry for entry in entries if entry.job.models in ("", loaded)]
    if own:
        return [entry.job for entry in own]
    return [job for models in {entry.job.models for entry in entries} for job in _first_of(entries, models)]


def _first_of(entries: Sequence[Entry], models: str) -> list[Job]:
    return _first([entry for entry in entries if entry.job.models == models])
