"""``/comfyume/metrics``: the workshop's figures for Prometheus.

What has ended is counted from the ledger, and the depth of the queue from the samples, both from the first entry that
is kept: so every frontend tells the same, also after a restart, and where nobody asks nothing is read.

How long events take from their worker to a page's socket is told by the store's clock, which both ends ask for; and how
late this frontend's event loop is, through which every event and every request goes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from aiohttp import web
from prometheus_client import CollectorRegistry, exposition
from prometheus_client.core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from ..comfyui_seams import server
from ..job_queue.ledger import Ledger
from ..job_queue.series import Series
from ..job_queue.store_clock import StoreClock
from .live_board import LiveBoard
from .metric_families import Totals, families

PATH = "/comfyume/metrics"
#: Entries that are read at once: few enough that the event loop is soon free again.
MOST_READ = 250
#: Seconds of the timer by which the event loop's lag is measured.
PAUSE = 0.1
#: The two formats. Newer releases of the library call the first one by a newer version, in which names may have any
#: letters; ours have none that older readers do not know.
TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text"


class Metrics:
    """Counts what has ended since it was asked last, and looks at what is so now."""

    def __init__(
        self,
        board: LiveBoard,
        ledger: Ledger,
        series: Series,
        clock: StoreClock,
        backup: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._backup = backup
        self._clock = clock
        self._board = board
        self._ledger = ledger
        self._series = series
        self._totals = Totals()
        self._last_entry = "-"
        self._last_sample = 0.0
        self._reading = asyncio.Lock()

    def mount(self) -> None:
        """Add the route."""
        server.add_route("GET", PATH, self.answer)

    def left(self, since: float) -> None:
        """Count events that have left for a browser; ``since`` is when they came up at their worker."""
        now = self._clock.now()
        if now is not None:
            self._totals.under_way.observe(max(0.0, now - since))

    async def run(self) -> None:
        """Measure how late the event loop is, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            begin = loop.time()
            await asyncio.sleep(PAUSE)
            self._totals.late.observe(max(0.0, loop.time() - begin - PAUSE))

    async def answer(self, request: web.Request) -> web.Response:
        """All figures, in Prometheus's text format or, where it is asked for, in OpenMetrics."""
        async with self._reading:
            await self._count_samples()
            await self._count_ended()
        registry = CollectorRegistry()
        registry.register(_Told(families(await self._board.look(), self._totals, self._backup())))
        if OPENMETRICS in request.headers.get("Accept", ""):
            body: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
            content_type = openmetrics.CONTENT_TYPE_LATEST
        else:
            body, content_type = exposition.generate_latest(registry), TEXT
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _count_ended(self) -> None:
        while True:
            entries = await self._ledger.after(self._last_entry, MOST_READ)
            for entry in entries:
                self._totals.add(entry)
                self._last_entry = entry.entry
            if len(entries) < MOST_READ:
                return

    async def _count_samples(self) -> None:
        for at, sample in await self._series.since(self._last_sample):
            if at > self._last_sample:
                self._totals.depths.observe(sample.queued)
                self._last_sample = at


class _Told(Collector):
    """A collector for the library, of what is known already."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        """What it is."""
        return self._metrics
