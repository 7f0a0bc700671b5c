"""What the store costs: claims per second, the price of a long queue, and memory for each queued job.

    python benchmarks/store.py [--program valkey-server] [--fsync everysec] [--save FILE]

One store and one client on one machine; the figures bound what any number of workers can get from it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import runpy
import statistics
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

ROOT = Path(__file__).resolve().parent.parent


runpy.run_path(str(ROOT / "tests" / "harness" / "package.py"))["register"]()

from comfyume.job_queue.connection import connect, connect_async  # noqa: E402
from comfyume.job_queue.events import Batch, Event, encode  # noqa: E402
from comfyume.job_queue.frontend_queue import FrontendQueue  # noqa: E402
from comfyume.job_queue.jobs import Submission, encode_json  # noqa: E402
from comfyume.job_queue.keys import Keys  # noqa: E402
from comfyume.job_queue.scripts import Scripts  # noqa: E402
from comfyume.job_queue.worker_queue import Claims, Reports, WorkerIdentity  # noqa: E402
from comfyume.tests.harness.processes import RedisServer  # noqa: E402

#: Node classes of a workflow.
NODES = [f"node:Node{number}" for number in range(20)]
#: How many groups of models a room's workflows name: none, what a workshop has, one for each of thirty workflows.
GROUPS = (0, 3, 30)
USERS = 50
HISTORY = [1000, 30 * 86_400_000]


@dataclass
class Bench:
    """A workshop with one registered worker, and scripts to be run as they are; its graphs name ``models``."""

    url: str
    keys: Keys
    worker: WorkerIdentity
    queue: FrontendQueue
    reports: Reports
    client: redis.Redis
    scripts: Scripts
    models: list[str]
    turn: int = 0
    filled: int = 0

    def submission(self, number: int, size: int) -> Submission:
        """A job of one of fifty people; it names one of the models, if there are any."""
        prompt = {"1": {"class_type": "Node0", "inputs": {"text": os.urandom(size // 2).hex(), "seed": number}}}
        model = [self.models[number % len(self.models)]] if self.models else []
        return Submission(
            job_id=str(uuid.uuid4()),
            user=f"user{number % USERS:03}",
            order="back",
            payload={"prompt": prompt, "extra_data": {"client_id": "c" * 32, "create_time": 1}, "outputs": ["1"]},
            secrets=b"",
            envelope={"frontend": "http://127.0.0.1:8188", "shared": None, "features": {}, "files": []},
            brief={"extra_data": {"create_time": 1}},
            client="c" * 32,
            needs=frozenset([*NODES[:15], *model]),
        )

    def fill(self, count: int, size: int = 1000) -> None:
        """Queue jobs, many in one go; each is the next person's."""
        script = self.client.script_load(self.scripts["submit"].script)
        for start in range(0, count, 500):
            pipeline = self.client.pipeline(transaction=False)
            for number in range(start, min(start + 500, count)):
                arguments = self.submission(self.filled + number, size).arguments()
                pipeline.evalsha(script, 1, self.keys.prefix, *arguments)
            pipeline.execute()
        self.filled += count

    def claim(self) -> list[bytes]:
        """Claim one job."""
        self.turn += 1
        who = self.worker
        turn = [uuid.uuid4().hex, "catalogue", who.lease_ms, self.turn]
        return self.scripts.run("claim", self.keys.prefix, who.name, who.instance, *turn)

    def finish(self, job: list[bytes]) -> None:
        """End a claimed job, and claim nothing."""
        assert self._finish(job, ["", "", "", "", ""]) == [b"none"]

    def finish_and_claim(self, job: list[bytes]) -> list[bytes]:
        """End a claimed job and claim the next one with it, as a worker does."""
        self.turn += 1
        who = self.worker
        return self._finish(job, [who.instance, uuid.uuid4().hex, "catalogue", who.lease_ms, self.turn])

    def _finish(self, job: list[bytes], following: list[Any]) -> list[bytes]:
        job_id, user, claim = job[0].decode(), job[1].decode(), job[7].decode()
        payload = b'{"type": "executing", "data": {"node": null}}'
        batch = Batch(job_id, user, 1, [Event(1, payload, True, True, "c" * 32, "executing")], 0, "done")
        result = encode_json({"outputs": {"1": {"images": [{"filename": "a.png"}]}}, "meta": {}, "status": {}})
        events = encode(batch)
        words = [job_id, claim, "done", result, events, *HISTORY, *following, events]
        answer: list[bytes] = self.scripts.run("finish", self.keys.prefix, *words)
        assert answer[0] == b"ok"
        return answer[1:]


