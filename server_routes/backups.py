"""Takes a snapshot of the workshop each hour and when one is asked for, and tells instructors if that fails.

Any frontend may do it; the store lets one of them do it each time. How it went is in the store, so all tell the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis.asyncio

from .. import backup_runs
from ..accounts.activity import ActivityLog
from ..comfyui_seams import folders, user_files
from ..job_queue.connection import store_errors
from ..job_queue.errors import QueueError
from ..job_queue.keys import Keys
from ..job_queue.messages import INSTRUCTORS, message, publish
from ..settings import Settings
from ..workshop_backup import Places
from .identity import LOCAL_USER
from .people import People

log = logging.getLogger("comfyume")

#: Seconds between two looks whether a snapshot is due, and for which one that is taken keeps others from it unless it
#: goes on.
LOOK, LOCK = 15.0, 60.0
#: Seconds after which one that failed is tried again, and between two words about it.
AGAIN, TOLD = 600.0, 3600.0
#: Seconds for which a list of snapshots is told again, if none was taken meanwhile.
LISTED = 10.0
#: Why one was taken, for those who read the list.
BY_ITSELF = "by itself"
#: What begins the names under which is kept that a worker's own files could not be backed up, for how many seconds that
#: is told, and how many characters of its name and of why.
OF_WORKER, REMEMBERED, MOST_NAME, MOST_ERROR = "worker:", 7 * 86400.0, 128, 1000
#: Before anything is known of how far one has come.
NO_PROGRESS = json.dumps({"files": 0, "of": 0, "size": 0})
#: Who did it, in the activity log and in messages.
WHO = "backup"
NEW_KEY = (
    "The backup has begun. A key was made up for it, which is in {file} on the frontend's machine: COPY IT TO ANOTHER "
    "PLACE NOW. Should that machine be lost, nothing can be restored without it."
)


@dataclass(frozen=True)
class WorkerFailure:
    """That a worker's own files could not be backed up, when, in Unix seconds, and why."""

    worker: str
    at: float
    error: str


@dataclass(frozen=True)
class BackupState:
    """How the last snapshot went. Moments are Unix seconds, 0 for never.

    Attributes:
        at: when the last one was taken that there is.
        tried: when it was tried last.
        error: why there is none since then; empty if all is well.
        told: when instructors were told of that.
        where: the place of the last one.
        workers: those whose own files could not be backed up when they were drained last.
        seconds: how long it took; ``new_files`` and ``new_size`` are what the backup did not hold before, in bytes.
    """

    at: float = 0.0
    tried: float = 0.0
    error: str = ""
    told: float = 0.0
    snapshot: str = ""
    where: str = ""
    seconds: float = 0.0
    new_files: int = 0
    new_size: int = 0
    workers: tuple[WorkerFailure, ...] = ()

    @classmethod
    def read(cls, fields: Mapping[bytes, bytes]) -> BackupState:
        """From the store."""
        known = {name.decode(): value.decode() for name, value in fields.items()}
        kinds = {"error": str, "snapshot": str, "where": str, "new_files": int, "new_size": int}
        parts: dict[str, Any] = {each.name: kinds.get(each.name, float) for each in dataclasses.fields(cls)}
        of_workers = [WorkerFailure(**json.loads(told)) for name, told in known.items() if name.startswith(OF_WORKER)]
        recent = sorted((each for each in of_workers if time.time() - each.at < REMEMBERED), key=lambda each: -each.at)
        return cls(workers=tuple(recent), **{name: kind(known[name]) for name, kind in parts.items() if name in known})

    def due(self, hours: float) -> float:
        """When the next one is due."""
        return self.tried + (min(AGAIN, hours * 3600) if self.error else hours * 3600)


