"""Steps of frontends: submits, cancels, and what the instructor does to the queue."""

from __future__ import annotations

from collections.abc import Sequence

import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule

from comfyume.job_queue.jobs import Level, Policy, QueueMode, Submission

from . import checks
from .constants import USUAL_AFFINITY_MS
from .program import now
from .stage import PICK, Stage
from .things import KINDS, LEVELS, USERS, WORKERS

#: Which jobs; from 8 on one that has ended, or that was never there.
PICKS = st.lists(st.integers(0, 10), min_size=1, max_size=3)
ORDER = st.sampled_from(["back", "back", "back", "front", 0.5, 2.5])
WISH = st.tuples(st.sampled_from(USERS), st.sampled_from(sorted(KINDS)), ORDER)
MODES = st.sampled_from(["fifo", "round_robin", "fair"])
#: Of the usual time for which people may be passed over.
SHARE = st.sampled_from([1, 1, 1, 0.02, 0])


class FrontendSteps(Stage):
    """Anybody may ask for anything at any time."""

    def pick_jobs(self, picks: Sequence[int]) -> list[str]:
        live = [job.job_id for job in self.model.jobs.values() if not job.is_over]
        others = ["unknown", *(job.job_id for job in self.model.jobs.values() if job.is_over)]
        return [self.pick(pick, others if pick >= 8 or not live else live) for pick in picks]

    @rule(wishes=st.lists(WISH, min_size=1, max_size=5))
    def submit(self, wishes: list[tuple[str, str, str | float]]) -> None:
        for user, kind, order in wishes:
            # No two people have one number: who of them goes first is the store's business.
            number = order if isinstance(order, str) else order + USERS.index(user) / 100
            self.send(f"job-{len(self.model.jobs)}", user, kind, "first", number)
            self.agree_on_everything()

    @precondition(lambda self: self.model.jobs)
    @rule(pick=PICK, body=st.sampled_from(["first", "other"]), order=ORDER)
    def submit_again(self, pick: int, body: str, order: str | float) -> None:
        job = self.pick(pick, list(self.model.jobs.values()))
        before = self.store.picture().held
        self.send(job.job_id, job.user, job.kind, body, order)
        assert self.store.picture().held == before, "a submit under a known id changed something"

    def send(self, job_id: str, user: str, kind: str, body: str, order: str | float) -> None:
        submission = Submission(
            job_id=job_id,
            user=user,
            order=order,  # type: ignore[arg-type]
            payload={"prompt": {kind: body}, "extra_data": {}, "outputs": []},
            secrets=b"s3cret",
            envelope={"files": []},
            brief={},
            client="tab",
            needs=KINDS[kind].needs,
            memory=KINDS[kind].memory,
        )
        reply = self.answer(self.queue, self.queue.submit(submission))
        word = reply[0].decode()
        found = word if len(reply) == 1 else (word, float(reply[1]))
        self.agree("submit", found, self.model.submit(job_id, user, kind, body, order))

    @rule(picks=PICKS, which=st.sampled_from(["any", "any", "queued", "running"]), by=st.sampled_from([None, *USERS]))
    def cancel(self, picks: list[int], which: str, by: str | None) -> None:
        job_ids = self.pick_jobs(picks)
        owner = self.model.jobs[job_ids[0]].user if job_ids[0] in self.model.jobs else USERS[0]
        self.cancel_as(by or owner, which, job_ids)

    @rule(user=st.sampled_from(USERS), which=st.sampled_from(["any", "queued", "running"]))
    def cancel_all(self, user: str, which: str) -> None:
        self.cancel_as(user, which, [])

    def cancel_as(self, user: str, which: str, job_ids: list[str]) -> None:
        found = now(self.queue._cancel(user, which, job_ids))
        self.see()
        self.agree("cancel", found, self.model.cancel(user, which, job_ids))

    @rule(picks=PICKS, level=st.sampled_from(LEVELS))
    def set_level(self, picks: list[int], level: Level) -> None:
        job_ids = self.pick_jobs(picks)
        found = now(self.queue.set_level(job_ids, level))
        self.see()
        self.agree("level", found, self.model.set_level(level, job_ids))

    @rule(picks=PICKS)
    def hold(self, picks: list[int]) -> None:
        job_ids = self.pick_jobs(picks)
        found = now(self.queue.hold(job_ids))
        self.see()
        self.agree("hold", found, self.model.hold(job_ids))

    @rule(picks=PICKS)
    def release(self, picks: list[int]) -> None:
        held = [job.job_id for job in self.model.jobs.values() if job.is_held and not job.is_over]
        job_ids = self.pick_jobs(picks) + held[:1]
        found = now(self.queue.release(job_ids))
        self.see()
        self.agree("release", found, self.model.release(job_ids))

    @rule(paused=st.sampled_from([False, False, False, False, False, True]))
    def pause_or_resume(self, paused: bool) -> None:
        policy = Policy(self.model.policy.mode, paused, affinity=self.model.policy.affinity_ms / 1000)
        self.agree("pause", self.answer(self.queue, self.queue.configure(policy)), b"ok")
        self.model.configure(paused=paused)

    @rule(mode=MODES)
    def set_mode(self, mode: QueueMode) -> None:
        self.agree("mode", self.answer(self.queue, self.queue.set_mode(mode)), b"ok")
        self.model.configure(mode=mode)

    @rule(share=SHARE)
    def set_affinity(self, share: float) -> None:
        policy = Policy(self.model.policy.mode, self.model.policy.is_paused, affinity=share * USUAL_AFFINITY_MS / 1000)
        self.agree("affinity", self.answer(self.queue, self.queue.configure(policy)), b"ok")
        self.model.configure(affinity_ms=int(policy.affinity * 1000))

    @rule(worker=st.sampled_from(sorted(WORKERS)), user=st.sampled_from([None, *USERS]))
    def reserve(self, worker: str, user: str | None) -> None:
        self.agree("reserve", self.answer(self.queue, self.queue.reserve(worker, user)), b"ok")
        self.model.reserve(worker, user)

    @rule(worker=st.sampled_from(sorted(WORKERS)), is_drained=st.sampled_from([False, False, True]))
    def drain(self, worker: str, is_drained: bool) -> None:
        found = now(self.queue.drain(worker, is_drained=is_drained))
        self.see()
        self.agree("drain", found, self.model.drain(worker, is_drained=is_drained))

    @rule()
    def sweep(self) -> None:
        if self.model.sweeps == "lately":
            # However long the steps took: one sweeps every second.
            self.store.set_last_sweep(0.5)
        requeued, quarantined = map(set, now(self.queue.sweep()))
        self.see()
        attempts = sum(job.attempt for job in self.model.jobs.values())
        expected = self.model.sweep()
        if attempts == sum(job.attempt for job in self.model.jobs.values()):
            checks.nobody_waits_beside_work(self.model, self.store.picture())
        self.tally["requeued"] += len(expected[0])
        self.tally["quarantined"] += len(expected[1])
        self.agree("sweep in grace" if self.model.is_grace else "sweep", (requeued, quarantined), expected)
