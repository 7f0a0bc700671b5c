"""What the model of a workshop is made of: kinds of jobs, catalogues, jobs, workers' records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from comfyume.job_queue.jobs import GIB, Level, MemoryNeed, QueueMode, lane_of, models_of

from .constants import USUAL_AFFINITY_MS

USERS = ("ada", "bob", "cyd", "dan")
LEVELS: tuple[Level, ...] = ("front", "0", "1", "2", "3")
USUAL_LEVEL: Level = "2"


class Kind(NamedTuple):
    """A kind of jobs: what they need, and what is known of their memory before one has run."""

    needs: frozenset[str]
    memory: MemoryNeed = MemoryNeed()

    @property
    def lane(self) -> str:
        return lane_of(self.needs, self.memory)


_IMAGE = frozenset({"node:A", "model:checkpoints/image"})
#: Nothing to load, models that all workers have, and what the big ones alone can run. Of their memory nothing is known
#: at first, or there is an estimate, for two sizes, or it is stated.
KINDS = {
    "plain": Kind(frozenset({"node:A"})),
    "image": Kind(_IMAGE, MemoryNeed(estimate=8 * GIB)),
    "poster": Kind(_IMAGE, MemoryNeed(estimate=8 * GIB, sizes="width=4096")),
    "sketch": Kind(frozenset({"node:A", "model:checkpoints/sketch"}), MemoryNeed(stated=6 * GIB, estimate=30 * GIB)),
    "film": Kind(frozenset({"node:A", "node:B", "model:checkpoints/film"}), MemoryNeed(estimate=30 * GIB)),
}
#: What the catalogues of the workers offer.
CATALOGUES = {
    "usual": KINDS["image"].needs | KINDS["sketch"].needs,
    "everything": KINDS["image"].needs | KINDS["sketch"].needs | KINDS["film"].needs,
}
#: The workers, each with its catalogue.
WORKERS = {"small": "usual", "big-1": "everything", "big-2": "everything"}

FINAL = ("done", "error", "cancelled", "quarantined")


#: A level, a person and a lane.
Place = tuple[str, str, str]


@dataclass
class Job:
    """A job as the model has it."""

    job_id: str
    user: str
    kind: str
    body: str
    number: float
    #: Its place at the front, while it stands there.
    front: float | None = None
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
    #: Of its present claim: the millisecond, what its user was charged, and whether its models had to be loaded.
    claimed: int = 0
    charged: float = 0
    loads: bool = False

    @property
    def needs(self) -> frozenset[str]:
        return KINDS[self.kind].needs

    @property
    def lane(self) -> str:
        return KINDS[self.kind].lane

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
        return self.rank, self.lane, self.job_id

    @property
    def rank(self) -> float:
        """By what it is sorted; people see the number, whatever becomes of its level."""
        return self.number if self.front is None else self.front


class Told(NamedTuple):
    """What a worker is told of a job that it has claimed."""

    job_id: str
    user: str
    number: float
    attempt: int
    claim: str
    memory: int | None


class Short(NamedTuple):
    """What a worker is told that could run a job if it had so many bytes."""

    least: int


class Request(NamedTuple):
    """What a worker asks with; ``room`` is how many bytes its job may need, None for any."""

    claim: str
    turn: int
    catalogue: str
    room: int | None


@dataclass
class Record:
    """What the store knows of a worker."""

    instance: str
    catalogue: str
    claim: str | None = None
    job: str | None = None
    turn: int | None = None
    loaded: str | None = None
    loaded_since: int = 0
    is_drained: bool = False


@dataclass
class Policy:
    """How the queue is worked off."""

    mode: QueueMode = "fair"
    is_paused: bool = False
    affinity_ms: int = USUAL_AFFINITY_MS
    reserved: dict[str, str] = field(default_factory=dict)


def told(job: Job, memory: int | None = None) -> Told:
    """What the worker of a job is told of it."""
    assert job.claim is not None
    return Told(job.job_id, job.user, job.number, job.attempt, job.claim, memory)


def place_of(job: Job) -> Place:
    """Where a job stands among others like it."""
    return job.level, job.user, job.lane


def in_order(jobs: Sequence[Job]) -> list[Job]:
    """Jobs in the order of a sorted set: by rank, then by id."""
    return sorted(jobs, key=lambda job: (job.rank, job.job_id))
