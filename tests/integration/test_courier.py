"""The courier between two jobs: the executing thread begins the next as soon as it hears that the last has ended."""

from __future__ import annotations

import asyncio
import concurrent.futures
from pathlib import Path

import pytest

from comfyume.blobs.delivery_notes import DeliveryNotes
from comfyume.comfyui_seams.context import Folders
from comfyume.job_queue.events import Batch
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
    return RunningJob(job, Publisher(folders, transport, job.user, PublishedNames(), lambda _: 1))


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


async def test_events_of_a_node_say_what_it_is_called_without_the_jobs_keys(room: Room, tmp_path: Path) -> None:
    worker = await room.worker()
    payload = prompt_of()
    payload["extra_data"]["client_id"] = CLIENT
    payload["prompt"] = {
        "1": {"class_type": "KSampler", "inputs": {}, "_meta": {"title": "Paint"}},
        "2": {"class_type": "SaveImage", "inputs": {}, "_meta": {"title": ""}},
        "3": {"class_type": "Ask", "inputs": {}, "_meta": {"title": f"with s3cret-key {'x' * 200}"}},
    }
    await room.queue.submit(submission(payload=payload))
    running = running_job(await worker.take(), tmp_path)
    running.hide({"api_key": "s3cret-key"})
    courier = Courier(
        worker.reports, ScriptEngine(asyncio.get_running_loop(), tmp_path / "log"), UnsentResults(tmp_path / "unsent")
    )
    courier.begin(running)
    sending = courier.start()
    try:
        async with room.listening() as receive:
            for node, title in (("1", "Paint"), ("1.0.7", "Paint"), ("2", "SaveImage"), ("9", "")):
                await courier.take_json("executing", {"node": node, "prompt_id": running.job.job_id}, CLIENT)
                batch = await receive()
                assert isinstance(batch, Batch)
                assert batch.titles == {node: title}
            await courier.take_json("progress", {"node": "3", "value": 1, "max": 2}, CLIENT)
            batch = await receive()
            assert isinstance(batch, Batch)
            assert batch.titles["3"].startswith("with *** xxx")
            assert len(batch.titles["3"]) == 100
    finally:
        sending.cancel()
