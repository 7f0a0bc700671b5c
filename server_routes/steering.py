"""What an instructor does to the queue and the workers, and says to all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import redis.asyncio
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..comfyui_seams import server
from ..job_queue.frontend_queue import FrontendQueue
from ..job_queue.jobs import Level, QueueMode
from ..job_queue.keys import Keys
from ..job_queue.messages import message, publish
from ..job_queue.records import JobRecord
from .activity_notes import ActivityNotes
from .bodies import body_of, changes_in, guarded
from .gate import PERSON
from .live_board import LiveBoard
from .problems import problem
from .prompt_limits import MOST_BYTES_OF_IDS, MOST_IDS

#: Ids that the activity log names of one action.
MOST_NOTED = 50

CONFIG = ConfigDict(extra="forbid", strict=True)
Ids = Annotated[list[Annotated[str, Field(max_length=64)]], Field(min_length=1, max_length=MOST_IDS)]


class JobChange(BaseModel):
    """A new level for queued jobs, or whether they are held back."""

    model_config = CONFIG

    ids: Ids
    level: Level | None = None
    held: bool | None = None

    @model_validator(mode="after")
    def _is_one_change(self) -> JobChange:
        if (self.level is None) == (self.held is None):
            raise ValueError("send either level or held")
        return self


class JobIds(BaseModel):
    """Some jobs."""

    model_config = CONFIG

    ids: Ids


class QueueChange(BaseModel):
    """How the queue is worked off; what is not named stays."""

    model_config = CONFIG

    mode: QueueMode | None = None
    paused: bool | None = None


class WorkerChange(BaseModel):
    """Whether a worker takes jobs, and whose; what is not named stays."""

    model_config = CONFIG

    drained: bool | None = None
    reserved_for: Annotated[str, Field(max_length=64)] | None = None


class Message(BaseModel):
    """What everybody reads."""

    model_config = CONFIG

    text: Annotated[str, Field(min_length=1, max_length=500)]


class Steering:
    """Changes what instructors may; the gate lets nobody else through."""

    def __init__(
        self, queue: FrontendQueue, board: LiveBoard, client: redis.asyncio.Redis, keys: Keys, notes: ActivityNotes
    ) -> None:
        self._queue = queue
        self._board = board
        self._client = client
        self._keys = keys
        self._notes = notes

    def mount(self) -> None:
        """Add the routes."""
        for method, path, handler in (
            ("PATCH", "/comfyume/jobs", self.change_jobs),
            ("POST", "/comfyume/jobs/cancel", self.cancel_jobs),
            ("GET", "/comfyume/queue", self.queue),
            ("PATCH", "/comfyume/queue", self.change_queue),
            ("GET", "/comfyume/workers", self.workers),
            ("PATCH", "/comfyume/workers/{name}", self.change_worker),
            ("DELETE", "/comfyume/workers/{name}", self.dismiss_worker),
            ("POST", "/comfyume/messages", self.say),
        ):
            server.add_route(method, path, guarded(handler))

    async def change_jobs(self, request: web.Request) -> web.Response:
        """Change the level of queued jobs, or hold them back; answers the ids that ``changed``."""
        asked = await body_of(request, JobChange, MOST_BYTES_OF_IDS)
        if asked.level is not None:
            changed = await self._queue.set_level(asked.ids, asked.level)
            self._note(request, "priority", changed, level=asked.level)
        else:
            changed = await (self._queue.hold if asked.held else self._queue.release)(asked.ids)
            self._note(request, "hold" if asked.held else "release", changed)
        return web.json_response({"changed": changed})

    async def cancel_jobs(self, request: web.Request) -> web.Response:
        """Cancel jobs of anybody; answers the ids of those that were ``cancelled``."""
        asked = await body_of(request, JobIds, MOST_BYTES_OF_IDS)
        records = await self._queue.records(asked.ids)
        by_user: dict[str, list[str]] = {}
        for record in records.values():
            by_user.setdefault(record.user, []).append(record.job_id)
        cancelled: list[str] = []
        for user, ids in by_user.items():
            theirs = await self._queue.cancel(user, ids)
            if theirs and user != request[PERSON].name:
                await self._tell_of_cancel(request[PERSON].name, [records[job_id] for job_id in theirs])
            cancelled += theirs
        self._note(request, "cancel", cancelled)
        return web.json_response({"cancelled": cancelled})

    async def _tell_of_cancel(self, by: str, records: Sequence[JobRecord]) -> None:
        """Have a person's pages say why their jobs are not there any more."""
        jobs = [{"id": record.job_id, "number": record.number, "name": record.name} for record in records[:MOST_NOTED]]
        cancelled = {"user": records[0].user, "by": by, "count": len(records), "jobs": jobs}
        await publish(self._client, self._keys, "cancelled", cancelled)

    async def queue(self, _request: web.Request) -> web.Response:
        """How the queue is worked off, and how much is in it."""
        return web.json_response((await self._board.look()).queue)

    async def change_queue(self, request: web.Request) -> web.Response:
        """Change who goes next, or pause."""
        asked = await body_of(request, QueueChange)
        if asked.mode is not None:
            await self._queue.set_mode(asked.mode)
        if asked.paused is not None:
            await self._queue.pause(is_paused=asked.paused)
        self._notes.note(request[PERSON].name, "queue", **asked.model_dump(exclude_none=True))
        return await self.queue(request)

    async def workers(self, _request: web.Request) -> web.Response:
        """The registered workers, and those that were lost a short while ago."""
        return web.json_response(list((await self._board.look()).workers.values()))

    async def change_worker(self, request: web.Request) -> web.Response:
        """Drain a worker or let it take jobs again; keep it for one person or give it back to all."""
        name = request.match_info["name"]
        asked = await body_of(request, WorkerChange)
        if name not in (await self._board.look()).workers:
            return problem(404, "not-found", f"There is no worker {name}.")
        if asked.drained is not None:
            await self._queue.drain(name, is_drained=asked.drained)
        changes = changes_in(asked)
        if "reserved_for" in changes:
            await self._queue.reserve(name, asked.reserved_for)
        self._notes.note(request[PERSON].name, "worker", worker=name, **changes)
        return web.json_response((await self._board.look()).workers.get(name))

    async def dismiss_worker(self, request: web.Request) -> web.Response:
        """Show a lost worker no longer."""
        name = request.match_info["name"]
        answer = await self._queue.dismiss(name)
        if answer == "unknown":
            return problem(404, "not-found", f"There is no worker {name}.")
        if answer == "live":
            return problem(409, "not-lost", f"The worker {name} is there. Only one that is lost can be dismissed.")
        self._notes.note(request[PERSON].name, "worker", worker=name, dismissed=True)
        return web.Response(status=204)

    async def say(self, request: web.Request) -> web.Response:
        """Say something to everybody whose page is open."""
        asked = await body_of(request, Message)
        person = request[PERSON].name
        await publish(self._client, self._keys, "message", message(asked.text, who=person))
        self._notes.note(person, "message", text=asked.text)
        return web.Response(status=204)

    def _note(self, request: web.Request, what: str, ids: list[str], **details: Any) -> None:
        if ids:
            self._notes.note(request[PERSON].name, what, jobs=ids[:MOST_NOTED], count=len(ids), **details)
