"""The courier between two jobs: the executing thread begins the next as soon as it hears that the last has ended."""

from __future__ import annotations

import asyncio
import concurrent.futures
from pathlib import Path

import pytest

from comfyume.blobs.delivery_notes import DeliveryNotes
from comfyume.comfyui_seams.context import Folders
from comfyume.job_queue.jobs import ClaimedJob
from comfyume.tests.harness.room import Room, prompt_of, submission
from comfyume.tests.harness.script_engine import ScriptEngine
from comfyume.worker_mode.courier import FINISH, Courier
from comfyume.worker_mode.publishing import PublishedNames, Publisher
from comfyume.worker_mode.running_job import Finish, RunningJob
from comfyume.worker_mode.transports import SharedFolderTransport
from comfyume.worker_mode.unsent import UnsentResults

pytestmark = pytest.mark.integration

CLIENT = "tab-1"


def running_job(job: ClaimedJob, folder: Path) -> RunningJob:
    """A job that runs in folders of its own."""
    folders = Folders(*(folder / job.job_id / kind for kind in ("input", "output", "temp")))
    for _, path in folders:
        path.mkdir(parents=True)
    transport = SharedFolderTransport(folder, {"output": "people", "temp": "people"}, DeliveryNotes(folder), job)
    return RunningJob(job, Publisher(folders, transport, job.user, PublishedNames()))


def ending(running: RunningJob) -> Finish:
    """What became of a job that saved nothing."""
    done: concurrent.futures.Future[list[bytes]] = concurrent.futures.Future()
    status = {"status_str": "success", "completed": True, "messages": []}
    return Finish(running, {"outputs": {}, "meta": {}}, status, None, "", None, None, done)


async def test_the_next_job_may_begin_the_moment_that_the_last_has_ended(room: Room, tmp_path: Path) -> None:
    engine = ScriptEngine(asyncio.get_running_loop(), tmp_path / "log")
    worker = await room.worker()
    payload = prompt_of()
    payload["extra_data"]["client_id"] = CLIENT
    jobs = []
    for _ in range(2):
        await room.queue.submit(submission(payload=payload))
        jobs.append(running_job(await worker.take(), tmp_path))
    courier = Courier(worker.reports, engine, UnsentResults(tmp_path / "unsent"))
    courier.begin(jobs[0])
    finish = ending(jobs[0])
    # A callback runs within set_result, sooner than any thread that waits for the result can.
    finish.done.add_done_callback(lambda _: courier.begin(jobs[1]))
    assert await courier.take_json(FINISH, finish, None)
    assert finish.done.result() == [b"none"]
    assert await courier.take_json("execution_start", {"prompt_id": jobs[1].job.job_id}, CLIENT)
    assert [event.name for event in jobs[1].waiting] == ["execution_start"]
