"""The middleware behind the gate: fetches what ComfyUI's handler will read, and stores what it changed."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from aiohttp import web
from aiohttp.typedefs import Handler

from ..comfyui_seams import server, user_files
from ..comfyui_seams.context import Cancel, Change, Forget, QueueItem, Submit, Visit, current_visit
from ..job_queue.errors import JobConflict, LimitReached, QueueError, SecretsUnreadable
from ..job_queue.frontend_queue import FrontendQueue
from .activity_notes import ActivityNotes
from .asking import Asking
from .browsers import Browsers
from .cold_files import ColdFiles
from .disk_use import DiskUse
from .gate import INNER, PERSON
from .identity import LOCAL_USER, NotAllowed, Person
from .native_shapes import STORE_AWAY, error_answer, history_entry, json_of, limit_answer, queue_item
from .own_files import NotOwn, check_preview, check_view, own_entries
from .people import People, data_user
from .pictures import Pictures
from .problems import refusal
from .prompt_limits import MOST_BYTES, PromptRefused, check_size, check_small, no_prompt
from .relay import Relay
from .submissions import Submissions
from .webhooks import WebhookRefused

log = logging.getLogger("comfyume")

#: Modules whose handlers read nothing of the queue but what the table below says.
NATIVE_MODULES = ("server", "app.", "api_server.", "aiohttp.", "middleware.")
#: In which the page tells the name of the workflow, percent-encoded: ComfyUI's page makes the body.
WORKFLOW = "Comfyume-Workflow"
#: Finished jobs that a node pack's own route gets to see.
HISTORY_FOR_PACKS = 64


#: Whose handlers read JSON in one piece, during which nobody else is answered.
SMALL_BODIES = re.compile("/(?:queue|history|interrupt|free|users|settings(?:/.*)?|jobs/.*)")


class Visits:
    """Serves each request as a visit of one person."""

    def __init__(
        self,
        people: People,
        queue: FrontendQueue,
        submissions: Submissions,
        relay: Relay,
        asking: Asking,
        browsers: Browsers,
        disk: DiskUse,
        notes: ActivityNotes,
        cold: ColdFiles | None = None,
    ) -> None:
        self._cold = cold
        self._people = people
        self._queue = queue
        self._submissions = submissions
        self._relay = relay
        self._asking = asking
        self._browsers = browsers
        self._disk = disk
        self._notes = notes
        self._pictures = Pictures()

    def middleware(self) -> Any:
        """The middleware, for aiohttp."""

        @web.middleware
        async def serve(request: web.Request, handler: Handler) -> web.StreamResponse:
            if PERSON not in request:
                # For anybody: nobody's queue or folders are looked at.
                return await handler(request)
            return await self._serve(request, handler, request[PERSON])

        return serve

    async def _serve(self, request: web.Request, handler: Handler, person: Person) -> web.StreamResponse:
        user = person.name
        if not self._people.are_made(user):
            await asyncio.to_thread(self._people.make_folders, user)
        session = person.session.id if person.session is not None else None
        visit = Visit(user, self._people.folders_of(user), data_user(user), person.is_instructor, session, person.kept)
        token = current_visit.set(visit)
        submitted: list[str] = []
        is_stored = False
        try:
            await self._prepare(request, visit)
            response = await self._handle(request, handler, visit)
            if visit.changes:
                submitted = [change.item[1] for change in visit.changes if isinstance(change, Submit)]
                for job_id in submitted:
                    self._relay.expect(job_id)
                await self._store(visit)
                is_stored = True
            if submitted and INNER not in request:
                # The answer goes out here, so that no event of the job can overtake it.
                await response.prepare(request)
                await response.write_eof()
            return response
        except PromptRefused as error:
            log.warning("[comfyume] a prompt was refused: %s", error)
            return error.answer()
        except NotOwn:
            # As ComfyUI answers where it looks itself.
            return web.Response(status=400 if request.method == "POST" else 403)
        except NotAllowed as error:
            return refusal(request, 403, "not_allowed", str(error))
        except InvalidJobId as error:
            return error_answer(400, "invalid_prompt_id", str(error))
        except WebhookRefused as error:
            return error_answer(400, "invalid_webhook", str(error))
        except JobConflict as error:
            return error_answer(409, "prompt_id_taken", str(error))
        except LimitReached as error:
            return limit_answer(error)
        except SecretsUnreadable as error:
            log.warning("[comfyume] a prompt was refused: %s", error)
            return error_answer(503, "no_secret", str(error))
        except QueueError as error:
            log.warning("[comfyume] %s %s: %s", request.method, request.path, error)
            return refusal(request, 503, "store_unavailable", STORE_AWAY, str(error))
        finally:
            current_visit.reset(token)
            for job_id in submitted:
                await self._relay.answered(job_id, visit.user if is_stored else None)

    async def _handle(self, request: web.Request, handler: Handler, visit: Visit) -> web.StreamResponse:
        """Let ComfyUI answer. What it stumbles over in a prompt is the prompt's fault."""
        path = request.path.removeprefix("/api")
        if self._cold is not None and path == "/view":
            answer = await self._cold.view(request, visit.folders)
            if answer is not None:
                return answer
        if self._pictures.are_asked_for(request):
            return await self._pictures.answer(request, handler, visit.folders)
        if path == "/userdata" and request.method == "GET":
            return await self._own_listing(await handler(request), request, visit)
        if request.method != "POST" or path != "/prompt":
            return await handler(request)
        try:
            return await handler(request)
        except (web.HTTPException, QueueError):
            raise
        except Exception as error:
            log.debug("a prompt could not be read", exc_info=True)
            raise no_prompt(error) from error

    async def _own_listing(
        self, response: web.StreamResponse, request: web.Request, visit: Visit
    ) -> web.StreamResponse:
        listing = json_of(response)
        folder = user_files.folder_of(visit.data_user)
        if not isinstance(listing, list) or folder is None:
            return response
        listed = Path(folder, request.query.get("dir", ""))
        return web.json_response(await asyncio.to_thread(own_entries, listing, listed))

    async def _prepare(self, request: web.Request, visit: Visit) -> None:
        path = request.path.removeprefix("/api")
        if SMALL_BODIES.fullmatch(path):
            check_small(request)
        asked = "GET" if request.method == "HEAD" else request.method
        for method, pattern, preparation in self.PREPARATIONS:
            if asked == method and pattern.fullmatch(path):
                await preparation(self, request, visit)
                return
        module = getattr(request.match_info.handler, "__module__", "") or ""
        if not module.startswith(NATIVE_MODULES) and __package__.partition(".")[0] not in module:
            await self._read_all(request, visit)

    # What requests read.

    async def _read_count(self, _request: web.Request, visit: Visit) -> None:
        visit.remaining = await self._queue.count_active(visit.user)

    async def _connect(self, request: web.Request, visit: Visit) -> None:
        client_id = request.query.get("clientId", "")
        if client_id and visit.user != LOCAL_USER:
            await self._browsers.check(client_id, visit.user)
        await self._read_count(request, visit)

    async def _read_queue(self, _request: web.Request, visit: Visit) -> None:
        jobs = await self._queue.active(visit.user)
        payloads = await self._queue.payloads([job.job_id for job in jobs])
        for job in jobs:
            if job.job_id in payloads:
                item = queue_item(job.job_id, payloads[job.job_id])
                (visit.running if job.is_running else visit.pending).append(item)
        visit.remaining = len(visit.running) + len(visit.pending)

    async def _read_ids(self, _request: web.Request, visit: Visit) -> None:
        for job in await self._queue.active(visit.user):
            item: QueueItem = (job.number, job.job_id, {}, {}, [], {})
            (visit.running if job.is_running else visit.pending).append(item)
        visit.remaining = len(visit.running) + len(visit.pending)

    async def _read_jobs(self, request: web.Request, visit: Visit) -> None:
        await self._read_queue(request, visit)
        ids = await self._queue.history_ids(visit.user)
        entries = await self._queue.finished_briefs(ids)
        visit.history = {job_id: history_entry(job_id, entries[job_id]) for job_id in ids if job_id in entries}

    async def _read_job(self, request: web.Request, visit: Visit) -> None:
        await self._read_queue(request, visit)
        await self._read_history_entries(visit, [request.path.rpartition("/")[2]])

    async def _read_history_entry(self, request: web.Request, visit: Visit) -> None:
        await self._read_history_entries(visit, [request.match_info.get("prompt_id", "")])

    async def _read_history(self, request: web.Request, visit: Visit) -> None:
        """ComfyUI's paging: the last ``max_items`` without an offset, else ``max_items`` from the offset on."""
        limit, offset = (_number(request.query.get(name)) for name in ("max_items", "offset"))
        start, stop = 0, -1
        if offset is not None and offset >= 0:
            start = offset
            stop = offset + max(limit, 1) - 1 if limit is not None else -1
        elif limit is not None:
            start = -limit if limit > 0 else 2**31
        await self._read_history_entries(visit, await self._queue.history_ids(visit.user, start, stop))

    async def _read_history_entries(self, visit: Visit, ids: list[str]) -> None:
        entries = await self._queue.finished(visit.user, ids)
        visit.history = {job_id: history_entry(job_id, entries[job_id]) for job_id in ids if job_id in entries}

    async def _read_interrupt(self, request: web.Request, visit: Visit) -> None:
        await self._read_ids(request, visit)
        try:
            body = await request.json()
        except ValueError:
            return
        target = body.get("prompt_id") if isinstance(body, dict) else None
        visit.interrupt_target = target if isinstance(target, str) and target else None

    async def _read_prompt(self, request: web.Request, visit: Visit) -> None:
        visit.name = unquote(request.headers.get(WORKFLOW, ""))
        visit.is_large = await check_size(request)

    async def _check_room(self, request: web.Request, visit: Visit) -> None:
        await self._disk.make_room(visit.user, request.content_length or 0)

    async def _check_room_for_large(self, request: web.Request, visit: Visit) -> None:
        # A workflow can always be saved.
        if (request.content_length or 0) > MOST_BYTES:
            await self._check_room(request, visit)

    async def _check_view(self, request: web.Request, visit: Visit) -> None:
        check_view(request.query, visit.folders)

    async def _check_preview(self, request: web.Request, _visit: Visit) -> None:
        check_preview(request.match_info.get("filename", ""))

    async def _read_nothing(self, _request: web.Request, _visit: Visit) -> None:
        return

    async def _read_all(self, request: web.Request, visit: Visit) -> None:
        await self._read_queue(request, visit)
        await self._read_history_entries(visit, await self._queue.history_ids(visit.user, -HISTORY_FOR_PACKS, -1))

    #: What each native route reads of the queue, by method and path without ``/api``.
    PREPARATIONS = tuple(
        (method, re.compile(pattern), preparation)
        for method, pattern, preparation in (
            ("GET", "/ws", _connect),
            ("GET", "/view", _check_view),
            ("POST", "/upload/.*", _check_room),
            ("POST", "/userdata/.*", _check_room_for_large),
            ("GET", "/experiment/models/preview/.*", _check_preview),
            ("GET", "/prompt", _read_count),
            ("POST", "/prompt", _read_prompt),
            ("GET", "/queue", _read_queue),
            ("POST", "/queue", _read_ids),
            ("POST", "/interrupt", _read_interrupt),
            ("GET", "/history", _read_history),
            ("GET", "/history/[^/]+", _read_history_entry),
            ("POST", "/history", _read_nothing),
            ("GET", "/jobs", _read_jobs),
            ("GET", "/jobs/[^/]+", _read_job),
            ("POST", "/jobs/cancel", _read_ids),
            ("POST", "/jobs/[^/]+/cancel", _read_ids),
        )
    )

    # What requests change.

    async def _store(self, visit: Visit) -> None:
        for change in visit.changes:
            self._notes.changed(visit, change, await self._store_one(visit, change))

    async def _store_one(self, visit: Visit, change: Change) -> Sequence[str]:
        """Store a change; returns the ids of the jobs that it concerned."""
        if isinstance(change, Submit):
            _check_id(change.item[1])
            number = await self._submit(visit, change)
            server.next_number(int(abs(number)) + 1)
            return [change.item[1]]
        if isinstance(change, Cancel):
            if change.job_ids is None:
                return await self._queue.cancel_all(visit.user, change.which)
            return await self._queue.cancel(visit.user, change.job_ids, change.which)
        if isinstance(change, Forget):
            if change.job_ids is None:
                await self._queue.forget_all(visit.user)
            else:
                await self._queue.forget(visit.user, change.job_ids)
            return change.job_ids or ()
        await self._asking.tell_all("free", flags={change.name: change.value})
        return ()

    async def _submit(self, visit: Visit, change: Submit) -> float:
        try:
            _check_number(change.item[0])
            used = await self._disk.used(visit.user)
            submission = await self._submissions.make(visit, change, used)
            if visit.is_large:
                # The others get their turn between its parts.
                await asyncio.to_thread(submission.arguments)
            return await self._queue.submit(submission)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise no_prompt(error) from error