@asynccontextmanager
async def bench(server: RedisServer, groups: int = GROUPS[-1]) -> AsyncIterator[Bench]:
    """An empty workshop on an emptied store."""
    keys = Keys(f"bench-{uuid.uuid4().hex[:8]}")
    worker = WorkerIdentity("worker", uuid.uuid4().hex, 3600.0)
    asynchronous = connect_async(server.url, timeout=60)
    reports = Reports(asynchronous, keys, worker, history_size=HISTORY[0], history_days=30)
    models = [f"model:checkpoints/{number}.safetensors" for number in range(groups)]
    await reports.register({"host": "h", "pid": 1}, "catalogue", frozenset([*NODES, *models]))
    client = connect(server.url, timeout=60)
    queue = FrontendQueue(asynchronous, keys, history_size=HISTORY[0], history_days=30)
    yield Bench(server.url, keys, worker, queue, reports, client, Scripts(client), models)
    for key in client.scan_iter(f"{keys.prefix}*", count=1000):
        client.unlink(key)
    client.close()
    await asynchronous.aclose()


async def claims_at(server: RedisServer, queued: int, samples: int) -> list[float]:
    """Seconds of each claim while ``queued`` jobs wait; each claimed job is replaced."""
    took = []
    async with bench(server) as room:
        room.fill(queued)
        for _ in range(20):
            room.finish(room.claim())
            room.fill(1)
        for _ in range(samples):
            began = time.perf_counter()
            job = room.claim()
            took.append(time.perf_counter() - began)
            room.finish(job)
            room.fill(1)
    return took


async def claims_and_finishes(server: RedisServer, count: int, groups: int) -> float:
    """Jobs a second that one client ends and claims, one after the other, until a queue of ``count`` is empty."""
    async with bench(server, groups) as room:
        room.fill(count)
        began = time.perf_counter()
        jobs = 0
        job = room.claim()
        while len(job) > 1:
            job = room.finish_and_claim(job)
            jobs += 1
        assert jobs == count
        return count / (time.perf_counter() - began)


async def rates(server: RedisServer, count: int) -> dict[str, float]:
    """Jobs a second through submit, and through claim and finish."""
    out = {}
    for groups in GROUPS:
        out[f"claim and finish a second, one client, {groups} groups of models"] = await claims_and_finishes(
            server, count, groups
        )
    async with bench(server) as room:
        asked = [room.submission(number, 1000) for number in range(count)]
        began = time.perf_counter()
        for submission in asked:
            await room.queue.submit(submission)
        out["submits a second, event loop, one after another"] = count / (time.perf_counter() - began)
        began = time.perf_counter()
        for first in range(0, count, 50):
            await asyncio.gather(*(room.queue.submit(room.submission(n, 1000)) for n in range(first, first + 50)))
        out["submits a second, 50 at once"] = count / (time.perf_counter() - began)
        began = time.perf_counter()
        done = await asyncio.gather(*(asyncio.to_thread(_drain_as, server.url, room, number) for number in range(8)))
        out["claim and finish a second, 8 workers on 8 threads"] = sum(done) / (time.perf_counter() - began)
    return out


def _drain_as(url: str, room: Bench, number: int) -> int:
    """Claim and finish as one of several workers, by the worker's own code but without waiting."""
    client = connect(url, timeout=60)
    identity = WorkerIdentity(f"worker{number}", uuid.uuid4().hex, 3600.0)
    scripts = Scripts(client)
    scripts["register_worker"](
        keys=[room.keys.prefix],
        args=[identity.name, identity.instance, identity.lease_ms, "{}", "catalogue", ""],
    )
    mine = Bench(url, room.keys, identity, room.queue, room.reports, client, scripts, room.models)
    done = 0
    job = mine.claim()
    while len(job) > 1:
        job = mine.finish_and_claim(job)
        done += 1
    client.close()
    return done


