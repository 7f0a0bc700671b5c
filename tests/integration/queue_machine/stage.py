"""What all steps have in common: the store and the model side by side, the workers' processes, and what must hold."""

from __future__ import annotations

import contextlib
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import hypothesis.strategies as st
import redis
from hypothesis.stateful import RuleBasedStateMachine, invariant

from comfyume.job_queue.errors import ClaimLost, JobConflict, WorkerNameTaken
from comfyume.job_queue.events import Batch, Event
from comfyume.job_queue.jobs import ClaimedJob
from comfyume.job_queue.scripts import source
from comfyume.job_queue.worker_queue import WorkerIdentity

from . import checks
from .program import DirectQueue, DirectReports, ImpatientClaims, now
from .store import LEASE, StoredWorkshop
from .things import FINAL, USERS, WORKERS, Request, Short, Told
from .workshop import Workshop

T = TypeVar("T")

#: Which of the things that are there; ``Stage.pick`` takes it modulo their number.
PICK = st.integers(0, 7)


@dataclass(eq=False)
class Process:
    """One process of a worker; ``has`` is the job that it works on."""

    identity: WorkerIdentity
    claims: ImpatientClaims
    reports: DirectReports
    has: Ticket | None = None

    @property
    def name(self) -> str:
        return self.identity.name

    @property
    def instance(self) -> str:
        return self.identity.instance

    @property
    def catalogue(self) -> str:
        return WORKERS[self.name]


@dataclass(frozen=True, eq=False)
class Ticket:
    """A job that a process was given, with the claim under which it was."""

    process: Process
    job: ClaimedJob

    def says(self, ends: str | None = None) -> Batch:
        """A batch of one event."""
        event = Event(1, b"{}", True, True, None, "x")
        return Batch(self.job.job_id, self.job.user, self.job.attempt, [event], 0, ends)


class Stage(RuleBasedStateMachine):
    """A workshop of its own; ``url`` and ``client`` are of the store."""

    url: ClassVar[str]
    client: ClassVar[redis.Redis]
    #: What was answered how often, over all sequences.
    tally: ClassVar[Counter[str]]
    #: The text of a script; another one to see that the machine notices.
    read: ClassVar[Callable[[str], str]] = staticmethod(source)

    def __init__(self) -> None:
        super().__init__()
        self.store = StoredWorkshop(self.client, f"machine-{uuid.uuid4().hex[:12]}", type(self).read)
        self.queue = DirectQueue(self.store, LEASE)
        self.model = Workshop()
        self.processes: dict[str, Process] = {}
        self.tickets: list[Ticket] = []
        self.asked: list[tuple[Process, Request]] = []
        self._ended: dict[str, dict[str, str]] = {}
        self._claims_of: dict[str, set[str]] = defaultdict(set)

    def teardown(self) -> None:
        self.store.clear()
        self.tally["sequences"] += 1
        self.tally.update({f"worker {why}": count for why, count in self.model.whys.items()})

    def answer(self, asked: DirectQueue | DirectReports, call: Coroutine[Any, Any, Any]) -> Any:
        """What the store answers to a call; the model does the same after it."""
        with contextlib.suppress(ClaimLost, JobConflict, WorkerNameTaken):
            now(call)
        self.see()
        return asked.reply

    def see(self) -> None:
        """Note what came of a change, and let the model begin it at the same time."""
        for claim, job_id in self.store.picture().jobs_by_claim().items():
            self._claims_of[job_id].add(claim)
        self.model.begin(self.store.now_ms)

    def agree(self, what: str, found: object, expected: object) -> None:
        """Compare an answer with that of the model."""
        word = expected if isinstance(expected, str) else ""
        word = {Told: "job", Short: "short"}.get(type(expected), word)
        self.tally[f"{what} {word}".strip()] += 1
        assert found == expected, f"{what} answered {found}, the model {expected}"

    @staticmethod
    def pick(pick: int, things: Sequence[T]) -> T:
        return things[pick % len(things)]

    @invariant()
    def agree_on_everything(self) -> None:
        """What must hold after every step; see ``checks``."""
        self.tally["steps"] += 1
        model, picture = self.model, self.store.picture()
        checks.a_job_is_in_one_place(picture)
        checks.each_end_is_in_the_ledger_once(self.model, picture)
        checks.a_job_is_lost_so_often_and_no_more(picture)
        checks.what_must_end_ends(picture)
        self._what_has_ended_stays_as_it_is(picture.jobs)
        self._each_attempt_has_one_claim(picture.jobs)
        checks.jobs_are_as_in_the_model(model, picture)
        checks.indexes_hold_what_the_model_says(model, picture)
        checks.workers_are_as_in_the_model(model, picture)
        checks.kinds_are_as_in_the_model(model, picture)
        self._lists_show_what_the_model_says()
        # Which of the waiting workers is asked first is the store's business.
        model.idle = {worker: model.idle[worker] for worker in picture.held.get("idle", {})}

    def _what_has_ended_stays_as_it_is(self, jobs: dict[str, dict[str, str]]) -> None:
        for job_id, fields in jobs.items():
            if fields["state"] in FINAL:
                before = self._ended.setdefault(job_id, fields)
                assert fields == before, f"{job_id} ended as {before} and changed to {fields}"
        assert self._ended.keys() <= jobs.keys(), "a job that has ended is forgotten"

    def _each_attempt_has_one_claim(self, jobs: dict[str, dict[str, str]]) -> None:
        for job_id, fields in jobs.items():
            claims = self._claims_of[job_id]
            assert int(fields["attempt"]) == len(claims), f"{job_id} had the claims {claims}: {fields}"

    def _lists_show_what_the_model_says(self) -> None:
        for user in USERS:
            found = [(job.job_id, job.state, float(job.number)) for job in now(self.queue.active(user))]
            expected = [(job.job_id, job.state, job.number) for job in self.model.active(user)]
            assert found == expected, f"{user} is shown {found}, the model has {expected}"
