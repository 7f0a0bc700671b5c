"""A workshop in plain Python: what each script is to do and to answer, said a second time.

Nothing here is indexed: which job stands where follows from the jobs each time. Time is what the machine says it is.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Literal

from comfyume.job_queue.frontend_queue import MAXIMUM_LOSSES
from comfyume.job_queue.jobs import QueueMode

from .scheduling import Scheduling
from .things import LEVELS, Job, Record, Request, Short, Told, in_order, told

#: What a claim answers: a job, a word (the worker waits now, is unknown, or its claim id is spent), or what it lacks.
ClaimAnswer = Told | Short | Literal["waits", "unknown", "spent"]


class Workshop(Scheduling):
    """The state of a workshop, and its changes: one method for each script, which returns the script's answer."""

    def __init__(self) -> None:
        super().__init__()
        self.submitted = 0
        self.orphans: set[str] = set()
        #: When each person's jobs ended.
        self.history: dict[str, list[tuple[float, str]]] = defaultdict(list)
        #: Every end of a job, with the person and the state.
        self.ends: Counter[tuple[str, str, str]] = Counter()
        self.sweeps: Literal["never", "lately", "long ago"] = "never"
        self.is_grace = False

    def begin(self, now: float) -> None:
        """Begin the next change, at this millisecond of the store's clock."""
        self.ledger.now = now

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
        worker = self._worker_for_new(job) if is_first and not self.policy.is_paused else None
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
                self._leave_lane(job)
                job.state = "cancelled"
                self.ends[job_id, user, job.state] += 1
                cancelled.append(job_id)
            elif job.is_running and which != "queued":
                job.is_cancelled = True
                cancelled.append(job_id)
        return cancelled

    def set_level(self, level: str, job_ids: Sequence[str]) -> list[str]:
        changed = []
        is_front = level == "front"
        # The first one named goes first, so it is the last to be put ahead of all.
        for job in self._queued(job_ids[::-1] if is_front else job_ids):
            if level in ("front", *(other for other in LEVELS if other != job.level)):
                changed.append(job.job_id)
                self.submitted += is_front
                job.front = -self.submitted if is_front else None
                self._move(job, level)
        return self._steered(changed)

    def hold(self, job_ids: Sequence[str]) -> list[str]:
        changed = []
        for job in self._queued(job_ids):
            if not job.is_held:
                changed.append(job.job_id)
                self._leave_lane(job)
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

    def configure(
        self, *, mode: QueueMode | None = None, paused: bool | None = None, affinity_ms: int | None = None
    ) -> None:
        if mode is not None:
            self.policy.mode = mode
        if paused is not None:
            self.policy.is_paused = paused
        if affinity_ms is not None:
            self.policy.affinity_ms = affinity_ms
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
        self.ledger.forget_old()
        requeued, quarantined = set(), set()
        for job in [job for job in self.jobs.values() if job.is_running and job.job_id not in self.leases]:
            if self.is_grace and job.job_id not in self.orphans:
                continue
            self.orphans.discard(job.job_id)
            self._release_worker(job)
            self.ledger.charge(job.user, -job.charged)
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
        if job and self._holds(job, known.claim):
            job.claim = None
            self.ledger.charge(job.user, -job.charged)
            if job.is_cancelled:
                job.losses.append(worker)
                self._end(job, "cancelled")
            else:
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

    def claim(self, worker: str, instance: str, request: Request) -> ClaimAnswer:
        known = self.records.get(worker)
        if known is None or known.instance != instance:
            return "unknown"
        if known.claim == request.claim:
            is_live = known.job is not None and self.leases.get(known.job) == request.claim
            job = self.jobs[known.job] if is_live and known.job else None
            return told(job, self.ledger.memory_of(job)) if job else "spent"
        if known.turn is not None and request.turn < known.turn:
            return "spent"
        if worker not in self.present:
            return "unknown"
        self.inboxes.pop(worker, None)
        known.turn = request.turn
        if known.is_drained:
            return "waits"
        job, shorts = self._assign(worker, request)
        if job is None:
            self.idle[worker] = request
            return Short(min(shorts)) if shorts else "waits"
        return job

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
        self, job_id: str, claim: str, ends: str, peak: int | None, following: tuple[str, Request] | None
    ) -> tuple[str, ClaimAnswer | None]:
        """End a job; ``following`` are the instance and the claim that comes with it."""
        job = self.jobs.get(job_id)
        if job is None or job.claim != claim:
            return "lost", None
        if not job.is_running:
            return "known", None
        self.ledger.close(job, learns=ends == "done", peak=peak)
        self._release_worker(job)
        self._end(job, ends)
        assert job.worker is not None
        return "ok", self.claim(job.worker, *following) if following else None

    # What they have in common

    def _holds(self, job: Job, claim: str | None) -> bool:
        return job.is_running and job.claim == claim

    def _queued(self, job_ids: Sequence[str]) -> list[Job]:
        return [self.jobs[job_id] for job_id in job_ids if job_id in self.jobs and self.jobs[job_id].state == "queued"]

    def _steered(self, changed: list[str]) -> list[str]:
        if changed:
            self._feed()
        return changed

    def _end(self, job: Job, state: str) -> None:
        job.state = state
        job.is_cancelled = False
        job.has_result = True
        self.leases.pop(job.job_id, None)
        self.history[job.user].append((self.ledger.now, job.job_id))
        self.ends[job.job_id, job.user, state] += 1

    def _release_worker(self, job: Job) -> None:
        known = self.records.get(job.worker or "")
        if known and known.claim == job.claim:
            known.job = None
