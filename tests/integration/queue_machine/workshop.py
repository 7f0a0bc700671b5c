"""A workshop in plain Python: what each script is to do and to answer, said a second time.

Nothing here is indexed: which job stands where follows from the jobs each time. Time is what the machine says it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

from comfyume.job_queue.frontend_queue import MAXIMUM_LOSSES
from comfyume.job_queue.jobs import QueueMode

from . import choosing
from .things import CATALOGUES, LEVELS, Job, Policy, Record, Request, Told, in_order, told

#: What a claim answers: a job, or a word: the worker waits now, is unknown, or its claim id is spent.
ClaimAnswer = Told | Literal["waits", "unknown", "spent"]


class Workshop:
    """The state of a workshop, and its changes: one method for each script, which returns the script's answer."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.policy = Policy()
        self.submitted = 0
        self.records: dict[str, Record] = {}
        self.listed: set[str] = set()
        self.present: set[str] = set()
        self.leases: dict[str, str] = {}
        self.orphans: set[str] = set()
        #: The workers that wait, in the order in which the store asks them.
        self.idle: dict[str, Request] = {}
        #: The jobs in each inbox; None only wakes.
        self.inboxes: dict[str, list[Told | None]] = defaultdict(list)
        #: When each person's jobs ended.
        self.history: dict[str, list[tuple[int, str]]] = defaultdict(list)
        self.overdue: set[str] = set()
        self.turns: dict[str, int] = {}
        self.sweeps: Literal["never", "lately", "long ago"] = "never"
        self.is_grace = False
        self._now = 0
        self._seen: Mapping[str, str] = {}

    def begin(self, seen: Mapping[str, str]) -> None:
        """Begin the next change; ``seen`` tells which job the store has bound to each claim, for free choices."""
        self._now += 1
        self._seen = seen

    # Frontends

    def submit(self, job_id: str, user: str, kind: str, body: str, order: str | float) -> tuple[str, float] | str:
        known = self.jobs.get(job_id)
        if known is not None:
            same = (known.user, known.kind, known.body) == (user, kind, body)
            return ("known", known.number) if same else "conflict"
        self.submitted += 1
        number = {"back": self.submitted, "front": -self.submitted}.get(str(order), order)
        job = Job(job_id, user, kind, body, float(number))
        is_first = not any(other.state == "queued" for other in self.jobs.values())
        worker = self._waiting_worker_for(job) if is_first and not self.policy.is_paused else None
        self.jobs[job_id] = job
        if worker is None:
            self._enter_lane(job)
            self._feed()
        else:
            self._hand_to(worker, job)
        return "stored", job.number

    def cancel(self, user: str, which: str, job_ids: Sequence[str]) -> list[str]:
        cancelled = []
        for job_id in job_ids or [job.job_id for job in self.active(user)]:
            job = self.jobs.get(job_id)
            if job is None or job.user != user:
                continue
            if job.state == "queued" and which != "running":
                job.state = "cancelled"
                cancelled.append(job_id)
            elif job.is_running and which != "queued":
                job.is_cancelled = True
                cancelled.append(job_id)
        return cancelled

    def set_level(self, level: str, job_ids: Sequence[str]) -> list[str]:
        changed = []
        for job in self._queued(job_ids):
            if level in ("front", *(other for other in LEVELS if other != job.level)):
                changed.append(job.job_id)
                if level == "front":
                    self.submitted += 1
                    job.number = -self.submitted
                self._move(job, level)
        return self._steered(changed)

    def hold(self, job_ids: Sequence[str]) -> list[str]:
        changed = []
        for job in self._queued(job_ids):
            if not job.is_held:
                changed.append(job.job_id)
                job.is_held = True
        return self._steered(changed)

    def release(self, job_ids: Sequence[str]) -> list[str]:
        changed = []
        for job in self._queued(job_ids):
            if job.is_held:
                changed.append(job.job_id)
                self._enter_lane(job)
                job.is_held = False
        return self._steered(changed)

    def configure(self, *, mode: QueueMode | None = None, paused: bool | None = None) -> None:
        if mode is not None:
            self.policy.mode = mode
        if paused is not None:
            self.policy.is_paused = paused
        self._feed()

    def reserve(self, worker: str, user: str | None) -> None:
        self.policy.reserved.pop(worker, None)
        if user is not None:
            self.policy.reserved[worker] = user
        self._feed()

    def drain(self, worker: str, *, is_drained: bool) -> bool:
        if worker not in self.present:
            return False
        self.records[worker].is_drained = is_drained
        if is_drained:
            self.idle.pop(worker, None)
        else:
            self.inboxes[worker].append(None)
        return True

    def sweep(self) -> tuple[set[str], set[str]]:
        if self.sweeps == "long ago":
            self.is_grace = True
        self.sweeps = "lately"
        requeued, quarantined = set(), set()
        for job in [job for job in self.jobs.values() if job.is_running and job.job_id not in self.leases]:
            if self.is_grace and job.job_id not in self.orphans:
                continue
            self.orphans.discard(job.job_id)
            self._release_worker(job)
            job.claim = None
            job.losses.append(job.worker or "")
            if job.is_cancelled or len(job.losses) == MAXIMUM_LOSSES:
                if not job.is_cancelled:
                    quarantined.add(job.job_id)
                self._end(job, "cancelled" if job.is_cancelled else "quarantined")
            else:
                self._return_to_lane(job)
                requeued.add(job.job_id)
        if not self.is_grace:
            self.orphans.clear()
            for worker in self.listed - self.present:
                self.listed.discard(worker)
                self.idle.pop(worker, None)
        if any(job.state == "queued" for job in self.jobs.values()):
            self._feed()
        return requeued, quarantined

    def active(self, user: str) -> list[Job]:
        """A user's jobs that have not ended, in the order of the queue."""
        return in_order([job for job in self.jobs.values() if job.user == user and not job.is_over])

    # Workers

    def register(self, worker: str, instance: str, catalogue: str, *, former_is_dead: bool) -> str:
        known = self.records.get(worker)
        if known and known.instance != instance:
            if worker in self.present and not former_is_dead:
                return "taken"
            if known.job is not None and self.jobs[known.job].claim == known.claim:
                self.leases.pop(known.job, None)
                self.orphans.add(known.job)
        if known is None or known.instance != instance:
            known = self.records[worker] = Record(instance, catalogue)
            self.idle.pop(worker, None)
        elif self.idle.pop(worker, None):
            self.inboxes[worker].append(None)
        self.listed.add(worker)
        self.present.add(worker)
        return "ok"

    def leave(self, worker: str, instance: str) -> str:
        known = self.records.get(worker)
        if known is None or known.instance != instance:
            return ""
        returned = ""
        job = self.jobs[known.job] if known.job else None
        if job and self._holds(job, known.claim) and not job.is_cancelled:
            job.claim = None
            self.leases.pop(job.job_id, None)
            self._return_to_lane(job)
            returned = job.job_id
        del self.records[worker]
        self.idle.pop(worker, None)
        self.inboxes.pop(worker, None)
        self.present.discard(worker)
        self.listed.discard(worker)
        self._feed()
        return returned

    def claim(self, worker: str, instance: str, claim: str, turn: int, catalogue: str) -> ClaimAnswer:
        known = self.records.get(worker)
        if known is None or known.instance != instance:
            return "unknown"
        if known.claim == claim:
            is_live = known.job is not None and self.leases.get(known.job) == claim
            return told(self.jobs[known.job]) if is_live and known.job else "spent"
        if known.turn is not None and turn < known.turn:
            return "spent"
        if worker not in self.present:
            return "unknown"
        self.inboxes.pop(worker, None)
        known.turn = turn
        if known.is_drained:
            return "waits"
        request = Request(claim, catalogue)
        job = self._assign(worker, request)
        if job is None:
            self.idle[worker] = request
            return "waits"
        return told(job)

    def take_from_inbox(self, worker: str) -> Told | None:
        """Take the first item out of an inbox, as the worker's blocking read does."""
        return self.inboxes[worker].pop(0) if self.inboxes[worker] else None

    def renew(self, worker: str, instance: str, job_id: str, claim: str) -> str:
        known = self.records.get(worker)
        if known is None or known.instance != instance:
            return "unknown"
        job = self.jobs.get(job_id)
        holds = job is not None and self._holds(job, claim)
        if holds:
            self.leases[job_id] = claim
        if worker not in self.present:
            return "unknown"
        if not job_id:
            return "ok"
        if not holds:
            return "lost"
        return "cancel" if job is not None and job.is_cancelled else "ok"

    def append(self, job_id: str, claim: str, *, keep: bool) -> str:
        job = self.jobs.get(job_id)
        if job is None or not self._holds(job, claim):
            return "lost"
        if keep:
            job.state = "running"
        return "ok"

    def finish(
        self, job_id: str, claim: str, ends: str, following: tuple[str, str, int, str] | None
    ) -> tuple[str, ClaimAnswer | None]:
        """End a job; ``following`` are instance, claim id, turn and catalogue of the claim that comes with it."""
        job = self.jobs.get(job_id)
        if job is None or job.claim != claim:
            return "lost", None
        if not job.is_running:
            return "known", None
        self._release_worker(job)
        self._end(job, ends)
        assert job.worker is not None
        return "ok", self.claim(job.worker, *following) if following else None

    # What they have in common

    def _holds(self, job: Job, claim: str | None) -> bool:
        return job.is_running and job.claim == claim

    def _queued(self, job_ids: Sequence[str]) -> list[Job]:
        return [self.jobs[job_id] for job_id in job_ids if job_id in self.jobs and self.jobs[job_id].state == "queued"]

    def standing(self) -> list[Job]:
        """The jobs in the lanes."""
        return [job for job in self.jobs.values() if job.stands]

    def _enter_lane(self, job: Job, level: str | None = None) -> None:
        """Called while the job does not stand there yet: a level's patience begins when somebody waits at it."""
        level = level or job.level
        if not any(other.level == level for other in self.standing() if other is not job):
            self.overdue.discard(level)

    def _move(self, job: Job, level: str) -> None:
        if not job.is_held:
            self._enter_lane(job, level)
        job.level = level

    def _steered(self, changed: list[str]) -> list[str]:
        if changed:
            self._feed()
        return changed

    def _return_to_lane(self, job: Job) -> None:
        self._enter_lane(job)
        job.state = "queued"

    def _end(self, job: Job, state: str) -> None:
        job.state = state
        job.is_cancelled = False
        job.has_result = True
        self.leases.pop(job.job_id, None)
        self.history[job.user].append((self._now, job.job_id))

    def _release_worker(self, job: Job) -> None:
        known = self.records.get(job.worker or "")
        if known and known.claim == job.claim:
            known.job = None

    def _assign(self, worker: str, request: Request) -> Job | None:
        """Bind the job whose turn it is to a worker's claim."""
        if self.policy.is_paused:
            return None
        allowed = choosing.candidates(
            self.standing(),
            catalogue=request.catalogue,
            only=self.policy.reserved.get(worker),
            mode=self.policy.mode,
            loaded=self.records[worker].loaded,
            overdue=self.overdue,
            turns=self.turns,
        )
        if not allowed:
            return None
        job = allowed[0]
        if len(allowed) > 1:
            seen = self._seen.get(request.claim)
            job = next((job for job in allowed if job.job_id == seen), job)
        self.overdue.discard(job.level)
        self._bind(worker, request, job)
        return job

    def _bind(self, worker: str, request: Request, job: Job) -> None:
        job.state = "claimed"
        job.claim = request.claim
        job.worker = worker
        job.attempt += 1
        self.leases[job.job_id] = request.claim
        known = self.records[worker]
        known.claim, known.job = request.claim, job.job_id
        known.loaded = job.models or known.loaded
        self.idle.pop(worker, None)
        self.turns[job.user] = self._now

    def _waiting_worker_for(self, job: Job) -> str | None:
        """The waiting worker that gets a new job: the first that may run it, but rather one that has its models."""
        chosen = None
        for worker, request in list(self.idle.items()):
            if worker not in self.present:
                del self.idle[worker]
                continue
            only = self.policy.reserved.get(worker)
            if only not in (None, job.user) or not job.needs <= CATALOGUES[request.catalogue]:
                continue
            chosen = chosen or worker
            if not job.models:
                break
            if self.records[worker].loaded == job.models:
                chosen = worker
                break
        return chosen

    def _hand_to(self, worker: str, job: Job) -> None:
        self._bind(worker, self.idle[worker], job)
        self.inboxes[worker].append(told(job))

    def _feed(self) -> None:
        """Hand queued jobs to the workers that wait for one."""
        for worker, request in list(self.idle.items()):
            if worker not in self.present:
                # Of these the store learns as it asks them.
                del self.idle[worker]
                continue
            job = self._assign(worker, request)
            if job is not None:
                self.inboxes[worker].append(told(job))
