"""``/comfyume/jobs``: a person's jobs, for pages and scripts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from ..comfyui_seams import server
from ..job_queue.frontend_queue import FrontendQueue
from ..job_queue.jobs import ActiveJob
from ..job_queue.ledger import Ledger
from ..job_queue.records import JobRecord
from .board_rows import Rows
from .gate import INNER, PERSON
from .identity import NotAllowed, Person
from .job_views import view_of
from .live_board import LiveBoard
from .native_shapes import body_as_json
from .problems import problem

#: Jobs in one answer.
MOST = 200
#: Instead of a name: jobs of all.
EVERYBODY = "*"


class JobRoutes:
    """Lists, submits and cancels."""

    def __init__(self, queue: FrontendQueue, ledger: Ledger, board: LiveBoard) -> None:
        self._queue = queue
        self._board = board
        self._ledger = ledger

    def mount(self) -> None:
        """Add the routes."""
        for method, path, handler in (
            ("GET", "/comfyume/jobs", self.list_jobs),
            ("POST", "/comfyume/jobs", self.submit),
            ("GET", "/comfyume/jobs/{id}", self.get),
            ("POST", "/comfyume/jobs/{id}/cancel", self.cancel),
            ("POST", "/comfyume/jobs/{id}/again", self.again),
        ):
            server.add_route(method, path, handler)

    async def list_jobs(self, request: web.Request) -> web.Response:
        """Jobs, the newest first: ``state``, ``limit``, ``before`` a cursor, and of whom."""
        person: Person = request[PERSON]
        user = request.query.get("user", person.name)
        if user != person.name and not person.is_instructor:
            raise NotAllowed("These are somebody else's jobs.")
        state, limit = request.query.get("state", "all"), request.query.get("limit", "50")
        before = request.query.get("before")
        if state not in ("all", "ended", "active"):
            return problem(400, "invalid-request", "state must be ended, active or all.")
        most = int(limit) if limit.isascii() and limit.isdigit() and len(limit) < 4 else 0
        if not 1 <= most <= MOST:
            return problem(400, "invalid-request", f"limit must be a number from 1 to {MOST}.")
        if before is not None and not _is_cursor(before):
            return problem(400, "invalid-request", "before must be what an earlier answer gave as next.")
        ids: list[str] = []
        following = None
        if state != "active":
            ids, following = await self._ended(user, before, most)
        if state != "ended" and before is None:
            ids = [job.job_id for job in reversed(await self._active(user))] + ids
        records = await self._queue.records(ids)
        jobs = await self._views([records[job_id] for job_id in ids if job_id in records])
        return web.json_response({"jobs": jobs, "next": following})

    async def _views(self, records: Sequence[JobRecord]) -> list[dict[str, Any]]:
        """Jobs as people read them, each that waits with what for."""
        waiting = [record.job_id for record in records if record.state == "queued"]
        rows = await self._board.recent(waiting) if waiting else Rows()
        return [view_of(record, rows.waits(record.job_id)) for record in records]

    async def _active(self, user: str) -> list[ActiveJob]:
        if user != EVERYBODY:
            return await self._queue.active(user)
        board = await self._queue.board()
        jobs = sorted(board.jobs.values(), key=lambda job: job.submitted)
        return [ActiveJob(job.job_id, "queued", job.number, "") for job in jobs]

    async def _ended(self, user: str, before: str | None, most: int) -> tuple[list[str], str | None]:
        """Ids of jobs that have ended, and the cursor behind them, where there may be more."""
        if user == EVERYBODY:
            entries = await self._ledger.before(before or "+", most)
            found = [(entry.job_id, entry.entry) for entry in entries]
        else:
            place = int(before.partition("-")[0]) if before else None
            found = [(job_id, str(at)) for job_id, at in await self._queue.ended(user, place, most)]
        return [job_id for job_id, _ in found], found[-1][1] if len(found) == most else None

    async def get(self, request: web.Request) -> web.Response:
        """One job."""
        record = await self._find(request)
        return _unknown() if record is None else web.json_response((await self._views([record]))[0])

    async def _find(self, request: web.Request) -> JobRecord | None:
        person: Person = request[PERSON]
        job_id = request.match_info["id"]
        record = (await self._queue.records([job_id])).get(job_id)
        return record if record is not None and (record.user == person.name or person.is_instructor) else None

    async def submit(self, request: web.Request) -> web.StreamResponse:
        """Queue a prompt; the body is that of ComfyUI's ``/prompt``."""
        return await self._submit(request)

    async def again(self, request: web.Request) -> web.StreamResponse:
        """Queue the prompt of a job of one's own once more, as a new job. API keys in it are not kept, so not sent."""
        record = await self._find(request)
        if record is None or record.user != request[PERSON].name:
            return _unknown()
        ids = [record.job_id]
        stored = await (self._queue.finished(record.user, ids) if record.has_ended else self._queue.payloads(ids))
        if record.job_id not in stored:
            return problem(409, "not-kept", "The prompt of this job is not kept any more. Open its workflow instead.")
        payload = stored[record.job_id].payload
        extra_data = {key: value for key, value in payload["extra_data"].items() if key != "create_time"}
        body: dict[str, Any] = {"prompt": payload["prompt"], "extra_data": extra_data, "name": record.name}
        client = request.query.get("client") or extra_data.get("client_id")
        if client:
            body["client_id"] = client
        outputs = payload.get("outputs")
        if outputs:
            body["partial_execution_targets"] = outputs
        return await self._submit(request, json.dumps(body).encode())

    async def _submit(self, request: web.Request, body: bytes | None = None) -> web.StreamResponse:
        response = await server.serve_at(request, "/prompt", {INNER: True}, body)
        answer = body_as_json(response) or {}
        if response.status != 200:
            return _refused(response, answer)
        records = await self._queue.records([answer["prompt_id"]])
        location = {"Location": f"/comfyume/jobs/{answer['prompt_id']}"}
        return web.json_response(view_of(records[answer["prompt_id"]]), status=201, headers=location)

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancel a job that has not ended."""
        record = await self._find(request)
        if record is None:
            return _unknown()
        if not await self._queue.cancel(record.user, [record.job_id]):
            return problem(409, "has-ended", "This job has ended already.")
        return web.Response(status=204)


def _refused(response: web.StreamResponse, answer: dict[str, Any]) -> web.Response:
    """What ComfyUI, or what stands before it, says against a prompt, as a problem."""
    error = answer.get("error")
    error = error if isinstance(error, dict) else {"message": error}
    # ComfyUI ends only some of its sentences.
    told = [str(words).rstrip(".") for words in (error.get("message"), error.get("details")) if words]
    detail = ". ".join([*told, ""]).rstrip()
    kind = str(error.get("type") or "refused").replace("_", "-")
    wait = response.headers.get("Retry-After")
    more = {"node_errors": answer["node_errors"]} if answer.get("node_errors") else {}
    again = float(wait) if wait else None
    return problem(response.status, kind, detail or "The prompt was refused.", retry_after=again, **more)


def _is_cursor(text: str) -> bool:
    parts = text.split("-")
    return len(parts) < 3 and all(part.isascii() and part.isdigit() and len(part) < 19 for part in parts)


def _unknown() -> web.Response:
    return problem(404, "not-found", "There is no such job of yours.")