class InvalidJobId(Exception):
    """The id of a prompt is no UUID; older ComfyUI versions take any text."""


def _check_number(number: float) -> None:
    if not math.isfinite(number):
        raise ValueError("the number in the queue is none")


def _check_id(job_id: str) -> None:
    try:
        if str(uuid.UUID(job_id)) == job_id:
            return
    except ValueError:
        pass
    raise InvalidJobId("prompt_id must be a UUID in lower case with hyphens; leave it out to have one made")


def note_wishes(body: dict[str, Any]) -> dict[str, Any]:
    """See where in the queue a ``/prompt`` wants to be, what it is called, and where its end is to be told.

    ComfyUI hands on a number that looks the same either way, and nothing of the others.
    """
    visit = current_visit.get()
    if visit is not None and isinstance(body, dict):
        visit.webhook = body.get("webhook")
        visit.name = body.get("name", visit.name)
    # Who is not the instructor queues behind the others, whatever is asked for.
    if visit is not None and visit.is_instructor and isinstance(body, dict):
        if "number" in body:
            try:
                visit.order = float(body["number"])
            except (TypeError, ValueError, OverflowError):
                # ComfyUI's handler refuses it.
                return body
        elif body.get("front"):
            visit.order = "front"
    return body


def _number(text: str | None) -> int | None:
    try:
        # The store counts no further.
        return max(-(2**31), min(2**31, int(text))) if text is not None else None
    except ValueError:
        # ComfyUI's handler will say what is wrong with it.
        return None
