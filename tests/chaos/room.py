"""A workshop to break: a store of its own, real worker processes, and a frontend's part of the work.

The frontend is what ``server_routes`` makes of the queue: submits, sweeps, and a listener on the
channel of events. What the workers and the listener see is noted in the record.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from comfyume.blobs.delivery_notes import DeliveryNotes
from comfyume.job_queue.connection import connect_async, connect_listening, store_errors
from comfyume.job_queue.errors import QueueError
from comfyume.job_queue.events import Batch, Notice, decode
from comfyume.job_queue.frontend_queue import FrontendQueue
from comfyume.job_queue.jobs import Submission
from comfyume.job_queue.keys import Keys
from comfyume.server_routes.job_signatures import JobSignatures
from comfyume.server_routes.lost_files import LostFiles
from comfyume.shared_folder import NOTES, read_mark
from comfyume.tests.harness.processes import RedisServer
from comfyume.tests.harness.script_engine import NODE, Script, content

from .fleet import Fleet
from .record import Record

LEASE = 2.0
#: Finished jobs that are kept for each person: all, or they would count as lost.
HISTORY = 1_000_000
FINAL = ("done", "error", "cancelled", "quarantined")
USER = "ada"


class TooLate(Exception):
    """Something that was waited for did not come; the trials cannot go on."""


class Room:
    """One store with its workers and a frontend. Used as an asynchronous context.

    Args:
        folder: short, since the store's socket lies in it.
        gate: each worker that is started goes through it.
        patience: seconds to wait for jobs that should end.
        port: 0 for a store on TCP, None for one on a socket.
        worker_url: where workers find the store, if not where the frontend does.
        options: further settings of the store.
    """

    def __init__(
        self,
        folder: Path,
        record: Record,
        random: Random,
        *,
        gate: asyncio.Semaphore,
        patience: float = 60.0,
        port: int | None = None,
        worker_url: str = "",
        options: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.record = record
        self.random = random
        self.patience = patience
        self._gate = gate
        self.keys = Keys("chaos")
        self.store = RedisServer(folder / "s", port=port, options=options)
        self.shared = folder / "shared"
        self.runs = folder / "runs.jsonl"
        self._read_runs = 0
        self._worker_url = worker_url
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Room:
        self.store.start()
        mark = read_mark(self.shared)
        self.client = connect_async(self.store.url)
        self.listening = connect_listening(self.store.url)
        self.raw: Any = connect_async(self.store.url, timeout=30.0)
        self.queue = FrontendQueue(self.client, self.keys, history_size=HISTORY, history_days=1.0, lease=LEASE)
        self.signatures = JobSignatures(self.client, self.keys)
        self.notes = DeliveryNotes(self.shared / NOTES / self.keys.workshop)
        self.lost_files = LostFiles(self.queue, self.notes, lambda _, kind: self.shared / kind)
        self._envelope = {"shared": {"mark": mark, "folders": {kind: kind for kind in ("input", "output", "temp")}}}
        environment = {
            "COMFYUME_MODE": "worker",
            "COMFYUME_REDIS_URL": self._worker_url or self.store.url,
            "COMFYUME_WORKSHOP": self.keys.workshop,
            "COMFYUME_LEASE": f"{LEASE:g}",
            "COMFYUME_HISTORY_SIZE": str(HISTORY),
            "COMFYUME_SHARED_FOLDER": str(self.shared),
        }
        self.fleet = Fleet(self.folder, environment, self.record)
        self._tasks = [
            asyncio.create_task(self._sweep_for_ever(), name="chaos-sweep"),
            asyncio.create_task(self._listen_for_ever(), name="chaos-listen"),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.fleet.close()
        for client in (self.client, self.listening, self.raw):
            await client.aclose()
        self.store.kill()

    # The frontend's part.

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self.queue.sweep_pause)
            try:
                requeued, quarantined = await self.queue.sweep()
                await self.lost_files.look()
            except QueueError as error:
                self.record.note("no sweep", error=str(error))
                continue
            for job in requeued:
                self.record.note("requeued", job=job)
            for job in quarantined:
                self.record.note("quarantined", job=job)

    async def _listen_for_ever(self) -> None:
        while True:
            try:
                with store_errors():
                    async with self.listening.pubsub(ignore_subscribe_messages=True) as subscription:
                        await subscription.subscribe(self.keys.events_channel)
                        async for message in subscription.listen():
                            self._hear(decode(message["data"]))
            except QueueError as error:
                self.record.note("not listening", error=str(error))
                await asyncio.sleep(0.2)

    def _hear(self, message: Batch | Notice) -> None:
        if isinstance(message, Batch):
            names = [event.name for event in message.events]
            self.record.note("batch", job=message.job_id, attempt=message.attempt, ends=message.ends, names=names)
        elif message.kind == "lost":
            self.record.note("lost", job=message.data["lost"]["job"], ends=message.data["lost"]["state"])

    async def submit(self, script: Script | None = None, *, user: str = USER, job: str = "", **changes: Any) -> str:
        """Queue a job and note whether the store has taken it."""
        asked = self.submission(script, user=user, job=job, **changes)
        files = Script.of(asked.payload["prompt"]).files
        with self.record.operation("submit", job=asked.job_id, user=user, files=files):
            signature = await self.signatures.of(asked.job_id, asked.user, asked.envelope["files"])
            await self.queue.submit(replace(asked, envelope={**asked.envelope, "signature": signature}))
        return asked.job_id

    def submission(
        self, script: Script | None = None, *, user: str = USER, job: str = "", **changes: Any
    ) -> Submission:
        """What is asked of the queue for a script."""
        extra_data = {"client_id": f"tab-{user}", "create_time": 1}
        fields: dict[str, Any] = {
            "job_id": job or uuid.UUID(int=self.random.getrandbits(128)).hex,
            "user": user,
            "order": "back",
            "payload": {"prompt": (script or Script()).graph(), "extra_data": extra_data, "outputs": ["1"]},
            "secrets": b"",
            "envelope": {"files": [], "features": {}, **self._envelope},
            "brief": {"extra_data": {"create_time": 1}},
            "client": f"tab-{user}",
            "needs": frozenset({f"node:{NODE}"}),
        }
        return Submission(**{**fields, **changes})

    async def cancel(self, job: str, user: str = USER) -> bool:
        """Cancel a job; whether the store has taken it as that."""
        with self.record.operation("cancel", job=job) as data:
            data["taken"] = bool(await self.queue.cancel(user, [job]))
        return bool(data["taken"])

    # Looking.

    async def field(self, job: str, name: str) -> str:
        """A field of a job; empty for none."""
        value: bytes = await self.raw.hget(self.keys.job(job), name) or b""
        return value.decode()

    async def state(self, job: str) -> str:
        """The state of a job; empty for one that is not there."""
        return await self.field(job, "state")

    async def states(self, jobs: Sequence[str]) -> list[str]:
        """The states of some jobs."""
        pipeline = self.raw.pipeline(transaction=False)
        for job in jobs:
            pipeline.hget(self.keys.job(job), "state")
        return [state.decode() if state is not None else "" for state in (await pipeline.execute() if jobs else [])]

    async def running(self) -> list[str]:
        """The jobs that a worker has."""
        return [job.decode() for job in await self.raw.smembers(f"{self.keys.prefix}running")]

    async def live_names(self) -> set[str]:
        """The workers whose heartbeat the store has heard within the lease."""
        names = [name.decode() for name in await self.raw.smembers(self.keys.workers)]
        return {name for name in names if await self.raw.exists(self.keys.presence(name))}

    async def add_workers(self, count: int, timeout: float = 60.0) -> None:
        """Start workers and wait until the store knows them, at most ``timeout`` seconds for each."""
        await asyncio.gather(*(self._add_worker(timeout) for _ in range(count)))

    async def _add_worker(self, timeout: float) -> None:
        async with self._gate:
            name = self.fleet.add().name

            async def is_known() -> bool:
                return bool(await self.raw.exists(self.keys.presence(name)))

            await self.until(is_known, timeout, f"worker {name} did not come")

    async def until(
        self, condition: Callable[[], Awaitable[Any]], timeout: float = 30.0, complaint: str = "it did not come"
    ) -> bool:
        """Wait until a condition holds.

        Raises:
            TooLate: with the complaint, when it does not in time.
        """
        if not await self.comes(condition, timeout):
            raise TooLate(f"{complaint} within {timeout:g} s")
        return True

    async def comes(self, condition: Callable[[], Awaitable[Any]], timeout: float, pause: float = 0.02) -> bool:
        """Whether a condition comes to hold in time."""
        deadline = time.monotonic() + timeout
        while not await condition():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(pause)
        return True

    async def in_state(self, job: str, *states: str, timeout: float | None = None) -> bool:
        """Whether a job comes into one of these states in time."""

        async def is_there() -> bool:
            return await self.state(job) in states

        return await self.comes(is_there, timeout or self.patience)

    async def all_ended(self, jobs: Sequence[str], timeout: float | None = None) -> bool:
        """Whether all these jobs come to an end, one of them at least in each ``timeout`` seconds."""
        left, last = list(jobs), time.monotonic()
        while left:
            states = await self.states(left)
            waiting = [job for job, state in zip(left, states, strict=True) if state not in (*FINAL, "")]
            now = time.monotonic()
            if len(waiting) < len(left):
                last = now
            elif now > last + (timeout or self.patience):
                return False
            left = waiting
            # To look at thousands takes time from the workers.
            await asyncio.sleep(max(0.1, len(left) / 2_000))
        return True

    def read_runs(self) -> None:
        """Take over what the workers have written about their runs since the last look."""
        if not self.runs.exists():
            return
        with self.runs.open("rb") as file:
            file.seek(self._read_runs)
            for line in file:
                if line.endswith(b"\n"):
                    self._read_runs += len(line)
                    run = json.loads(line)
                    self.record.seen(f"run {run.pop('what')}", run.pop("at"), run.pop("job"), **run)

    async def take_stock(self) -> None:
        """Note how each job that was submitted stands, and each file that lies at the people's."""
        self.read_runs()
        jobs = sorted({entry.job for entry in self.record.history.of("submit")})
        names = ("state", "attempt", "lost", "claim", "result", "user")
        for job in jobs:
            values = [value.decode() if value else "" for value in await self.raw.hmget(self.keys.job(job), names)]
            fields = dict(zip(names, values, strict=True))
            listed = await self.raw.zscore(self.keys.history(fields["user"]), job) is not None
            result = json.loads(fields.pop("result") or "{}")
            self.record.note("final", job=job, **fields, listed=listed, result=result)
        await asyncio.to_thread(self._take_stock_of_files)

    def _take_stock_of_files(self) -> None:
        output = self.shared / "output"
        for path in sorted(output.rglob("*")) if output.exists() else []:
            job, claim, is_right = read_file(path)
            self.record.note("file", job=job, name=path.name, claim=claim, right=is_right)


def read_file(path: Path) -> tuple[str, str, bool]:
    """The job and the claim that a file says it is of, and whether it is whole; empty strings when it says nothing."""
    found = path.read_bytes()
    try:
        head = json.loads(found.partition(b"\n")[0])
        job, claim = head["job"], head["claim"]
        return job, claim, found == content(job, claim, head["index"], head["bytes"])
    except (ValueError, KeyError, TypeError):
        return "", "", False
