"""``/comfyume/ready``: whether a prompt that somebody queues here now would run, and its results be kept."""

from __future__ import annotations

import asyncio
import shutil
import time

from aiohttp import web

from ..comfyui_seams import server
from ..job_queue.jobs import GIB
from .identity import LOCAL_USER
from .people import People
from .problems import problem
from .relay import Relay
from .workshop_nodes import WorkshopNodes

PATH = "/comfyume/ready"
#: Bytes that must be free where results are kept: some hundred pictures or a few minutes of video, which is time enough
#: for whoever is told of it to make room.
LEAST_FREE = GIB
#: Seconds between two looks at the disk, and after which a look is too old, since a network's disk may not answer.
PAUSE = 5.0
FRESH = 30.0
#: What may be missing, in words for people.
MISSING = {
    "store": "The store does not answer.",
    "workers": "No worker is there.",
    "disk": "The disk of the results is full or does not answer.",
}


class Readiness:
    """Answers from memory, so it is fast and needs no store."""

    def __init__(self, relay: Relay, nodes: WorkshopNodes, people: People) -> None:
        self._relay = relay
        self._nodes = nodes
        self._people = people
        self._free = 0
        self._looked_at = float("-inf")

    def mount(self) -> None:
        """Add the route."""
        server.add_route("GET", PATH, self.answer)

    async def run(self) -> None:
        """Look at the disk now and then, until cancelled."""
        folder = self._people.folder_of(LOCAL_USER, "output")
        while True:
            try:
                self._free = (await asyncio.to_thread(shutil.disk_usage, folder)).free
            except OSError:
                self._free = 0
            self._looked_at = time.monotonic()
            await asyncio.sleep(PAUSE)

    def missing(self) -> list[str]:
        """What is missing, as words of ``MISSING``."""
        is_there = {
            "store": self._relay.connected.is_set(),
            "workers": bool(self._nodes.workers),
            "disk": self._free >= LEAST_FREE and time.monotonic() - self._looked_at < FRESH,
        }
        return [name for name in MISSING if not is_there[name]]

    async def answer(self, _request: web.Request) -> web.Response:
        """200 if nothing is missing; else 503 with a list of what is."""
        missing = self.missing()
        if not missing:
            return web.json_response({"status": "ready"})
        return problem(503, "not-ready", " ".join(MISSING[name] for name in missing), missing=missing)
