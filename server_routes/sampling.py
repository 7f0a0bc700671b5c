"""``/comfyume/series``: how the queue and the GPUs did over the last hours, for charts."""

from __future__ import annotations

import asyncio
import bisect
import logging
import time
from typing import Any

from aiohttp import web

from ..comfyui_seams import server
from ..job_queue.errors import QueueError
from ..job_queue.ledger import Ledger
from ..job_queue.series import PAUSE, Sample, Series
from .board_rows import Rows
from .bodies import BodyRefused, guarded
from .history import percentile
from .live_board import LiveBoard

log = logging.getLogger("comfyume")

MOST_HOURS = 24.0
#: Points of a chart; of more samples every second or third is told.
MOST_POINTS = 720
#: Seconds of jobs behind each point of the waits.
WAITS_OVER = 300.0


class Sampling:
    """Takes samples, and tells of them."""

    def __init__(self, series: Series, ledger: Ledger, board: LiveBoard) -> None:
        self._series = series
        self._ledger = ledger
        self._board = board

    def mount(self) -> None:
        """Add the route."""
        server.add_route("GET", "/comfyume/series", guarded(self.answer))

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            await asyncio.sleep(PAUSE / 3)
            try:
                if await self._series.is_due():
                    await self._series.add(sample_of(await self._board.look()))
            except QueueError as error:
                log.debug("no sample: %s", error)

    async def answer(self, request: web.Request) -> web.Response:
        """Columns of equal length over the last ``hours``: ``at`` in Unix seconds, and what was so at each of them."""
        try:
            hours = float(request.query.get("hours", "1"))
        except ValueError:
            hours = -1.0
        if not 0 < hours <= MOST_HOURS:
            raise BodyRefused(f"hours must be a number up to {MOST_HOURS:g}.")
        begin = time.time() - hours * 3600
        samples = await self._series.since(begin)
        ended = await self._ledger.between(begin - WAITS_OVER, time.time())
        waits = [(entry.ended, entry.waited) for entry in ended if entry.waited is not None]
        return web.json_response(await asyncio.to_thread(_columns, samples[:: len(samples) // MOST_POINTS + 1], waits))


def sample_of(rows: Rows) -> Sample:
    """The workshop as its board shows it."""
    devices = [device for worker in rows.workers.values() if worker["state"] != "lost" for device in worker["devices"]]
    uses = [device["use"] for device in devices if device["use"] is not None]
    known = [device for device in devices if device["vram_free"] is not None]
    return Sample(
        rows.queue.get("queued", 0),
        rows.queue.get("running", 0),
        rows.live_workers(),
        round(sum(uses) / len(uses), 1) if uses else None,
        sum(device["vram_total"] - device["vram_free"] for device in known),
        sum(device["vram_total"] for device in known),
    )


def _columns(samples: list[tuple[float, Sample]], waits: list[tuple[float, float]]) -> dict[str, list[Any]]:
    moments = [moment for moment, _ in waits]

    def waited(at: float, percent: float) -> float | None:
        latest = bisect.bisect_right(moments, at)
        earliest = bisect.bisect_left(moments, at - WAITS_OVER)
        return percentile(sorted(wait for _, wait in waits[earliest:latest]), percent)

    names = ("queued", "running", "workers", "gpu_use", "vram_used", "vram_total")
    columns: dict[str, list[Any]] = {name: [getattr(sample, name) for _, sample in samples] for name in names}
    columns["at"] = [at for at, _ in samples]
    for percent in (50, 95):
        columns[f"wait_p{percent}"] = [waited(at, percent) for at, _ in samples]
    return columns
