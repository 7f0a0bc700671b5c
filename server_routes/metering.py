"""``/comfyume/cost``: what the workshop costs so far, and will cost by its end, for the instructor."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from ..blobs.errors import BlobError
from ..comfyui_seams import server
from ..job_queue.errors import QueueError
from ..job_queue.meter import PAUSE, Meter
from ..object_stores import open_object_store
from ..settings import Settings
from ..shared_folder import read_mark
from ..workshop_costs import bill, told
from .disk_use import size_of
from .moved_bytes import MovedBytes
from .people import People

log = logging.getLogger("comfyume")

#: Seconds between two measurements: of folders, and of a bucket, which is paid for by the thousand of its objects.
FOLDERS_AGAIN = 600.0
BUCKET_AGAIN = 3600.0


@dataclass
class Place:
    """Where files are kept.

    Attributes:
        name: by which the store knows it; frontends that share a place call it the same.
        measure: its bytes; blocking.
        again: seconds until it is measured anew.
        due: when that is, by this process's clock.
    """

    name: str
    measure: Callable[[], int]
    again: float
    due: float = float("-inf")


class Metering:
    """Has the store count, measures what it cannot know, and tells what that costs."""

    def __init__(self, meter: Meter, moved: MovedBytes, settings: Settings, places: Callable[[], list[Place]]) -> None:
        self._meter = meter
        self._moved = moved
        self._settings = settings
        self._find_places = places
        self._places: list[Place] = []

    def mount(self) -> None:
        """Add the route."""
        server.add_route("GET", "/comfyume/cost", self.answer)

    async def run(self) -> None:
        """Count until cancelled."""
        while True:
            try:
                await self.count()
            except (QueueError, OSError) as error:
                log.debug("costs are not counted: %s", error)
            await asyncio.sleep(PAUSE)

    async def count(self) -> None:
        """Count up to now. Raises what ``store_errors`` names."""
        if not self._places:
            self._places = await asyncio.to_thread(self._find_places)
        sizes = {place.name: await self._size_of(place) for place in self._places}
        try:
            await self._meter.count(self._moved.so_far(), sizes)
        except QueueError:
            # What was measured has not arrived.
            for place in self._places:
                place.due = float("-inf")
            raise

    async def _size_of(self, place: Place) -> int | None:
        if time.monotonic() < place.due:
            return None
        place.due = time.monotonic() + place.again
        try:
            return await asyncio.to_thread(place.measure)
        except (BlobError, OSError) as error:
            log.warning("[comfyume] how much is kept in %s is not known: %s", place.name, error)
            return None

    async def answer(self, _request: web.Request) -> web.Response:
        """What is counted, what it costs, and by which prices; see ``docs/openapi.yaml``."""
        # Nobody waits here until a bucket has been listed.
        reading = await self._meter.count(self._moved.so_far(), {place.name: None for place in self._places})
        return web.json_response(told(bill(reading, self._settings)))


def places_of(settings: Settings, people: People, system: Path) -> list[Place]:
    """Where a frontend keeps the workshop's files; blocking."""
    shared = settings.shared_folder
    folders = people.roots() if shared is None else [shared]
    places = [Place(f"disk {read_mark(shared or system)}", lambda: sum(map(size_of, map(str, folders))), FOLDERS_AGAIN)]
    if settings.bucket is not None:
        bucket = settings.bucket
        places.append(Place(f"bucket {bucket}", lambda: _size_of_bucket(bucket, settings), BUCKET_AGAIN))
    return places


def _size_of_bucket(bucket: str, settings: Settings) -> int:
    return sum(each.size for each in open_object_store(bucket, settings).listing(""))
