"""Steps of frontends, workers and time in any order, on a real store and on the model; they must agree after each."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis.stateful import initialize, precondition, rule

from comfyume.job_queue.jobs import QueueMode

from .frontend_steps import MODES, WISH, FrontendSteps
from .stage import PICK
from .things import LEVELS, WORKERS
from .worker_steps import WorkerSteps

#: Longer than whatever the scripts wait for.
LONG_AGO = 1000.0


class QueueMachine(FrontendSteps, WorkerSteps):
    """One sequence of steps. Time passes by words: a lease ends as its key is deleted, not because anybody waits."""

    # Each name is one more chance to be the next step: without work nothing else matters.
    work_2 = work_3 = work_4 = work_5 = work_6 = WorkerSteps.work
    submit_2 = FrontendSteps.submit
    an_old_claim_speaks_2 = WorkerSteps.an_old_claim_speaks

    @initialize(mode=MODES, wishes=st.lists(WISH, max_size=6))
    def open(self, mode: QueueMode, wishes: list[tuple[str, str, str | float]]) -> None:
        self.set_mode(mode)
        self.submit(wishes)
        for worker in WORKERS:
            self.start(worker, former_is_dead=False)

    @precondition(lambda self: self.model.leases)
    @rule(pick=PICK)
    def a_lease_ends(self, pick: int) -> None:
        self.end_lease(self.pick(pick, list(self.model.leases)))

    @precondition(lambda self: self.processes)
    @rule(pick=PICK, speaks=st.booleans())
    def a_worker_is_lost_at_work(self, pick: int, speaks: bool) -> None:
        """Another may have its job when it speaks again. One step, so that it happens often enough to one job."""
        process = self.pick(pick, list(self.processes.values()))
        if process.has is None:
            self.claim(process)
        if process.has is not None:
            self.end_lease(process.has.job.job_id)
        self.sweep()
        for other in [other for other in self.free() if other is not process]:
            self.claim(other)
        if speaks:
            self.beat(process)

    @precondition(lambda self: self.model.present)
    @rule(pick=PICK)
    def a_worker_shows_no_life(self, pick: int) -> None:
        self.end_presence(self.pick(pick, sorted(self.model.present)))

    @precondition(lambda self: any(self.model.inboxes.values()))
    @rule(pick=PICK)
    def an_inbox_ends(self, pick: int) -> None:
        self.end_inbox(self.pick(pick, [worker for worker, items in self.model.inboxes.items() if items]))

    @precondition(lambda self: self.processes)
    @rule(pick=PICK)
    def a_worker_is_killed(self, pick: int) -> None:
        """Nothing is heard of the process from now on, except of its old claims."""
        worker = self.processes.pop(self.pick(pick, list(self.processes))).name
        self.end_presence(worker)
        self.end_inbox(worker)
        record = self.model.records.get(worker)
        if record is not None and record.job is not None:
            self.end_lease(record.job)

    def end_lease(self, job_id: str) -> None:
        self.store.end_key(f"lease:{job_id}")
        self.model.leases.pop(job_id, None)

    def end_presence(self, worker: str) -> None:
        self.store.end_key(f"presence:{worker}")
        self.model.present.discard(worker)

    def end_inbox(self, worker: str) -> None:
        self.store.end_key(f"inbox:{worker}")
        self.model.inboxes.pop(worker, None)

    @precondition(lambda self: self.model.sweeps != "never")
    @rule()
    def nobody_swept_for_long(self) -> None:
        self.store.set_last_sweep(LONG_AGO)
        self.model.sweeps = "long ago"

    @precondition(lambda self: self.model.is_grace)
    @rule()
    def the_grace_ends(self) -> None:
        self.store.end_key("grace")
        self.model.is_grace = False

    @rule(level=st.sampled_from([level for level in LEVELS if level != "front"]))
    def a_level_has_waited_for_long(self, level: str) -> None:
        self.store.set_last_served(level, LONG_AGO)
        self.model.overdue.add(level)