class Backups:
    """Takes snapshots, until cancelled."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        keys: Keys,
        settings: Settings,
        url: str,
        people: People,
        activity: ActivityLog,
    ) -> None:
        self._client: Any = client
        self._keys = keys
        self._settings = settings
        self._url = url
        self._people = people
        self._activity = activity
        #: How the last one went, as far as this frontend knows; None where no place is set.
        self.state: BackupState | None = BackupState() if settings.backup else None
        self._asked: asyncio.Task[None] | None = None
        self._listing = asyncio.Lock()
        self._listed: tuple[str, float, dict[str, Any]] = ("", float("-inf"), {})

    async def run(self) -> None:
        """Look whether one is due, until cancelled."""
        while self._settings.backup:
            try:
                self.state = await self._read()
                if time.time() >= self.state.due(self._settings.backup_hours) and await self._may():
                    await self._take(BY_ITSELF)
            except QueueError as error:
                log.debug("no backup: %s", error)
            await asyncio.sleep(min(LOOK, self._settings.backup_hours * 3600 / 4))

    def last(self) -> float | None:
        """When the last snapshot was taken, in Unix seconds; None where no place is set."""
        return self.state.at if self.state is not None else None

    def warning(self) -> dict[str, Any] | None:
        """What an instructor who opens the panel is told; None while all is well."""
        if self.state is None or not self.state.error:
            return None
        return message(_failure(self.state), who=WHO)

    async def heard_of_worker(self, told: Mapping[str, Any]) -> None:
        """Keep for instructors what a worker told of the backup of its own files. Raises as ``look``.

        Every frontend hears it, so it is noted under the worker's name.
        """
        worker, error = str(told["worker"])[:MOST_NAME], str(told["error"])[:MOST_ERROR]
        name = f"{OF_WORKER}{worker}"
        with store_errors():
            if not error:
                await self._client.hdel(self._keys.backup, name)
                return
            kept = json.dumps({"worker": worker, "at": time.time(), "error": error})
            is_first = await self._client.hset(self._keys.backup, name, kept)
        if is_first:
            self._activity.note(WHO, "backup failed", worker=worker, error=error)

    async def look(self) -> tuple[BackupState, dict[str, int] | None]:
        """How the last one went, and how far one has come that is taken now, on whichever frontend; None for none.

        Raises:
            QueueError: the store does not tell.
        """
        with store_errors():
            fields, lock = (
                await self._client.pipeline().hgetall(self._keys.backup).get(self._keys.backup_lock).execute()
            )
        return BackupState.read(fields), None if lock is None else json.loads(lock)

    async def begin(self, reason: str) -> bool:
        """Begin to take one now; False if one is taken already. Raises as ``look``."""
        if not await self._may():
            return False
        self._asked = asyncio.create_task(self._take_asked(reason), name="comfyume-backup")
        return True

    async def _take_asked(self, reason: str) -> None:
        try:
            await self._take(reason)
        except QueueError as error:
            log.warning("[comfyume] how the snapshot went is not noted: %s", error)

    async def newest(self) -> dict[str, Any]:
        """The newest snapshots, as the backup itself tells; with ``error`` why it does not. Raises as ``look``."""
        async with self._listing:
            state = await self._read()
            of, at, listed = self._listed
            if of != state.snapshot or time.monotonic() - at > LISTED:
                asked = {"settings": self._told_settings(), "system": str(folders.system_folder())}
                listed = await backup_runs.run("listing", {**asked, "is_new": self._is_new(state)})
                self._listed = (state.snapshot, time.monotonic(), listed)
            return listed

    async def _read(self) -> BackupState:
        with store_errors():
            return BackupState.read(await self._client.hgetall(self._keys.backup))

    async def _may(self) -> bool:
        with store_errors():
            return bool(await self._client.set(self._keys.backup_lock, NO_PROGRESS, nx=True, ex=int(LOCK)))

    def _told_settings(self) -> dict[str, Any]:
        return self._settings.model_dump(mode="json", exclude_unset=True)

    def _is_new(self, state: BackupState | None) -> bool:
        """Whether no backup was in this place: one that was there and is not any more is on a disk that is not."""
        return state is None or state.where != self._settings.backup

    async def _take(self, reason: str) -> None:
        tried = time.time()
        try:
            self.state = await self._read()
            told = await self._run_program(reason)
        finally:
            with contextlib.suppress(QueueError), store_errors():
                await self._client.delete(self._keys.backup_lock)
        if "error" in told:
            await self._failed(tried, told["error"])
            return
        summary = told["summary"]
        done = {"at": tried, "tried": tried, "snapshot": summary["id"], "where": self._settings.backup}
        done |= {name: summary[name] for name in ("seconds", "new_files", "new_size")}
        await self._note({**done, "error": "", "told": 0})
        log.info("[comfyume] snapshot %s: %d files, %d new", summary["id"], summary["files"], summary["new_files"])
        if told["made"]:
            log.warning("[comfyume] %s", NEW_KEY.format(file=told["made"]))
            await self._tell(NEW_KEY.format(file=told["made"]))
        for problem in summary["problems"]:
            log.warning("[comfyume] not in the snapshot: %s", problem)

    async def _run_program(self, reason: str) -> dict[str, Any]:
        """Take a snapshot in a process of its own; what it tells."""
        own = self._people.folders_of(LOCAL_USER)
        system = folders.system_folder()
        user = user_files.folder_of(user_files.OWN_USER)
        users = Path(user).parent if user else system.parent
        places = Places(own.input, own.output, users, system, Path.home(), self._people.shelves.root)
        asked = {
            "settings": self._told_settings(),
            "places": {name: str(path) for name, path in vars(places).items()},
            "url": self._url,
            "reason": reason,
            "is_new": self._is_new(self.state),
        }
        keeping = asyncio.create_task(self._keep_lock())
        try:
            return await backup_runs.run("snapshot", asked, self._show)
        finally:
            keeping.cancel()

    async def _keep_lock(self) -> None:
        while True:
            await asyncio.sleep(LOCK / 3)
            with contextlib.suppress(QueueError), store_errors():
                await self._client.expire(self._keys.backup_lock, int(LOCK))

    async def _show(self, progress: Mapping[str, int]) -> None:
        """Let every frontend know how far it has come."""
        with contextlib.suppress(QueueError), store_errors():
            await self._client.set(self._keys.backup_lock, json.dumps(progress), xx=True, ex=int(LOCK))

    async def _failed(self, tried: float, error: str) -> None:
        log.error("[comfyume] no snapshot was taken: %s", error)
        former = self.state or BackupState()
        is_news = tried - former.told >= TOLD or error != former.error
        await self._note({"tried": tried, "error": error, "told": tried if is_news else former.told})
        if is_news and self.state is not None:
            self._activity.note(WHO, "backup failed", error=error)
            await self._tell(_failure(self.state))

    async def _note(self, fields: Mapping[str, Any]) -> None:
        with store_errors():
            await self._client.hset(self._keys.backup, mapping=dict(fields))
        self.state = await self._read()

    async def _tell(self, text: str) -> None:
        await publish(self._client, self._keys, "message", message(text, who=WHO, to=INSTRUCTORS))


def _failure(state: BackupState) -> str:
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(state.at)) if state.at else ""
    last = f"The last snapshot is of {since}." if since else "There is no snapshot yet."
    return f"The workshop could not be backed up. {state.error} {last}"
