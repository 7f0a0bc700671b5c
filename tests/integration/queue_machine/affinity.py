"""With which models a worker goes on: ``includes/affinity.lua`` said a second time, after ``docs/adr/0010``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

from .constants import LOADS_WAITED, MOST_WAITED_FOR, SHORT_LOAD_MS
from .things import Job

#: Why a worker takes a job, or none.
Why = Literal["goes on", "passed before", "share is up", "loads", "leaves it"]


class Waiting(NamedTuple):
    """A person's first job that a worker can run, with its time to run and to load its models.

    ``passed`` is for how long they were passed over, None if they were not. All times are in milliseconds.
    """

    job: Job
    work: float
    load: float
    passed: int | None


def choose(
    waiting: Sequence[Waiting], loaded: str, loaded_for: int, elsewhere: Counter[str], bound: int
) -> tuple[Job | None, Why]:
    """The job that a worker takes, and why; none if it had better leave them to others.

    Args:
        waiting: everybody's first job, in the order of the policy.
        loaded: the models that the worker has loaded, for ``loaded_for`` milliseconds now.
        elsewhere: how many other workers have each of the models loaded.
        bound: for how long people may be passed over.
    """
    own = [person for person in waiting if person.job.models in ("", loaded)]
    groups: dict[str, list[Waiting]] = {}
    for person in waiting:
        if person not in own:
            groups.setdefault(person.job.models, []).append(person)
    if not own:
        return _worth_loading(groups, elsewhere, bound)
    mine = _longest_passed(own)
    if groups and not (mine.passed is not None and mine.passed >= loaded_for):
        theirs = _longest_passed([_longest_passed(group) for group in groups.values()])
        if theirs.passed is not None and min(theirs.passed, loaded_for) >= bound / len(groups):
            return groups[theirs.job.models][0].job, "share is up"
        return mine.job, "goes on"
    return mine.job, "passed before" if groups else "goes on"


def _longest_passed(people: Sequence[Waiting]) -> Waiting:
    """Among equals the first in turn."""
    return max(people, key=lambda person: person.passed or 0)


def _worth_loading(groups: dict[str, list[Waiting]], elsewhere: Counter[str], bound: int) -> tuple[Job | None, Why]:
    """The models for which most is waiting, and those that others have only when waiting has cost more than loading."""
    best: list[tuple[float, Job]] = []
    for models, people in groups.items():
        load = max(person.load for person in people)
        waited = sum(person.passed or 0 for person in people)
        others = elsewhere[models]
        is_up = (_longest_passed(people).passed or 0) >= bound
        if load < SHORT_LOAD_MS or is_up or waited >= LOADS_WAITED * min(others, MOST_WAITED_FOR) * load:
            best.append(((sum(person.work for person in people) + waited) / (1 + others), people[0].job))
    return (max(best, key=lambda entry: entry[0])[1], "loads") if best else (None, "leaves it")
