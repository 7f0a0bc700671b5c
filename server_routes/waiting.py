"""``/comfyume/waiting``: a person's queued jobs, their places in the queue, and when they are expected to begin."""

from __future__ import annotations

import asyncio
import time

from aiohttp import web

from ..comfyui_seams import server
from ..comfyui_seams.context import current_visit
from ..job_queue.errors import QueueError
from ..job_queue.forecast import Expected, forecast
from ..job_queue.frontend_queue import FrontendQueue
from ..job_queue.jobs import GIB
from .native_shapes import STORE_AWAY
from .problems import problem

PATH = "/comfyume/waiting"
#: Seconds for which one forecast serves all who ask.
FRESH = 1.0


class Waiting:
    """Answers from one forecast for the whole workshop, made at most once a second."""

    def __init__(self, queue: FrontendQueue) -> None:
        self._queue = queue
        self._looking = asyncio.Lock()
        self._looked = float("-inf")
        self._expected: dict[str, Expected] = {}

    def mount(self) -> None:
        """Add the route."""
        server.add_route("GET", PATH, self.answer)

    async def answer(self, _request: web.Request) -> web.Response:
        """The person's queued jobs in order: ``prompt_id``, ``position``, ``starts_in`` (seconds), ``why`` it waits."""
        visit = current_visit.get()
        if visit is None:
            return problem(403, "not-allowed", "Nobody asks.")
        try:
            jobs = [job for job in await self._queue.active(visit.user) if not job.is_running]
            expected = await self._look()
        except QueueError:
            return problem(503, "store-unavailable", STORE_AWAY)
        return web.json_response([told(job.job_id, expected.get(job.job_id)) for job in jobs])

    async def _look(self) -> dict[str, Expected]:
        async with self._looking:
            if time.monotonic() - self._looked > FRESH:
                outlook = await self._queue.outlook()
                self._expected = await asyncio.to_thread(forecast, outlook)
                self._looked = time.monotonic()
            return self._expected


def told(job_id: str, expected: Expected | None) -> dict[str, object]:
    """What a person is told of one queued job; one that is held back is in no forecast."""
    if expected is None:
        return {"prompt_id": job_id, "position": None, "starts_in": None, "why": "held back"}
    why = ""
    if not expected.workers:
        need = f" with {expected.memory / GIB:.0f} GiB free" if expected.memory else ""
        why = f"waits for a worker that can run it{need}"
    starts_in = None if expected.starts_in is None else round(expected.starts_in, 1)
    return {"prompt_id": job_id, "position": expected.position, "starts_in": starts_in, "why": why}
