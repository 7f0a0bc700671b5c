"""Steps of frontends, workers and time in any order, on a real store and on the model; they must agree after each."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis.stateful import initialize, precondition, rule

from comfyume.job_queue.frontend_queue import MAXIMUM_LOSSES
from comfyume.job_queue.jobs import QueueMode

from .constants import PATIENCE_MS, SHORT_LOAD_MS, USUAL_AFFINITY_MS, USUAL_MS
from .frontend_steps import MODES, SHARE, WISH, FrontendSteps
from .stage import PICK
from .things import KINDS, USERS, WORKERS
from .worker_steps import Shift, WorkerSteps

#: Longer than whatever the scripts wait for.
LONG_AGO = 1000.0
#: What each person of a rush wants first and then, and how many milliseconds each job takes.
FIRST = st.permutations(["film", "image", "poster", "sketch"])
THEN = st.lists(st.sampled_from(sorted(KINDS)), max_size=len(USERS))
RUNS = st.lists(st.sampled_from([500, *[USUAL_AFFINITY_MS // 3 + 1] * 3]), min_size=3, max_size=6)
#: Milliseconds after each of which it is looked whether loading is worth it by now.
WAITS = st.lists(st.sampled_from([1_000, 20_000, 40_000]), max_size=4)


class QueueMachine(FrontendSteps, WorkerSteps):
    """One sequence of steps. Time passes by words: a lease ends as its key is deleted, not because anybody waits."""

    # Each name is one more chance to be the next step: without work nothing else matters.
    work_2 = work_3 = work_4 = work_5 = work_6 = WorkerSteps.work
    submit_2 = FrontendSteps.submit
    an_old_claim_speaks_2 = WorkerSteps.an_old_claim_speaks

    @initialize(mode=MODES, share=SHARE, wishes=st.lists(WISH, max_size=6), is_new=st.booleans())
    def open(self, mode: QueueMode, share: float, wishes: list[tuple[str, str, str | float]], is_new: bool) -> None:
        self.set_mode(mode)
        self.set_affinity(share)
        if not is_new:
            self.learn_how_long_jobs_take()
        self.submit(wishes)
        for worker in WORKERS:
            self.start(worker, former_is_dead=False)

    def learn_how_long_jobs_take(self) -> None:
        """To run, and in a second round, in which each loads its models again, to load."""
        self.start("big-1", former_is_dead=False)
        process = self.processes["big-1"]
        for ms in (500, 8_000):
            for user, kind in zip(USERS, ("film", "image", "sketch", "poster"), strict=True):
                self.send(f"job-{len(self.model.jobs)}", user, kind, "first", "back")
                for _ in ("it claims the job", "it ends it"):
                    self.do(process, Shift(0, "done", ms, None, None, goes_on=False, hears=True))

    @precondition(lambda self: self.processes)
    @rule(pick=PICK, first=FIRST, then=THEN, ms=RUNS, begins_anew=st.sampled_from([None, *USERS]))
    def a_rush(self, pick: int, first: list[str], then: list[str], ms: list[int], begins_anew: str | None) -> None:
        """Several people want more than one worker can do, so that it passes over some of them.

        One of them may take all back meanwhile and ask again: they were passed over by nobody then.
        """
        process = self.pick(pick, list(self.processes.values()))
        self.submit([(user, kind, "back") for kinds in (first, then) for user, kind in zip(USERS, kinds, strict=False)])
        for n, each in enumerate(ms):
            if n == 2 and begins_anew:
                self.cancel_as(begins_anew, "queued", [])
                self.submit([(begins_anew, first[USERS.index(begins_anew)], "back")])
            self.do(process, Shift(0, "done", each, None, None, goes_on=True, hears=True))
            self.agree_on_everything()

    @precondition(lambda self: len(self.processes) > 1)
    @rule(
        pick=PICK,
        kind=st.sampled_from(["film", "image", "sketch"]),
        ms=WAITS,
        away=st.sampled_from(["", "drain", "lost"]),
    )
    def others_have_the_models(self, pick: int, kind: str, ms: list[int], away: str) -> None:
        """A worker has nothing to do but what others have the models for, one of whom may be away."""
        processes = list(self.processes.values())
        idle = self.pick(pick, processes)
        for process in processes:
            self.submit([(USERS[0], "image" if process is idle and kind != "image" else kind, "back")])
            for _ in ("it claims a job", "it ends it"):
                self.do(process, Shift(0, "done", 500, None, None, goes_on=False, hears=True))
        self.do(idle, Shift(0, "done", 500, None, None, goes_on=True, hears=True))
        other = next(process for process in processes if process is not idle)
        if away == "drain":
            self.drain(other.name, is_drained=True)
        elif away == "lost":
            self.end_presence(other.name)
        self.submit([(USERS[1], kind, "back")])
        for each in ms:
            self.store.let_pass(each)
            self.sweep()
            self.agree_on_everything()

    a_rush_2 = a_rush_3 = a_rush
    others_have_the_models_2 = others_have_the_models

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
            self.claim(process, None)
        if process.has is not None:
            self.end_lease(process.has.job.job_id)
        self.sweep()
        for other in [other for other in self.free() if other is not process]:
            self.claim(other, None)
        if speaks:
            self.beat(process)

    @precondition(lambda self: self.busy())
    @rule(pick=PICK)
    def a_running_job_is_cancelled(self, pick: int) -> None:
        """Its worker is told with the next renewal."""
        ticket = self.pick(pick, self.busy())
        self.cancel_as(ticket.job.user, "any", [ticket.job.job_id])
        self.beat(ticket.process)

    @precondition(lambda self: self.free())
    @rule(pick=PICK, user=st.sampled_from(USERS), other=st.sampled_from(USERS), paused=st.booleans())
    def a_job_comes_to_a_worker_that_may_not_have_it(self, pick: int, user: str, other: str, paused: bool) -> None:
        """It waits for one person's jobs, or in a pause. Nothing else is queued, so that a job might be handed over."""
        process = self.pick(pick, self.free())
        for each in USERS:
            self.cancel_as(each, "queued", [])
        self.reserve(process.name, user)
        self.claim(process, None)
        self.pause_or_resume(paused)
        self.submit([(other, "plain", "back")])
        self.pause_or_resume(False)
        self.reserve(process.name, None)

    @precondition(lambda self: self.busy())
    @rule(pick=PICK)
    def a_job_is_lost_again_and_again(self, pick: int) -> None:
        job_id = self.pick(pick, self.busy()).job.job_id
        for _ in range(MAXIMUM_LOSSES):
            self.end_lease(job_id)
            self.sweep()
            for ticket in [ticket for ticket in self.busy() if ticket.job.job_id == job_id]:
                self.beat(ticket.process)
            for process in self.free():
                self.claim(process, None)

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

    @rule(ms=st.sampled_from([SHORT_LOAD_MS, 10 * USUAL_MS, PATIENCE_MS, *(USUAL_AFFINITY_MS // n for n in (1, 2, 3))]))
    def time_passes(self, ms: int) -> None:
        """For everything that the scripts reckon with but the lives of leases and workers."""
        self.store.let_pass(ms)
