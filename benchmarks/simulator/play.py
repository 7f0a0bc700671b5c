"""Plays a workshop against the real scheduling scripts on a real store, with a clock that the simulation sets.

Only the clock is changed: the one function that asks the store for the time reads a key instead. All else, from the
submit to the end, is what a frontend and its workers run.
"""

from __future__ import annotations

import heapq
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import redis

from comfyume.benchmarks.simulator.workload import KINDS, Batch, Kind, Workshop
from comfyume.job_queue import events, scripts
from comfyume.job_queue.jobs import ClaimedJob, Policy, Submission
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


@dataclass
class Worker:
    """A simulated GPU."""

    name: str
    instance: str = "simulated"
    turn: int = 0
    loaded: str = ""
    swaps: int = 0
    busy: float = 0.0
    swapping: float = 0.0


@dataclass
class Outcome:
    """What came of it; seconds.

    Attributes:
        waits: of each person, from each submit to the begin of its run.
        ended: when the last prompt was done.
    """

    waits: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    workers: list[Worker] = field(default_factory=list)
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
class Prompt:
    """One prompt on its way.

    Attributes:
        in_turn: whether its person waits for it before they ask for more.
    """

    at: float
    user: str
    kind: Kind
    seconds: float
    in_turn: bool


class Simulation:
    """One workshop under one policy."""

    def __init__(self, client: redis.Redis, workshop: Workshop, policy: Policy, workers: int) -> None:
        self._client = client
        self._store = VirtualStore(client)
        self._workshop = workshop
        self._policy = replace(policy, per_person=None, in_all=None, per_minute=None)
        self._workers = {f"worker-{number + 1}": Worker(f"worker-{number + 1}") for number in range(workers)}
        self._idle: set[str] = set()
        self._prompts: dict[str, Prompt] = {}
        self._plans = {user: workshop.plan_of(user) for user in workshop.users()}
        self._awaited: Counter[str] = Counter()
        self._agenda: list[tuple[float, int, Callable[[float], None]]] = []
        self._count = 0
        self._sweep_planned = False
        self.outcome = Outcome(workers=list(self._workers.values()))

    def play(self) -> Outcome:
        """Run everything to its end."""
        try:
            self._open()
            for at, batch in self._workshop.floods():
                self._plan(at, partial(self._submit, self._workshop.users()[0], batch, in_turn=False))
            for user in self._plans:
                self._plan_next(0, user)
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

    def _plan_next(self, now: float, user: str) -> None:
        batch = next(self._plans[user])
        if now + batch.think < self._workshop.seconds:
            self._plan(now + batch.think, partial(self._submit, user, batch, in_turn=True))

    def _open(self) -> None:
        self._store.run(0, "configure", "set", *self._policy.arguments())
        capabilities = ["", "node:Sample", *(f"model:{kind.model.name}" for kind in KINDS)]
        self._client.sadd(self._store.keys.capabilities(CATALOGUE), *capabilities)
        for worker in self._workers.values():
            self._store.run(0, "register_worker", worker.name, worker.instance, LEASE_MS, "{}", CATALOGUE, "")
            worker.turn += 1
            who = [worker.name, worker.instance, uuid.uuid4().hex]
            self._store.run(0, "claim", *who, CATALOGUE, LEASE_MS, worker.turn, "")
            self._idle.add(worker.name)

    def _submit(self, user: str, batch: Batch, now: float, *, in_turn: bool) -> None:
        for seconds in batch.seconds:
            job_id = str(uuid.uuid4())
            self._prompts[job_id] = Prompt(now, user, batch.kind, seconds, in_turn)
            self._awaited[user] += in_turn
            submission = Submission(
                job_id=job_id,
                user=user,
                order="back",
                payload={"prompt": {}, "extra_data": {}, "outputs": []},
                secrets={},
                envelope={},
                brief={},
                client="",
                needs=frozenset({"node:Sample", f"model:{batch.kind.model.name}"}),
            )
            self._store.run(now, "submit", *submission.arguments())
            self._look_into_inboxes(now)

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
        prompt = self._prompts[job.job_id]
        self.outcome.waits[prompt.user].append(now - prompt.at)
        took = prompt.seconds
        if worker.loaded != prompt.kind.model.name:
            worker.loaded = prompt.kind.model.name
            worker.swaps += 1
            worker.swapping += prompt.kind.model.load
            took += prompt.kind.model.load
        worker.busy += prompt.seconds
        self._plan(now + took, partial(self._finish, worker, job))

    def _finish(self, worker: Worker, job: ClaimedJob, now: float) -> None:
        worker.turn += 1
        batch = events.encode(events.Batch(job.job_id, job.user, job.attempt, [], 0, "done"))
        following = [worker.instance, uuid.uuid4().hex, CATALOGUE, LEASE_MS, worker.turn]
        ending = [job.job_id, job.claim, "done", "{}", batch, *HISTORY, *following, batch, "", ""]
        reply = self._store.run(now, "finish", *ending)
        if reply[0] != b"ok":
            raise RuntimeError(f"the store did not take the end of a job: {reply}")
        self.outcome.ended = now
        if len(reply) > 1:
            self._begin(now, worker, ClaimedJob.from_fields(reply[1:]))
        else:
            self._idle.add(worker.name)
        prompt = self._prompts.pop(job.job_id)
        if prompt.in_turn:
            self._awaited[prompt.user] -= 1
            if self._awaited[prompt.user] == 0:
                self._plan_next(now, prompt.user)


def simulate(client: redis.Redis, workshop: Workshop, policy: Policy, workers: int) -> Outcome:
    """Play one workshop under one policy on this many workers."""
    return Simulation(client, workshop, policy, workers).play()
