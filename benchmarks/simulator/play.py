"""Plays a workshop against the real scheduling scripts on a real store, with a clock that the simulation sets.

Only the clock is changed: the one function that asks the store for the time reads a key instead. All else, from the
submit to the end, is what a frontend and its workers run.
"""

from __future__ import annotations

import heapq
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import redis

from comfyume.benchmarks.simulator.recording import Prompt
from comfyume.job_queue import events, scripts
from comfyume.job_queue.jobs import ClaimedJob, MemoryNeed, Policy, Submission
from comfyume.job_queue.keys import Keys

REAL_CLOCK = "local time = redis.call('TIME')\n    asked_at = time[1] * 1000000 + time[2]"
VIRTUAL_CLOCK = "asked_at = tonumber(redis.call('GET', key('clock')))"
#: The simulation's first moment, in seconds: the scripts do not expect the year 1970.
BEGIN = 1_800_000_000.0
#: Longer than any simulation runs in real time: nobody is lost here.
LEASE_MS = 10**9
CATALOGUE = "all"
HISTORY = [10, 10**12]
MAXIMUM_LOSSES = 3


class VirtualStore:
    """The scripts of a workshop on a real store, run at a time of the caller's choice."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.keys = Keys(f"simulation-{uuid.uuid4().hex[:8]}")
        self._scripts: dict[str, redis.commands.core.Script] = {}

    def run(self, now: float, name: str, *arguments: object) -> list[bytes]:
        """Run a script of ``job_queue/lua`` at this second of the simulation."""
        if name not in self._scripts:
            text = scripts.source(name)
            if text.count(REAL_CLOCK) != 1:
                raise RuntimeError(f"{name}.lua asks for the time in another way than the simulation expects")
            self._scripts[name] = self._client.register_script(text.replace(REAL_CLOCK, VIRTUAL_CLOCK))
        self._client.set(f"{self.keys.prefix}clock", int((BEGIN + now) * 1_000_000))
        reply: list[bytes] = self._scripts[name](keys=[self.keys.prefix], args=list(arguments))
        return reply

    def handed_over(self, worker: str) -> bytes | None:
        """The job that was put into the inbox of a worker that waits."""
        item: bytes | None = self._client.lpop(self.keys.inbox(worker))
        return item

    def queued(self) -> int:
        """How many jobs wait."""
        count: int = self._client.zcard(f"{self.keys.prefix}queued")
        return count

    def clear(self) -> None:
        """Leave nothing behind."""
        for key in self._client.scan_iter(f"{self.keys.prefix}*", count=1000):
            self._client.unlink(key)


class People(Protocol):
    """Who asks for prompts: a generated crowd, or a recording."""

    def begin(self) -> Iterable[Prompt]:
        """What they ask for in any case."""

    def after(self, ended: Prompt, now: float) -> Iterable[Prompt]:
        """What else they ask for because this prompt of theirs has ended now."""


@dataclass
class Worker:
    """A simulated GPU."""

    name: str
    instance: str = "simulated"
    turn: int = 0
    loaded: tuple[str, ...] = ()
    swaps: int = 0
    busy: float = 0.0


@dataclass
class Outcome:
    """What came of it; seconds.

    Attributes:
        waits: of each person, from each submit to the begin of its run, or until it was cancelled before that.
        asked: every prompt, in the order of their submits.
        ended: when the last prompt was done.
    """

    waits: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    workers: list[Worker] = field(default_factory=list)
    asked: list[Prompt] = field(default_factory=list)
    ended: float = 0.0

    @property
    def swaps(self) -> int:
        """How often a GPU loaded another model."""
        return sum(worker.swaps for worker in self.workers)

    @property
    def use(self) -> float:
        """The share of the time for which the GPUs ran prompts, loading not counted."""
        return sum(worker.busy for worker in self.workers) / (len(self.workers) * self.ended)


@dataclass(frozen=True)
class Run:
    """A prompt that a worker has begun, and when its models were loaded."""

    worker: Worker
    job: ClaimedJob
    prompt: Prompt
    loaded: float


class Simulation:
    """One workshop under one policy."""

    def __init__(self, client: redis.Redis, people: People, policy: Policy, workers: int) -> None:
        self._client = client
        self._store = VirtualStore(client)
        self._people = people
        self._policy = replace(policy, per_person=None, in_all=None, per_minute=None)
        self._workers = {f"worker-{number + 1}": Worker(f"worker-{number + 1}") for number in range(workers)}
        self._idle: set[str] = set()
        self._queued: dict[str, Prompt] = {}
        self._running: dict[str, Run] = {}
        self._known: set[str] = set()
        self._agenda: list[tuple[float, int, Callable[[float], None]]] = []
        self._count = 0
        self._sweep_planned = False
        self.outcome = Outcome(workers=list(self._workers.values()))

    def play(self) -> Outcome:
        """Run everything to its end."""
        try:
            self._open()
            self._expect(self._people.begin())
            while self._agenda:
                at, _, act = heapq.heappop(self._agenda)
                act(at)
                self._plan_sweep(at)
        finally:
            self._store.clear()
        return self.outcome

    def _plan(self, at: float, act: Callable[[float], None]) -> None:
        self._count += 1
        heapq.heappush(self._agenda, (at, self._count, act))

    def _expect(self, prompts: Iterable[Prompt]) -> None:
        for prompt in prompts:
            self._plan(prompt.at, partial(self._submit, prompt))

    def _open(self) -> None:
        self._store.run(0, "configure", "set", *self._policy.arguments())
        self._client.sadd(self._store.keys.capabilities(CATALOGUE), "")
        for worker in self._workers.values():
            self._store.run(0, "register_worker", worker.name, worker.instance, LEASE_MS, "{}", CATALOGUE, "")
            worker.turn += 1
            who = [worker.name, worker.instance, uuid.uuid4().hex]
            self._store.run(0, "claim", *who, CATALOGUE, LEASE_MS, worker.turn, "")
            self._idle.add(worker.name)

    def _submit(self, prompt: Prompt, now: float) -> None:
        job_id = str(uuid.uuid4())
        needs = frozenset({f"node:{prompt.kind}", *(f"model:{model}" for model in prompt.models)})
        if not needs <= self._known:
            # Every worker can run everything.
            self._client.sadd(self._store.keys.capabilities(CATALOGUE), *needs)
            self._known |= needs
        submission = Submission(
            job_id=job_id,
            user=prompt.user,
            order="back",
            payload={"prompt": {}, "extra_data": {}, "outputs": []},
            secrets=b"",
            envelope={},
            brief={},
            client="",
            needs=needs,
            memory=MemoryNeed(sizes=prompt.sizes),
        )
        self.outcome.asked.append(prompt)
        self._queued[job_id] = prompt
        self._store.run(now, "submit", *submission.arguments())
        self._look_into_inboxes(now)
        if prompt.cancelled is not None:
            self._plan(max(now, prompt.cancelled), partial(self._cancel, prompt.user, job_id))

    def _cancel(self, user: str, job_id: str, now: float) -> None:
        self._store.run(now, "cancel", user, "any", job_id)
        if job_id in self._running:
            self._finish(job_id, now, state="cancelled")
        elif job_id in self._queued:
            prompt = self._queued.pop(job_id)
            self.outcome.waits[user].append(now - prompt.at)
            self._expect(self._people.after(prompt, now))

    def _look_into_inboxes(self, now: float) -> None:
        for name in sorted(self._idle):
            item = self._store.handed_over(name)
            if item:
                self._idle.discard(name)
                self._begin(now, self._workers[name], ClaimedJob.from_inbox(item))

    def _plan_sweep(self, now: float) -> None:
        # Frontends sweep every second; it changes something only while jobs and workers wait for one another.
        if self._idle and not self._sweep_planned and self._store.queued():
            self._sweep_planned = True
            self._plan(now + 1, self._sweep)

    def _sweep(self, now: float) -> None:
        self._sweep_planned = False
        self._store.run(now, "sweep", MAXIMUM_LOSSES, *HISTORY, LEASE_MS)
        self._look_into_inboxes(now)

    def _begin(self, now: float, worker: Worker, job: ClaimedJob) -> None:
        prompt = self._queued.pop(job.job_id)
        self.outcome.waits[prompt.user].append(now - prompt.at)
        loaded = now
        if prompt.models and worker.loaded != prompt.models:
            worker.loaded = prompt.models
            worker.swaps += 1
            loaded += prompt.load
        self._running[job.job_id] = Run(worker, job, prompt, loaded)
        self._plan(loaded + prompt.runs, partial(self._finish, job.job_id))

    def _finish(self, job_id: str, now: float, state: str = "done") -> None:
        run = self._running.pop(job_id, None)
        if run is None:
            # It was cancelled before.
            return
        worker, job = run.worker, run.job
        worker.busy += max(now - run.loaded, 0)
        worker.turn += 1
        batch = events.encode(events.Batch(job.job_id, job.user, job.attempt, [], 0, state))
        following = [worker.instance, uuid.uuid4().hex, CATALOGUE, LEASE_MS, worker.turn]
        ending = [job.job_id, job.claim, state, "{}", batch, *HISTORY, *following, batch, "", ""]
        reply = self._store.run(now, "finish", *ending)
        if reply[0] != b"ok":
            raise RuntimeError(f"the store did not take the end of a job: {reply}")
        self.outcome.ended = now
        if len(reply) > 1:
            self._begin(now, worker, ClaimedJob.from_fields(reply[1:]))
        else:
            self._idle.add(worker.name)
        self._expect(self._people.after(run.prompt, now))


def simulate(client: redis.Redis, people: People, policy: Policy, workers: int) -> Outcome:
    """Play what these people ask for under one policy on this many workers."""
    return Simulation(client, people, policy, workers).play()
