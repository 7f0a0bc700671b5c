"""Puts the parts of a frontend together and mounts them in ComfyUI."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from aiohttp import WSCloseCode, web

from .. import object_stores, workshop_secret
from ..accounts.activity import ActivityLog
from ..accounts.invitations import Invitations
from ..accounts.users import User
from ..blobs.cold_storage import ColdStorage
from ..blobs.delivery_notes import DeliveryNotes
from ..blobs.store import BlobFolder
from ..comfyui_seams import folders, interrupts, model_lists, server, sockets, user_files, validation
from ..comfyui_seams.context import Visit
from ..job_queue.allowances import Allowances
from ..job_queue.catalogue import CatalogueStore
from ..job_queue.connection import connect_async, connect_listening
from ..job_queue.errors import QueueError
from ..job_queue.frontend_queue import FrontendQueue
from ..job_queue.jobs import GIB, Policy
from ..job_queue.keys import Keys
from ..job_queue.ledger import Ledger
from ..job_queue.meter import Meter
from ..job_queue.series import Series
from ..job_queue.store_clock import StoreClock
from ..settings import Settings
from ..shared_folder import NOTES, read_mark
from .activity_notes import ActivityNotes
from .administration import Administration
from .allowance import AllowanceRoutes
from .asking import Asking
from .backup_routes import BackupRoutes
from .backups import Backups
from .browsers import Browsers
from .cold_files import ColdFiles
from .delete_files import DeleteFiles
from .disk_use import DiskUse
from .feeds import Feeds
from .gate import Gate
from .health import Health
from .history import History
from .identity import LOCAL_USER, Identity
from .job_bucket import JobBucket
from .job_routes import JobRoutes
from .job_signatures import JobSignatures
from .joining import Joining
from .live_board import LiveBoard
from .lost_files import LostFiles
from .metering import Metering, places_of
from .metrics import Metrics
from .model_shelves import ModelShelves
from .moved_bytes import MovedBytes
from .page import Page
from .panel_files import PanelFiles
from .people import People
from .people_models import PeopleModels
from .presence import Presence
from .readiness import Readiness
from .relay import Relay
from .results_zip import ResultsZip
from .sampling import Sampling
from .settings_route import SettingsRoute
from .sign_in import SignInRoutes
from .steering import Steering
from .submissions import Submissions
from .template_needs import TemplateNeeds
from .visits import Visits, note_wishes
from .webhooks import Webhooks
from .worker_files import WorkerFiles
from .workers_answers import WorkersAnswers
from .workshop_nodes import WorkshopNodes

log = logging.getLogger("comfyume")


class Frontend:
    """A ComfyUI process that people use; nothing executes here unless it is a worker too."""

    def __init__(self, settings: Settings, url: str) -> None:
        self._keys = keys = Keys(settings.workshop)
        system = folders.system_folder()
        self._client = connect_async(url)
        listening = connect_listening(url)
        self._queue = FrontendQueue(
            self._client,
            keys,
            history_size=settings.history_size,
            history_days=settings.history_days,
            lease=settings.lease,
        )
        self._people = People(settings.shared_folder, system)
        self._activity = ActivityLog(self._client, keys)
        self._identity = Identity(self._client, keys, settings, self._activity)
        self._allowances = Allowances(self._client, keys)
        self._disk = DiskUse(self._people, self._allowances)
        self._gate = Gate(self._identity, settings)
        self._asking = Asking(self._client, listening, keys)
        self._brought = brought = PeopleModels(self._people.shelves)
        self._nodes = WorkshopNodes(CatalogueStore(self._client, keys), self._asking, system / "scripts", brought)
        self._relay = Relay(
            listening,
            keys,
            self._queue,
            workers_changed=self._nodes.refresh,
            accounts_changed=self._look_who_is_here,
            backed_up=self._hear_of_backup,
        )
        self._presence = Presence(self._client, keys)
        self._board = LiveBoard(self._queue, self._presence, self._relay.connected.is_set)
        self._backups = Backups(self._client, keys, settings, url, self._people, self._activity)
        self._feeds = Feeds(self._board, self._relay.tell, self._presence.arrive, self._backups.warning)
        self._ledger = Ledger(self._client, keys)
        series = Series(self._client, keys)
        self._sampling = Sampling(series, self._ledger, self._board)
        self._moved = MovedBytes()
        self._metering = Metering(
            Meter(self._client, keys), self._moved, settings, lambda: places_of(settings, self._people, system)
        )
        self._clock = StoreClock(self._client)
        self._metrics = Metrics(self._board, self._ledger, series, self._clock, self._backups.last)
        self._readiness = Readiness(self._relay, self._nodes, self._people)
        self._relay.attach(self._feeds.observe, self._board.touch, self._metrics.left)
        arriving = BlobFolder(system / "arriving")
        self._bucket = _bucket_of(settings, arriving)
        self._cold = _cold_files(settings, self._bucket, self._people, system)
        shared = _shared(settings, system, self._people)
        signatures = JobSignatures(self._client, keys)
        submissions = Submissions(
            self._nodes,
            shared,
            workshop_secret.sealer_of(settings),
            signatures,
            settings.webhook_hosts,
            brought,
            self._bucket,
            self._cold,
        )
        browsers = Browsers(self._client, keys)
        self._notes = ActivityNotes(self._activity, with_prompts=settings.activity_prompts)
        self._webhooks = Webhooks(self._client, keys, self._queue, signatures, settings.webhook_hosts)
        self._visits = Visits(
            self._people,
            self._queue,
            submissions,
            self._relay,
            self._asking,
            browsers,
            self._disk,
            self._notes,
            self._cold,
        )
        notes = DeliveryNotes((settings.shared_folder or system) / NOTES / settings.workshop)
        self._files = WorkerFiles(
            self._queue, signatures, self._people.folder_of, arriving, notes, self._bucket, self._cold
        )
        self._lost_files = LostFiles(self._queue, notes, self._people.folder_of)
        self._page = Page(settings)
        self._settings = settings
        self._system = system
        self._tasks: list[asyncio.Task[None]] = []

    def mount(self) -> None:
        """Hook into ComfyUI while custom nodes load."""
        interrupts.install()
        user_files.install()
        validation.install(self._nodes.check)
        model_lists.install(self._nodes.files, self._brought.files)
        sockets.install(self._relay.greet)
        server.ask_no_name_server()
        server.on_prompt(note_wishes)
        self._files.mount(server.add_route)
        Health(self._relay, self._nodes).mount()
        self._readiness.mount()
        self._metrics.mount()
        self._page.mount()
        SettingsRoute(self._settings).mount()
        self._feeds.mount()
        JobRoutes(self._queue, self._ledger, self._board).mount()
        History(self._ledger).mount()
        self._sampling.mount()
        TemplateNeeds(self._nodes).mount()
        self._webhooks.mount()
        Steering(self._queue, self._board, self._client, self._keys, self._notes).mount()
        self._moved.mount()
        self._metering.mount()
        BackupRoutes(self._backups, self._settings, self._notes).mount()
        cold = self._cold.storage if self._cold is not None else None
        ResultsZip(self._queue, self._people, self._moved.sent_to_people, cold).mount()
        PanelFiles().mount()
        SignInRoutes(self._identity, self._activity).mount()
        AllowanceRoutes(self._allowances, self._disk).mount()
        DeleteFiles(self._people).mount()
        ModelShelves(self._people.shelves, self._disk, self._settings, self._client, self._keys, self._notes).mount()
        Joining(Invitations(self._client, self._keys), self._settings, self._notes, self._system).mount()
        Administration(self._identity.users, self._allowances, self._activity, self._notes, self._presence).mount()
        server.add_outermost_middleware(WorkersAnswers(self._nodes).middleware())
        server.add_outermost_middleware(self._visits.middleware())
        server.add_outermost_middleware(self._gate.middleware())
        server.on_startup(self._start)

    async def _start(self, _app: web.Application) -> None:
        await asyncio.to_thread(self._people.make_folders, LOCAL_USER)
        # What ComfyUI and torch have loaded stays; looking for garbage in it would hold everybody up for 0.4 s.
        gc.collect()
        gc.freeze()
        for name, work in (
            ("relay", self._relay.run()),
            ("answers", self._asking.run()),
            ("nodes", self._nodes.keep_fresh()),
            ("sweep", self._sweep_for_ever()),
            ("board", self._board.run()),
            ("sampling", self._sampling.run()),
            ("metering", self._metering.run()),
            ("lag", self._metrics.run()),
            ("clock", self._clock.run()),
            ("readiness", self._readiness.run()),
            ("presence", self._presence.run()),
            ("webhooks", self._webhooks.run()),
            ("activity", self._activity.run()),
            ("backups", self._backups.run()),
            *([("bucket", self._bucket.run())] if self._bucket is not None else []),
            *([("cold files", self._cold.run())] if self._cold is not None else []),
        ):
            self._tasks.append(asyncio.create_task(_logged(work), name=f"comfyume-{name}"))

    async def _hear_of_backup(self, told: dict[str, Any]) -> None:
        await self._backups.heard_of_worker(told)

    async def _look_who_is_here(self) -> None:
        """Users or sessions have changed, or may have: whoever was signed out hears nothing more."""
        self._identity.refresh()
        visits = sockets.visits()
        try:
            users = await self._identity.read_users()
            self._feeds.look_who_may(users)
            ids = {visit.session for visit in visits.values() if visit.session is not None}
            live = await self._identity.sessions.are_live(list(ids))
        except QueueError as error:
            log.debug("who is signed out is not known: %s", error)
            return
        gone = [sid for sid, visit in visits.items() if not _is_here(visit, users, live)]
        await asyncio.gather(*(_close(socket) for sid in gone if (socket := sockets.socket_of(sid)) is not None))

    async def _configure(self) -> None:
        """Settle how the queue is worked off: by the mode that the settings name, else as before."""
        await self._queue.configure_if_new(Policy())
        if "queue_mode" in self._settings.model_fields_set:
            await self._queue.set_mode(self._settings.queue_mode)

    async def _sweep_for_ever(self) -> None:
        is_configured = False
        while True:
            await asyncio.sleep(self._queue.sweep_pause)
            try:
                if not is_configured:
                    await self._configure()
                    is_configured = True
                requeued, quarantined = await self._queue.sweep()
                await self._lost_files.look()
            except QueueError as error:
                log.debug("no sweep: %s", error)
                continue
            for job_id in requeued:
                log.warning("[comfyume] the worker of job %s was lost; the job is queued again", job_id)
            for job_id in quarantined:
                log.error("[comfyume] job %s lost too many workers and is not tried again", job_id)


def _is_here(visit: Visit, users: dict[str, User], live: dict[str, bool]) -> bool:
    """Whether the person of a socket may still hear what it brings."""
    if visit.user == LOCAL_USER:
        return not users
    if visit.user not in users or (visit.session is not None and not live[visit.session]):
        return False
    return visit.kept is None or visit.kept == users[visit.user].password


async def _close(socket: web.WebSocketResponse) -> None:
    """Close a socket, but wait for nobody who does not listen."""
    with contextlib.suppress(asyncio.TimeoutError, ConnectionError):
        await asyncio.wait_for(socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"signed out"), 5)


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    """A part that ends by an error must not do so in silence."""
    try:
        await work
    except Exception:
        log.exception("[comfyume] a part of the frontend has ended; restart ComfyUI")
        raise


def _bucket_of(settings: Settings, arriving: BlobFolder) -> JobBucket | None:
    shared = object_stores.shared_bucket(settings)
    if shared is None:
        return None
    most = None if settings.bucket_gib is None else int(settings.bucket_gib * GIB)
    return JobBucket(shared, arriving, days=settings.bucket_days, most_bytes=most)


def _cold_files(settings: Settings, bucket: JobBucket | None, people: People, system: Path) -> ColdFiles | None:
    if bucket is None or settings.cache_gib is None:
        return None
    root = people.folder_of(LOCAL_USER, "output")
    storage = ColdStorage(root, system / "cold", BlobFolder(system / "returning"), bucket.shared.bucket)
    return ColdFiles(storage, bucket.shared, root, int(settings.cache_gib * GIB))


def _shared(settings: Settings, system: Path, people: People) -> Callable[[str], dict[str, Any] | None]:
    """What a worker must know to find a person's folders without a transfer, if it can."""
    if settings.shared_folder is not None:
        mark = read_mark(settings.shared_folder)
        root = settings.shared_folder.absolute()
        return lambda user: {
            "mark": mark,
            "folders": {kind: path.relative_to(root).as_posix() for kind, path in people.all_folders(user)},
        }
    if settings.mode == "standalone":
        mark = read_mark(system)
        return lambda user: {"mark": mark, "folders": {kind: str(path) for kind, path in people.all_folders(user)}}
    return lambda _user: None
