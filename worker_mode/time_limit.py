"""Ends jobs that run for too long: first by an interrupt, then, if a node does not heed it, with the process."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable

from .courier import Courier
from .engine import Engine
from .overdue import worker_command
from .running_job import RunningJob

log = logging.getLogger("comfyume")

#: Seconds between two looks at the running job.
LOOK_PAUSE = 0.5
#: Seconds that a node has to heed the interrupt.
PATIENCE = 10.0


class TimeLimit:
    """Watches the running job. For the event loop."""

    def __init__(
        self,
        seconds: float,
        engine: Engine,
        running: Callable[[], RunningJob | None],
        courier: Courier,
        leave: Callable[[], Awaitable[None]],
    ) -> None:
        self._seconds = seconds
        self._engine = engine
        self._running = running
        self._courier = courier
        self._leave = leave

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await asyncio.sleep(LOOK_PAUSE)
            running = self._running()
            if running is None or running.lost:
                continue
            over = time.monotonic() - running.began - self._seconds
            if over > 0 and running.timed_out is None:
                log.warning(
                    "[comfyume] job %s runs for more than %g s; it is stopped", running.job.job_id, self._seconds
                )
                running.timed_out = self._seconds
                self._engine.interrupt()
            elif over > PATIENCE and running.timed_out is not None:
                await self._restart_without(running)

    async def _restart_without(self, running: RunningJob) -> None:
        """End a job that cannot be stopped, and begin anew: a thread cannot be ended from outside, a process can."""
        log.critical(
            "[comfyume] job %s does not stop, so it is ended with an error and this process starts again",
            running.job.job_id,
        )
        await self._courier.abandon(running)
        await self._leave()
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(sys.executable, worker_command())  # noqa: S606 - the command this process was started by
