"""The executing side of a worker: claims a job, prepares it, and hands in what became of it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..blobs.errors import BlobError
from ..comfyui_seams.context import JobMarks, QueueItem, job_folders, job_marks, job_models
from ..job_queue.errors import QueueError, SecretsUnreadable
from ..job_queue.jobs import ClaimedJob
from ..job_queue.sealing import Sealer
from ..job_queue.worker_queue import Claims, NotRegistered
from ..model_vault.shelves import MODEL, ShelvedModel, parsed
from .choosing_transport import Transports
from .courier import FINISH, Courier
from .endings import failed_status, now_ms
from .engine import Engine
from .heartbeat_process import HeartbeatProcess
from .job_folders import JobFolders
from .memory_gate import MemoryGate
from .publishing import PublishedNames, Publisher
from .registration import Registration
from .running_job import Finish, RunningJob
from .transports import InputFile, Transport

log = logging.getLogger("comfyume")

#: Seconds between two looks at a store that does not answer.
STORE_PAUSE = 1.0


class JobRefused(Exception):
    """A claimed job cannot be executed here."""

    def __init__(self, message: str, *, node_id: str = "", node_type: str = "", kind: str) -> None:
        super().__init__(message)
        self.node_id = node_id
        self.node_type = node_type
        self.kind = kind


class Executor:
    """What the engine's executing thread calls. Nothing here raises, since an exception ends that thread for good."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        engine: Engine,
        gate: MemoryGate,
        claims: Claims,
        courier: Courier,
        heartbeat: HeartbeatProcess,
        registration: Registration,
        transports: Transports,
        folders: JobFolders,
        sealer: Sealer,
        wake: Any,
        max_jobs: int,
        worn_out: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._engine = engine
        self._gate = gate
        self._claims = claims
        self._courier = courier
        self._heartbeat = heartbeat
        self._registration = registration
        self._transports = transports
        self._folders = folders
        self._sealer = sealer
        self._wake_store = wake
        self._max_jobs = max_jobs
        self._worn_out = worn_out
        self._jobs = 0
        self._is_draining = False
        self._woken = threading.Event()
        self._names = PublishedNames()
        self._running: RunningJob | None = None
        self._is_idle = threading.Event()
        self._is_idle.set()
        self._next: ClaimedJob | None = None

    def get(self, timeout: float | None) -> tuple[QueueItem, RunningJob] | None:
        """The next item to execute; None when the time is over or after ``wake``."""
        deadline = time.monotonic() + (1000.0 if timeout is None else timeout)
        while not self._woken.is_set():
            left = deadline - time.monotonic()
            if left < 0 and timeout:
                return None
            if self._is_draining:
                self._woken.wait(max(left, 0.0))
                break
            job = self._next or self._claim(max(left, 0.0))
            self._next = None
            if job is not None:
                prepared = self._prepare(job)
                if prepared is not None:
                    return prepared
            elif left <= 0:
                return None
        self._woken.clear()
        return None

    def running(self) -> RunningJob | None:
        """The job that is prepared or executed now; from any thread."""
        return self._running

    def drain(self) -> None:
        """Take no further job; from any thread. What runs goes on."""
        self._is_draining = True
        self.wake()

    def wait_until_idle(self, timeout: float) -> bool:
        """Wait at most this many seconds until no job runs; whether that is so."""
        return self._is_idle.wait(timeout)

    def wake(self) -> None:
        """Make ``get`` return soon."""
        self._woken.set()
        asyncio.run_coroutine_threadsafe(self._wake_store(), self._loop)

    def connect_again(self) -> None:
        """Ask the store anew for work: the connection may be dead without a sign of it. From any thread."""
        self._claims.hang_up()

    def _claim(self, timeout: float) -> ClaimedJob | None:
        if not self._registration.wait(min(timeout, STORE_PAUSE)):
            return None
        try:
            job = self._claims.next(self._registration.catalogue, timeout, self._gate.room())
            if self._claims.short is not None and not self._gate.make_room(self._claims.short):
                self._claims.wait_though_short()
            return job
        except NotRegistered:
            self._registration.lost()
        except QueueError as error:
            log.warning("[comfyume] %s Looking for work again in %.0f s.", error, STORE_PAUSE)
            self._woken.wait(min(timeout, STORE_PAUSE))
        except Exception:
            log.exception("[comfyume] claiming a job failed; trying again")
            self._woken.wait(min(timeout, STORE_PAUSE))
        return None

    def _prepare(self, job: ClaimedJob) -> tuple[QueueItem, RunningJob] | None:
        """Everything before execution: files here, graph valid. None when the job has ended instead."""
        self._gate.look_at(job)
        self._heartbeat.watch(job.job_id, job.claim)
        transport = self._transports.for_job(job)
        publisher = Publisher(self._folders.folders, transport, job.user, self._names, self._engine.count_frames)
        running = RunningJob(job, publisher)
        self._running = running
        self._is_idle.clear()
        self._courier.begin(running)
        try:
            outputs = self._make_ready(running, transport)
            secrets = self._sealer.open(job.job_id, job.secrets)
            running.hide(secrets)
        except JobRefused as error:
            self._refuse(running, error)
            return None
        except SecretsUnreadable as error:
            self._refuse(running, JobRefused(str(error), kind="execution_error"))
            return None
        except BlobError as error:
            self._refuse(running, JobRefused(f"A file of this prompt did not arrive. {error}", kind="execution_error"))
            return None
        except Exception as error:
            log.exception("[comfyume] job %s could not be prepared", job.job_id)
            message = f"The worker could not prepare this prompt: {error}"
            self._refuse(running, JobRefused(message, kind="execution_error"))
            return None
        self._gate.begin()
        payload = job.payload
        return (job.number, job.job_id, payload["prompt"], payload["extra_data"], outputs, secrets), running

    def _make_ready(self, running: RunningJob, transport: Transport) -> list[str]:
        """Bring the files and check the graph.

        Returns:
            The ids of the output nodes that can run.
        """
        job = running.job
        self._folders.begin(job.user, self._names.last_names(job.user))
        job_folders.set(self._folders.folders)
        named = [InputFile.from_json(value) for value in job.envelope.get("files", [])]
        files = [file for file in named if file.kind != MODEL]
        models = [(parsed(file.path, file.digest.size), file) for file in named if file.kind == MODEL]
        job_marks.set(
            JobMarks.of_files(
                job.user,
                [(file.kind, file.path, file.digest.sha256) for file in files],
                {model.words: file.digest.sha256 for model, file in models},
            )
        )
        self._stage(running, transport, files)
        job_models.set(self._bring_models(transport, models))
        outputs = self._validate(job)
        if running.cancelled or running.lost or running.timed_out is not None:
            raise JobRefused("The prompt was interrupted before it began.", kind="execution_interrupted")
        return outputs

    def _stage(self, running: RunningJob, transport: Transport, files: Sequence[InputFile]) -> None:
        if not files:
            return
        folders = dict(self._folders.folders)

        async def fetch_all() -> None:
            for file in files:
                destination = folders[file.kind] / file.path
                # One of the empty files that numbering goes on from may have its name.
                await asyncio.to_thread(destination.unlink, missing_ok=True)
                await transport.fetch(file, destination)
                running.publisher.note_staged(file.kind, file.path)

        asyncio.run_coroutine_threadsafe(fetch_all(), self._loop).result()

    def _bring_models(
        self, transport: Transport, models: Sequence[tuple[ShelvedModel, InputFile]]
    ) -> dict[str, dict[str, Path]]:
        """Bring what is not here of the models that people have brought for a job.

        Returns:
            By folder of models, where each is, by the words with which graphs name it.
        """
        brought: dict[str, dict[str, Path]] = {}

        async def fetch_all() -> None:
            for model, file in models:
                path = self._folders.model(file.digest.sha256, model.name)
                # Its path tells its content, so what is there is it.
                if not await asyncio.to_thread(path.exists):
                    await transport.fetch(file, path)
                brought.setdefault(model.folder, {})[model.words] = path

        if models:
            asyncio.run_coroutine_threadsafe(fetch_all(), self._loop).result()
        return brought

    def _validate(self, job: ClaimedJob) -> list[str]:
        payload = job.payload
        verdict = self._engine.check_now(job.job_id, payload["prompt"], payload["outputs"])
        if verdict.valid:
            return verdict.outputs
        node_id, problem = verdict.first_problem()
        raise JobRefused(
            problem,
            node_id=node_id,
            node_type=payload["prompt"].get(node_id, {}).get("class_type", ""),
            kind="execution_error",
        )

    def _refuse(self, running: RunningJob, error: JobRefused) -> None:
        job_id = running.job.job_id
        start = {"prompt_id": job_id, "timestamp": now_ms()}
        data: dict[str, Any] = {
            "prompt_id": job_id,
            "node_id": error.node_id,
            "node_type": error.node_type,
            "executed": [],
            "timestamp": now_ms(),
        }
        if error.kind == "execution_error":
            data |= {
                "exception_message": str(error),
                "exception_type": "comfyume.JobRefused",
                "traceback": [],
                "current_inputs": {},
                "current_outputs": [],
            }
        if running.client is not None:
            self._engine.tell("execution_start", start, running.client)
            self._engine.tell(error.kind, data, running.client)
        status = failed_status([["execution_start", start]], error.kind, data)
        self._hand_in(running, {"outputs": {}, "meta": {}}, status)

    def task_done(self, handle: RunningJob, history_result: dict[str, Any], status: Any) -> None:
        """Hand in what became of an item, and wait until the store has it."""
        self._hand_in(handle, history_result, dict(status._asdict()))

    def _hand_in(self, running: RunningJob, history_result: dict[str, Any], status: dict[str, Any]) -> None:
        done: concurrent.futures.Future[list[bytes]] = concurrent.futures.Future()
        self._jobs += 1
        is_last = self._is_draining or self._jobs == self._max_jobs
        upcoming = None if is_last or self._woken.is_set() else self._claims.upcoming
        finish = Finish(
            running,
            history_result,
            status,
            upcoming,
            self._registration.catalogue,
            self._gate.room() if upcoming is not None else None,
            self._gate.peak() if status["completed"] else None,
            done,
        )
        self._engine.tell(FINISH, finish)
        try:
            self._next = self._claims.take_from_finish(done.result())
        except Exception:
            log.exception("[comfyume] the result of job %s could not be handed in", running.job.job_id)
        if self._next is not None:
            self._heartbeat.watch(self._next.job_id, self._next.claim)
        else:
            self._heartbeat.watch("", "")
        self._running = None
        self._is_idle.set()
        job_folders.set(None)
        job_marks.set(None)
        job_models.set(None)
        try:
            # The next job is often the same person's.
            self._folders.reset(running.job.user, self._names.last_names(running.job.user))
        except OSError as error:
            log.warning("[comfyume] files of the last job are left: %s; trying again before the next", error)
        if self._jobs == self._max_jobs:
            log.info("[comfyume] this worker ends, since it has run %d jobs", self._jobs)
            self._is_draining = True
            self._worn_out()

    def cancel(self, job_id: str, claim: str) -> None:
        """Stop this job if it is the one that runs; from any thread."""
        running = self._running
        if running is None or running.job.job_id != job_id or running.job.claim != claim or running.cancelled:
            return
        log.info("[comfyume] job %s was cancelled", job_id)
        running.cancelled = True
        self._engine.interrupt()

    def claim_lost(self, job_id: str, claim: str) -> None:
        """Stop this job, which another worker has now; from any thread."""
        running = self._running
        if running is None or running.job.job_id != job_id or running.job.claim != claim or running.lost:
            return
        log.warning("[comfyume] job %s is no longer this worker's", job_id)
        running.lost = True
        self._engine.interrupt()
