"""How a workshop in plain Python decides who goes next; see ``workshop``.

Nothing here is indexed: which job stands where follows from the jobs each time.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from . import affinity
from .choosing import in_turn, is_able, lacks
from .constants import SHORT_LOAD_MS
from .ledger import Ledger
from .things import Job, Policy, Record, Request, Told, place_of, told


class Scheduling:
    """The jobs, the workers, and what is remembered of them; and what becomes of a worker that asks."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.policy = Policy()
        self.ledger = Ledger()
        self.records: dict[str, Record] = {}
        self.listed: set[str] = set()
        self.present: set[str] = set()
        self.leases: dict[str, str] = {}
        #: The workers that wait, in the order in which the store asks them.
        self.idle: dict[str, Request] = {}
        #: The jobs in each inbox; None only wakes.
        self.inboxes: dict[str, list[Told | None]] = defaultdict(list)
        #: Why workers took jobs, or left them, where their models mattered.
        self.whys: Counter[str] = Counter()

    def standing(self) -> list[Job]:
        """The jobs in the lanes."""
        return [job for job in self.jobs.values() if job.stands]

    def _enter_lane(self, job: Job, level: str | None = None) -> None:
        """Called while the job does not stand there yet: a level's patience begins when somebody waits at it."""
        level = level or job.level
        if not any(other.level == level for other in self.standing() if other is not job):
            self.ledger.served[level] = self.ledger.now_ms

    def _leave_lane(self, job: Job) -> None:
        """Called while the job still stands there: whoever waits no more in a lane was passed over there by nobody."""
        if [other for other in self.standing() if place_of(other) == place_of(job)] == [job]:
            self.ledger.passed.pop(place_of(job), None)

    def _move(self, job: Job, level: str) -> None:
        if not job.is_held:
            self._leave_lane(job)
            self._enter_lane(job, level)
        job.level = level

    def _return_to_lane(self, job: Job) -> None:
        self._enter_lane(job)
        job.state = "queued"

    def _assign(self, worker: str, request: Request) -> tuple[Told | None, list[int]]:
        """Bind the job whose turn it is to a worker's claim; else the needs for which the worker is short."""
        shorts: list[int] = []
        if self.policy.is_paused:
            return None, shorts
        only = self.policy.reserved.get(worker)
        for level in self.ledger.levels():
            at_level = [job for job in self.standing() if job.level == level and only in (None, job.user)]
            mode = "fifo" if level == "front" else self.policy.mode
            jobs, lacking = in_turn(at_level, request, mode, self.ledger)
            shorts += lacking
            # Neither an instructor's word nor a reservation is weighed against loading.
            job = jobs[0] if jobs and (only or level == "front") else self._prefer_loaded(worker, jobs)
            if job is not None:
                self.ledger.served[level] = self.ledger.now_ms
                return self._bind(worker, request, job), []
        return None, shorts

    def _prefer_loaded(self, worker: str, jobs: Sequence[Job]) -> Job | None:
        """Of everybody's first jobs the one that a worker takes; whoever is passed over has it noted."""
        record, ledger, now = self.records[worker], self.ledger, self.ledger.now_ms
        if not (jobs and self.policy.affinity_ms and record.loaded and jobs[0].models):
            return jobs[0] if jobs else None
        waiting = [
            affinity.Waiting(
                job,
                ledger.work_of(job),
                ledger.kinds[job.kind].load or 0,
                now - ledger.passed[place_of(job)] if place_of(job) in ledger.passed else None,
            )
            for job in jobs
        ]
        loaded_for, elsewhere = now - record.loaded_since, self._loaded_elsewhere(worker)
        chosen, why = affinity.choose(waiting, record.loaded, loaded_for, elsewhere, self.policy.affinity_ms)
        self.whys[why] += 1
        for job in jobs[: jobs.index(chosen) if chosen else None]:
            ledger.passed.setdefault(place_of(job), now)
        return chosen

    def _loaded_elsewhere(self, worker: str) -> Counter[str]:
        """How many other workers that take jobs have each of the models loaded."""
        free = [other for other in self.listed & self.present - {worker} if not self.policy.reserved.get(other)]
        others = [self.records[other] for other in free]
        return Counter(other.loaded for other in others if other.loaded and not other.is_drained)

    def _bind(self, worker: str, request: Request, job: Job) -> Told:
        known, ledger = self.records[worker], self.ledger
        job.state = "claimed"
        job.claim = request.claim
        job.worker = worker
        job.attempt += 1
        job.claimed, job.charged = ledger.now_ms, ledger.work_of(job)
        job.loads = bool(job.models) and known.loaded != job.models
        self.leases[job.job_id] = request.claim
        known.claim, known.job = request.claim, job.job_id
        if job.loads:
            known.loaded, known.loaded_since = job.models, ledger.now_ms
        self.idle.pop(worker, None)
        ledger.charge(job.user, job.charged)
        ledger.serve(job.user, place_of(job))
        return told(job, ledger.memory_of(job))

    def _worker_for_new(self, job: Job) -> str | None:
        """The waiting worker that gets a new job: the first that may run it, but rather one that has its models.

        None as well if a worker has those that does not wait.
        """
        able = []
        for worker, request in list(self.idle.items()):
            if worker not in self.present:
                del self.idle[worker]
                continue
            may = self.policy.reserved.get(worker) in (None, job.user) and is_able(request, job)
            if not may or lacks(request, job, self.ledger) is not None:
                continue
            able.append(worker)
            if not job.models or self.records[worker].loaded == job.models:
                return worker
        if not able or self._is_better_elsewhere(able[0], job):
            return None
        return able[0]

    def _is_better_elsewhere(self, worker: str, job: Job) -> bool:
        """Whether a new job that has to be loaded is left to a worker that has its models."""
        load = self.ledger.kinds[job.kind].load or 0
        is_weighed = self.policy.affinity_ms > 0 and self.records[worker].loaded is not None and load >= SHORT_LOAD_MS
        return is_weighed and self._loaded_elsewhere(worker)[job.models] > 0

    def _hand_to(self, worker: str, job: Job) -> None:
        self.inboxes[worker].append(self._bind(worker, self.idle[worker], job))

    def _feed(self) -> None:
        """Hand queued jobs to the workers that wait for one."""
        nothing_for = set()
        for worker, request in list(self.idle.items()):
            if worker not in self.present:
                # Of these the store learns as it asks them.
                del self.idle[worker]
                continue
            # Workers that are alike are not asked again within one change.
            alike = request.catalogue, request.room, self.policy.reserved.get(worker), self.records[worker].loaded
            job = None if alike in nothing_for else self._assign(worker, request)[0]
            if job is None:
                nothing_for.add(alike)
            else:
                self.inboxes[worker].append(job)