async def hand_over(server: RedisServer, samples: int) -> list[float]:
    """Seconds from the begin of a submit until a waiting worker has the job in its hands."""
    took = []
    async with bench(server) as room:
        claims = Claims(server.url, room.keys, room.worker)
        for _ in range(samples):
            arrived: list[float] = []

            def wait(arrived: list[float] = arrived) -> Any:
                job = claims.next("catalogue", 5)
                arrived.append(time.perf_counter())
                return job

            waiting = asyncio.create_task(asyncio.to_thread(wait))
            await asyncio.to_thread(_until_waiting, room)
            began = time.perf_counter()
            await room.queue.submit(room.submission(0, 1000))
            job = await waiting
            took.append(arrived[0] - began)
            await room.reports.finish(job.claim, Batch(job.job_id, job.user, 1, [], 0, "done"), {})
        claims._client.close()  # noqa: SLF001 - a worker keeps its connection for life
    return took


def _until_waiting(room: Bench) -> None:
    """Return when the worker's blocking read has reached the store."""
    while not room.client.hexists(f"{room.keys.prefix}idle", room.worker.name):
        time.sleep(0.001)
    time.sleep(0.005)


async def memory(server: RedisServer, count: int, size: int) -> float:
    """Bytes of the store for each queued job whose payload has ``size`` bytes."""
    async with bench(server) as room:
        before = room.client.info("memory")["used_memory"]
        room.fill(count, size)
        return (room.client.info("memory")["used_memory"] - before) / count


def percentile(values: list[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def measure(server: RedisServer, scale: float) -> dict[str, float]:
    """All figures."""
    samples = int(1000 * scale)
    short, long = [], []
    for _ in range(3):  # interleaved, so that a busy moment of the machine does not fall on one side alone
        short += await claims_at(server, 100, samples)
        long += await claims_at(server, 10_000, samples)
    waited = await hand_over(server, int(300 * scale))
    figures = {
        "claim at 100 queued, p50, ms": statistics.median(short) * 1000,
        "claim at 100 queued, p99, ms": percentile(short, 0.99) * 1000,
        "claim at 10,000 queued, p50, ms": statistics.median(long) * 1000,
        "claim at 10,000 queued, p99, ms": percentile(long, 0.99) * 1000,
        "claim p50, 10,000 to 100 (goal: at most 1.5)": statistics.median(long) / statistics.median(short),
        "submit to a waiting worker, p50, ms": statistics.median(waited) * 1000,
        "submit to a waiting worker, p99, ms": percentile(waited, 0.99) * 1000,
    }
    figures |= await rates(server, int(5000 * scale))
    figures["bytes for a queued job of 20,000 (goal: under 25,000)"] = await memory(server, 1000, 20_000)
    figures["bytes for a queued job of 1,000"] = await memory(server, 1000, 1000)
    return figures


def main() -> None:
    """Start a store, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", help="the server binary")
    parser.add_argument("--fsync", choices=["always", "everysec", "no"], default="everysec")
    parser.add_argument("--scale", type=float, default=1.0, help="a share of the samples, for a quick look")
    parser.add_argument("--save", type=Path, help="write the figures to this file as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cfm") as folder:
        server = RedisServer(Path(folder), port=None, fsync=options.fsync, program=options.program)
        with server:
            client = connect(server.url)
            info = client.info("server")
            client.close()
            name = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"
            print(f"{name}, appendfsync {options.fsync}, Python {platform.python_version()}, {os.cpu_count()} cores")
            print(f"load before: {os.getloadavg()[0]:.1f}")
            figures = asyncio.run(measure(server, options.scale))
    for label, value in figures.items():
        print(f"{value:12,.2f}  {label}")
    if options.save is not None:
        options.save.write_text(json.dumps({"store": name, "fsync": options.fsync, **figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
