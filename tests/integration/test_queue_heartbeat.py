"""The heartbeat, run as the process that it is: it keeps leases while the worker's interpreter is held."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from comfyume.job_queue.jobs import ClaimedJob
from comfyume.tests.harness.package import ROOT
from comfyume.tests.harness.processes import RedisServer
from comfyume.tests.harness.room import ADA, Room, Worker, until
from comfyume.worker_mode.heartbeat_process import HeartbeatProcess, Limits
from comfyume.worker_mode.watched_job import WatchedJob

pytestmark = pytest.mark.integration

LIMITS = Limits(1800, [1000, 86_400_000])
SCRIPT = ROOT / "worker_mode" / "heartbeat.py"


@pytest.fixture
def durable_store(short_folder: Path) -> Iterator[RedisServer]:
    with RedisServer(short_folder / uuid.uuid4().hex[:8], port=None) as server:
        yield server


class Heartbeat:
    """The script, with its standard input and the job that it watches in the test's hand."""

    def __init__(self, worker: Worker, folder: Path) -> None:
        who = worker.identity
        self.watched = WatchedJob(folder / "watched", create=True)
        self.lines: queue.Queue[str] = queue.Queue()
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        configuration = {
            "watched": str(folder / "watched"),
            "url": worker.room.url,
            "workshop": worker.room.keys.workshop,
            "worker": who.name,
            "instance": who.instance,
            "lease_ms": who.lease_ms,
            "interval": 0.1,
            "job_timeout": 1800,
            "history": [1000, 86_400_000],
            "process": {"pid": os.getpid(), "command": [], "streams": []},
        }
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(configuration) + "\n")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            if line.strip() != "ready":
                self.lines.put(line.strip())

    def watch(self, job: ClaimedJob) -> None:
        self.watched.write(job.job_id, job.claim)

    async def says(self, timeout: float = 10.0) -> str:
        return await asyncio.to_thread(self.lines.get, True, timeout)

    def __enter__(self) -> Heartbeat:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


async def renewing(room: Room, worker: Worker) -> None:
    """Wait until a beat has come: what was left of the presence is more again."""
    room.raw.pexpire(room.keys.presence(worker.name), 60_000)
    await until(lambda: 0 < room.raw.pttl(room.keys.presence(worker.name)) <= worker.identity.lease_ms, timeout=20)


async def test_a_lease_of_one_second_outlives_an_interpreter_that_is_held_for_five(room: Room, tmp_path: Path) -> None:
    worker = await room.worker(lease=30)
    await room.submit()
    job = await worker.take()
    holder = hold_interpreter(worker, job, tmp_path)
    try:
        assert holder.stdout is not None
        assert await asyncio.to_thread(holder.stdout.readline) == "beating\n"
        await renewing_of_lease(room, job)
        began = time.monotonic()
        while await asyncio.to_thread(holder.poll) is None and time.monotonic() - began < 20:
            assert room.raw.pttl(room.key("lease", job.job_id)) > 0
            assert await room.queue.sweep() == ([], [])
            await asyncio.sleep(0.1)
        assert time.monotonic() - began > 4, "the interpreter was not held"
        assert await asyncio.to_thread(holder.stdout.read) == "held\n"
    finally:
        holder.kill()
        holder.wait()
        assert holder.stdout is not None
        holder.stdout.close()
    # Its standard input ended with the worker, and the lease with it.
    await until(lambda: not room.raw.exists(room.key("lease", job.job_id)))
    assert await room.queue.sweep() == ([job.job_id], [])


def hold_interpreter(worker: Worker, job: ClaimedJob, folder: Path) -> subprocess.Popen[str]:
    """Start a worker's process with a heartbeat for a job, which then holds its interpreter."""
    who, room = worker.identity, worker.room
    arguments = [str(ROOT), room.url, room.keys.workshop, who.name, who.instance, job.job_id, job.claim, str(folder)]
    return subprocess.Popen([sys.executable, "-c", HOLDER, *arguments], stdout=subprocess.PIPE, text=True)


async def renewing_of_lease(room: Room, job: ClaimedJob) -> None:
    await until(lambda: 0 < room.raw.pttl(room.key("lease", job.job_id)) <= 1000, timeout=20)


#: A worker process whose only thread holds the GIL for five seconds, as a node does: PyDLL calls do not release it.
HOLDER = """
import ctypes, runpy, sys, time
from pathlib import Path
root, url, workshop, name, instance, job, claim, folder = sys.argv[1:]
runpy.run_path(root + "/tests/harness/package.py")["register"]()
from comfyume.job_queue.keys import Keys
from comfyume.job_queue.worker_queue import WorkerIdentity
from comfyume.worker_mode.heartbeat_process import HeartbeatProcess, Limits
limits = Limits(60, [1, 1])
who = WorkerIdentity(name, instance, 1.0)
heartbeat = HeartbeatProcess(url, Keys(workshop), who, Path(folder), lambda *words: None, limits)
heartbeat.watch(job, claim)
heartbeat.start()
while heartbeat._process is None:
    time.sleep(0.01)
time.sleep(2)
print("beating", flush=True)
ctypes.PyDLL(None).sleep(5)
print("held", flush=True)
"""


