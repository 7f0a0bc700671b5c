"""A worker: its parts, put together around an engine, from its begin to its end."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from .. import object_stores, workshop_secret
from ..blobs.store import BlobFolder
from ..comfyui_seams.context import Folders, job_models
from ..job_queue.catalogue import CatalogueStore
from ..job_queue.connection import connect_async, connect_listening
from ..job_queue.errors import QueueError, WorkerNameTaken
from ..job_queue.jobs import GIB
from ..job_queue.keys import Keys
from ..job_queue.store_clock import StoreClock
from ..job_queue.worker_queue import Claims, Reports, WorkerIdentity
from ..settings import Settings
from ..shared_folder import JOBS
from .choosing_transport import Transports
from .control import Control
from .courier import Courier
from .engine import Engine
from .executor import Executor
from .heartbeat_process import HeartbeatProcess, Limits
from .job_folders import JobFolders
from .memory_gate import MemoryGate
from .model_pulls import ModelPulls
from .own_paths import OwnPaths
from .registration import Registration
from .telemetry import tell_for_ever
from .time_limit import TimeLimit
from .unsent import UnsentResults

log = logging.getLogger("comfyume")

#: The graphs that every participant sees.
TEMPLATES = Path(__file__).parent.parent / "workflows"


class Worker:
    """Takes the workshop's prompts and has its engine run them.

    Args:
        url: of the store.
        system: folder of this process for what it keeps.
        models: folder of its models, which it fills if the settings say so.
        loop: on which everything runs but the executing thread.
        end: ends this process in good order, by way of ``stop``; called from any thread.
    """

    def __init__(
        self,
        settings: Settings,
        url: str,
        engine: Engine,
        *,
        system: Path,
        loop: asyncio.AbstractEventLoop,
        end: Callable[[], None],
        models: Path | None = None,
    ) -> None:
        keys = Keys(settings.workshop)
        identity = WorkerIdentity(settings.worker_id, secrets.token_hex(16), settings.lease)
        self._engine = engine
        self._loop = loop
        self._client = connect_async(url)
        self._listening = connect_listening(url)
        self._reports = Reports(
            self._client, keys, identity, history_size=settings.history_size, history_days=settings.history_days
        )
        self._catalogues = CatalogueStore(self._client, keys)
        self._clock = StoreClock(self._client)
        unsent = UnsentResults(system / "unsent" / settings.worker_id)
        self.courier = Courier(self._reports, engine, unsent, self._clock.now)
        self._own_paths = OwnPaths(settings, system, self._reports)
        self._registration = Registration(self._reports, self._catalogues, loop, engine, settings.price_hour)
        self._model_pulls: ModelPulls | None = None
        if models is not None and settings.pull_models == "templates":
            self._model_pulls = ModelPulls(settings, models, TEMPLATES, self._registration.look_again)
        limits = Limits(settings.job_timeout, self._reports.history)
        self._heartbeat = HeartbeatProcess(url, keys, identity, system, self._heard, limits)
        self._heart_beats = asyncio.Event()
        jobs = _jobs_root(settings, system)
        self._folders = JobFolders(jobs)
        self.executor = Executor(
            loop=loop,
            engine=engine,
            gate=MemoryGate(engine, settings.vram_gate, int(settings.vram_margin * GIB)),
            claims=Claims(url, keys, identity),
            courier=self.courier,
            heartbeat=self._heartbeat,
            registration=self._registration,
            transports=Transports(
                # A standalone process is its own neighbour: its people's folders are where its jobs' are.
                shared_folder=settings.shared_folder or (system if settings.mode == "standalone" else None),
                bucket=object_stores.shared_bucket(settings),
                workshop=settings.workshop,
                frontend_url=settings.frontend_url,
                blobs=BlobFolder(system / "blobs"),
            ),
            folders=self._folders,
            sealer=workshop_secret.sealer_of(settings),
            wake=self._wake,
            max_jobs=settings.max_jobs,
            worn_out=end,
        )
        self._control = Control(
            self._listening,
            keys,
            identity.name,
            {
                "cancel": self._cancel,
                "free": self._free,
                "validate": self._validate,
                "metadata": self._metadata,
                "drained": self._drained,
            },
        )
        self._time_limit = TimeLimit(settings.job_timeout, engine, self.executor.running, self.courier, self._leave)
        self._tasks: list[asyncio.Task[None]] = []
        self._name = identity.name
        self._drain_notice = settings.drain_notice

    @property
    def job_folders(self) -> Folders:
        """Where jobs run."""
        return self._folders.folders

    def make_ready(self) -> None:
        """Leave nothing of an earlier process in the jobs' folders, and have the heartbeat ready in time."""
        self._folders.empty()
        self._heartbeat.start()

    async def start(self) -> None:
        """Begin to take prompts; on the event loop."""
        for _, folder in self._folders.folders:
            folder.mkdir(parents=True, exist_ok=True)
        self._tasks = [
            self.courier.start(),
            asyncio.create_task(self._clock.run(), name="comfyume-clock"),
            asyncio.create_task(self._control.run(), name="comfyume-control"),
            asyncio.create_task(self._time_limit.run(), name="comfyume-time-limit"),
            asyncio.create_task(self._run_or_end(self._offer()), name="comfyume-registration"),
            asyncio.create_task(tell_for_ever(self._engine, self._reports, self._pulling), name="comfyume-telemetry"),
        ]
        if self._model_pulls is not None:
            self._model_pulls.start()

    def _pulling(self) -> str:
        return self._model_pulls.told if self._model_pulls is not None else ""

    async def _offer(self) -> None:
        """Give the node packs' scripts to the store, then stay registered."""
        # A job whose lease nobody renews would be taken for lost.
        await self._heart_beats.wait()
        while True:
            try:
                # Before this process registers, and with that takes its predecessor's claims.
                await self.courier.hand_in_what_is_left()
                for files in (await asyncio.to_thread(self._engine.browser_files)).values():
                    for path in files.values():
                        await self._offer_script(path)
                break
            except QueueError as error:
                log.warning("[comfyume] the store is not there yet: %s", error)
                await asyncio.sleep(1.0)
        await self._registration.run()

    async def _offer_script(self, path: Path) -> None:
        content = await asyncio.to_thread(path.read_bytes)
        sha256 = hashlib.sha256(content).hexdigest()
        await self._catalogues.store_script(sha256, content)

    async def _run_or_end(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except WorkerNameTaken as error:
            log.critical("[comfyume] %s This worker ends.", error)
            raise SystemExit(1) from error

    async def stop(self) -> None:
        """Leave the workshop in good order: take no more jobs, and end the one that runs if it ends in time.

        One that takes longer goes back to the queue, and that does not count as a loss. Meanwhile this machine's own
        files are backed up, for as long as it stays and no longer than the notice.
        """
        begin = time.monotonic()
        self._own_paths.begin()
        if self._model_pulls is not None:
            self._model_pulls.stop()
        self.executor.drain()
        if self.executor.running() is not None:
            log.info("[comfyume] worker %s ends; its job has %g s to end", self._name, self._drain_notice)
        is_idle = await asyncio.to_thread(self.executor.wait_until_idle, self._drain_notice)
        error = await self._own_paths.end(self._drain_notice - (time.monotonic() - begin))
        await self._leave()
        if not is_idle:
            self._engine.interrupt()
        await self._own_paths.tell(error)

    async def _leave(self) -> None:
        self._heartbeat.stop()
        try:
            returned = await self._reports.leave()
        except QueueError as error:
            log.warning("[comfyume] left without a word to the store: %s", error)
        else:
            log.info(
                "[comfyume] worker %s has left%s", self._name, f"; job {returned} is queued again" if returned else ""
            )

    async def _wake(self) -> None:
        try:
            await self._reports.wake()
        except QueueError as error:
            log.debug("nobody to wake: %s", error)

    def _heard(self, word: str, job_id: str, claim: str) -> None:
        if word == "cancel":
            self.executor.cancel(job_id, claim)
        elif word == "lost":
            self.executor.claim_lost(job_id, claim)
        elif word == "unknown":
            self._registration.lost()
        elif word == "ready":
            self._loop.call_soon_threadsafe(self._heart_beats.set)
        elif word == "back":
            self.executor.connect_again()
            asyncio.run_coroutine_threadsafe(self._connect_again(), self._loop)

    async def _connect_again(self) -> None:
        """Give up all connections: those from before the store was away may be dead without a sign of it."""
        log.info("[comfyume] the store answers again; connecting anew")
        for client in (self._client, self._listening):
            await client.connection_pool.disconnect(inuse_connections=True)

    async def _cancel(self, message: dict[str, Any]) -> None:
        self.executor.cancel(message["job"], message["claim"])

    async def _drained(self, _message: dict[str, Any]) -> None:
        await self._own_paths.before_it_is_taken_away()

    async def _free(self, message: dict[str, Any]) -> None:
        for name, value in message["flags"].items():
            self._engine.set_flag(name, value)

    async def _validate(self, message: dict[str, Any]) -> Any:
        # They come with the job, and nobody reads them before.
        brought = {
            folder: dict.fromkeys(names, self._folders.models) for folder, names in message.get("models", {}).items()
        }
        job_models.set(brought)
        verdict = await self._engine.check(message["job"], message["prompt"], message["outputs"])
        return {"verdict": verdict.as_tuple(), "prompt": message["prompt"]}

    async def _metadata(self, message: dict[str, Any]) -> Any:
        return await asyncio.to_thread(self._engine.model_metadata, message["folder"], message["file"])


def _jobs_root(settings: Settings, system: Path) -> Path:
    if settings.shared_folder is not None:
        return (settings.shared_folder / JOBS / settings.worker_id).absolute()
    return (system / "jobs" / settings.worker_id).absolute()
