"""Tells the frontends what this worker's devices do."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from ..job_queue.errors import QueueError
from ..job_queue.worker_queue import Reports
from .engine import Engine

log = logging.getLogger("comfyume")

#: Seconds between two looks.
PAUSE = 2.0
#: Seconds after which what has not changed is told again, so that people see that somebody looks.
AGAIN = 30.0


async def tell_for_ever(engine: Engine, reports: Reports, pulling: Callable[[], str]) -> None:
    """Measure and tell what has changed, until cancelled; ``pulling`` says which models are on their way."""
    told: dict[str, Any] | None = None
    told_at = float("-inf")
    while True:
        try:
            measured = {**await asyncio.to_thread(engine.measure), "pulling": pulling()}
            if measured != told or time.monotonic() - told_at > AGAIN:
                await reports.report(measured)
                told, told_at = measured, time.monotonic()
        except QueueError as error:
            log.debug("nobody was told of the devices: %s", error)
        await asyncio.sleep(PAUSE)