async def test_the_heartbeat_tells_of_a_cancelled_job(room: Room, tmp_path: Path) -> None:
    worker = await room.worker(lease=30)
    job_id = await room.submit()
    job = await worker.take()
    with Heartbeat(worker, tmp_path) as heartbeat:
        heartbeat.watch(job)
        await room.queue.cancel(ADA, [job_id])
        assert await heartbeat.says() == f"cancel {job_id} {job.claim}"


async def test_the_heartbeat_tells_of_a_lost_job(room: Room, tmp_path: Path) -> None:
    worker = await room.worker(lease=30)
    job_id = await room.submit()
    job = await worker.take()
    await room.let_lease_run_out(job_id)
    await room.queue.sweep()
    with Heartbeat(worker, tmp_path) as heartbeat:
        heartbeat.watch(job)
        assert await heartbeat.says() == f"lost {job_id} {job.claim}"


async def test_the_heartbeat_tells_that_the_store_does_not_know_the_worker(room: Room, tmp_path: Path) -> None:
    worker = await room.worker(lease=30)
    with Heartbeat(worker, tmp_path) as heartbeat:
        await renewing(room, worker)
        await worker.reports.leave()
        assert await heartbeat.says() == "unknown"
        await worker.register()
        await renewing(room, worker)


async def test_the_heartbeat_keeps_an_idle_worker_present_and_says_nothing(room: Room, tmp_path: Path) -> None:
    worker = await room.worker(lease=2)
    with Heartbeat(worker, tmp_path) as heartbeat:
        for _ in range(3):
            await renewing(room, worker)
        assert heartbeat.lines.empty()


async def test_the_heartbeat_goes_on_to_the_next_job(room: Room, tmp_path: Path) -> None:
    worker = await room.worker(lease=2)
    with Heartbeat(worker, tmp_path) as heartbeat:
        await renewing(room, worker)
        for _ in range(2):
            job_id = await room.submit()
            job = await worker.take()
            heartbeat.watch(job)
            room.raw.pexpire(room.key("lease", job_id), 60_000)
            await until(lambda job_id=job_id: room.raw.pttl(room.key("lease", job_id)) <= 2_000)
            await worker.finish(job)
        heartbeat.watched.write("", "")
        await renewing(room, worker)


async def test_the_heartbeat_ends_when_its_input_does(room: Room, tmp_path: Path) -> None:
    worker = await room.worker(lease=30)
    with Heartbeat(worker, tmp_path) as heartbeat:
        await renewing(room, worker)
        assert heartbeat.process.stdin is not None
        heartbeat.process.stdin.close()
        assert await asyncio.to_thread(heartbeat.process.wait, 5) == 0


async def test_the_heartbeat_goes_on_when_the_store_comes_back(durable_store: RedisServer, tmp_path: Path) -> None:
    async with Room(durable_store.url, "w") as room:
        worker = await room.worker(lease=60)
        await room.submit()
        job = await worker.take()
        with Heartbeat(worker, tmp_path) as heartbeat:
            heartbeat.watch(job)
            await renewing(room, worker)
            durable_store.kill()
            await asyncio.sleep(1)
            assert heartbeat.process.poll() is None
            durable_store.start()
            room.raw.pexpire(room.key("lease", job.job_id), 600_000)
            await until(lambda: room.raw.pttl(room.key("lease", job.job_id)) <= 60_000)
            assert await heartbeat.says() == "back"
            assert heartbeat.lines.empty()


async def test_a_heartbeat_that_dies_is_started_again_and_told_its_job(room: Room, tmp_path: Path) -> None:
    worker = await room.worker(lease=2)
    job_id = await room.submit()
    job = await worker.take()
    room.raw.pexpire(room.key("lease", job_id), 600_000)
    heard: queue.Queue[tuple[str, str, str]] = queue.Queue()
    heartbeat = HeartbeatProcess(
        room.url, room.keys, worker.identity, tmp_path, lambda *words: heard.put(words), LIMITS
    )
    heartbeat.watch(job_id, job.claim)
    heartbeat.start()
    try:
        await renewing(room, worker)
        killed = heartbeat._process
        assert killed is not None
        os.kill(killed.pid, 9)
        room.raw.pexpire(room.key("lease", job_id), 600_000)
        await until(lambda: room.raw.pttl(room.key("lease", job_id)) <= 2_000, timeout=20)
        words = [heard.get_nowait()[0] for _ in range(heard.qsize())]
        assert set(words) == {"ready"}
    finally:
        heartbeat.stop()
        last = heartbeat._process
        assert last is not None
        await asyncio.to_thread(last.wait)
        for process in {killed, last}:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
