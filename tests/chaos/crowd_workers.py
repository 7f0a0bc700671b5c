"""Many workers in one process that claim, tell and end jobs as real ones do, and run nothing; run by path.

``python crowd_workers.py URL WORKSHOP COUNT SECONDS LOG`` works until SIGTERM. A job lasts ``SECONDS`` on average. The
log gets a line of JSON for each claim that found a job, and for each end.
"""

from __future__ import annotations

import asyncio
import json
import random
import runpy
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TextIO

runpy.run_path(str(Path(__file__).resolve().parents[1] / "harness" / "package.py"))["register"]()

from comfyume.job_queue.catalogue import Catalogue, CatalogueStore  # noqa: E402 - importable from here on
from comfyume.job_queue.connection import connect_async  # noqa: E402
from comfyume.job_queue.events import Batch, Event  # noqa: E402
from comfyume.job_queue.jobs import ClaimedJob  # noqa: E402
from comfyume.job_queue.keys import Keys  # noqa: E402
from comfyume.job_queue.worker_queue import Claims, Reports, WorkerIdentity  # noqa: E402

CATALOGUE = Catalogue({"EmptyImage": {}, "SaveImage": {}}, {}, frozenset(), {}, {})
#: Longer than any trial: these workers have no heartbeat.
LEASE = 3600.0
STEPS = 5


async def work(url: str, keys: Keys, name: str, seconds: float, log: TextIO, threads: ThreadPoolExecutor) -> None:
    """One worker, for ever."""
    client = connect_async(url)
    identity = WorkerIdentity(name, name, LEASE)
    reports = Reports(client, keys, identity, history_size=1_000, history_days=1.0)
    await reports.register({"host": "h", "pid": 1}, CATALOGUE.digest, CATALOGUE.capabilities)
    claims = Claims(url, keys, identity)

    def claim() -> tuple[ClaimedJob | None, float]:
        began = time.monotonic()
        return claims.next(CATALOGUE.digest, 1.0), time.monotonic() - began

    while True:
        job, took = await asyncio.get_running_loop().run_in_executor(threads, claim)
        if job is None:
            continue
        found = {"what": "claim", "at": time.monotonic(), "took": took, "job": job.job_id, "worker": name}
        log.write(json.dumps(found) + "\n")
        client_id = job.payload["extra_data"].get("client_id")
        await _run(reports, job, client_id, random.uniform(0.5, 1.5) * seconds)
        log.write(json.dumps({"what": "end", "at": time.monotonic(), "job": job.job_id, "client": client_id}) + "\n")


async def _run(reports: Reports, job: ClaimedJob, client: str | None, seconds: float) -> None:
    def event(number: int, name: str, *, keep: bool, **data: Any) -> Event:
        text = json.dumps({"type": name, "data": {"prompt_id": job.job_id, **data}}).encode()
        return Event(number, text, True, keep, client, name)

    start = event(1, "execution_start", keep=True)
    await reports.publish(job.claim, Batch(job.job_id, job.user, job.attempt, [start]))
    for step in range(STEPS):
        await asyncio.sleep(seconds / STEPS)
        progress = event(2 + step, "progress", keep=False, value=step, max=STEPS)
        await reports.publish(job.claim, Batch(job.job_id, job.user, job.attempt, [progress], 1))
    last = event(STEPS + 2, "executing", keep=True, node=None)
    result = {"outputs": {}, "meta": {}, "status": {"status_str": "success", "completed": True, "messages": []}}
    batch = Batch(job.job_id, job.user, job.attempt, [last], 1, "done")
    await reports.finish(job.claim, batch, result, earlier=[start])


async def main() -> None:
    """Work until SIGTERM."""
    url, workshop, count, seconds, path = sys.argv[1:]
    keys = Keys(workshop)
    client = connect_async(url)
    await CatalogueStore(client, keys).store(CATALOGUE)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    threads = ThreadPoolExecutor(int(count))
    with open(path, "a", buffering=1) as log:  # noqa: ASYNC230 - lines now and then
        workers = [
            asyncio.create_task(work(url, keys, f"crowd-{number}", float(seconds), log, threads))
            for number in range(int(count))
        ]
        stop = asyncio.create_task(ended.wait())
        done, _ = await asyncio.wait([stop, *workers], return_when=asyncio.FIRST_COMPLETED)
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    for task in done - {stop}:
        task.result()
    threads.shutdown(wait=False, cancel_futures=True)


if __name__ == "__main__":
    asyncio.run(main())
