"""What the model of a workshop is made of: kinds of jobs, catalogues, jobs, workers' records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from comfyume.job_queue.jobs import Level, QueueMode, lane_of, models_of

USERS = ("ada", "bob", "cyd")
LEVELS: tuple[Level, ...] = ("front", "0", "1", "2", "3")
USUAL_LEVEL: Level = "2"

#: What jobs need: nothing to load, a model that every worker has, and what the big worker alone can run.
KINDS = {
    "plain": frozenset({"node:A"}),
    "image": frozenset({"node:A", "model:checkpoints/image"}),
    "film": frozenset({"node:A", "node:B", "model:checkpoints/film"}),
}
#: What the catalogues of the workers offer.
CATALOGUES = {
    "usual": frozenset({"node:A", "model:checkpoints/image"}),
    "everything": frozenset({"node:A", "node:B", "model:checkpoints/image", "model:checkpoints/film"}),
}
#: The workers, each with its catalogue.
WORKERS = {"small-1": "usual", "small-2": "usual", "big": "everything"}

FINAL = ("done", "error", "cancelled", "quarantined")


@dataclass
class Job:
    """A job as the model has it."""

    job_id: str
    user: str
    kind: str
    body: str
    number: float
    level: str = USUAL_LEVEL
    state: str = "queued"
    is_held: bool = False
    is_cancelled: bool = False
    attempt: int = 0
    #: The workers that were lost with it.
    losses: list[str] = field(default_factory=list)
    claim: str | None = None
    worker: str | None = None
    has_result: bool = False

    @property
    def needs(self) -> frozenset[str]:
        return KINDS[self.kind]

    @property
    def lane(self) -> str:
        return lane_of(self.needs)

    @property
    def models(self) -> str:
        return models_of(self.needs)

    @property
    def is_over(self) -> bool:
        return self.state in FINAL

    @property
    def is_running(self) -> bool:
        """Whether a worker has it."""
        return self.state in ("claimed", "running")

    @property
    def stands(self) -> bool:
        """Whether it stands in a lane."""
        return self.state == "queued" and not self.is_held

    @property
    def place(self) -> tuple[float, str, str]:
        """What orders a person's jobs at one level."""
        return self.number, self.lane, self.job_id


class Told(NamedTuple):
    """What a worker is told of a job that it has claimed."""

    job_id: str
    user: str
    number: float
    attempt: int
    claim: str


class Request(NamedTuple):
    """What a waiting worker asked with."""

    claim: str
    catalogue: str


@dataclass
class Record:
    """What the store knows of a worker."""

    instance: str
    catalogue: str
    claim: str | None = None
    job: str | None = None
    turn: int | None = None
    loaded: str | None = None
    is_drained: bool = False


@dataclass
class Policy:
    """How the queue is worked off."""

    mode: QueueMode = "fair"
    is_paused: bool = False
    reserved: dict[str, str] = field(default_factory=dict)


def told(job: Job) -> Told:
    """What the worker of a job is told of it."""
    assert job.claim is not None
    return Told(job.job_id, job.user, job.number, job.attempt, job.claim)


def in_order(jobs: Sequence[Job]) -> list[Job]:
    """Jobs in the order of a sorted set: by number, then by id."""
    return sorted(jobs, key=lambda job: (job.number, job.job_id))
