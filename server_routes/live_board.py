"""The queue and the workers as people look at them: read when something has changed, and told as it changes.

Everybody's page is told of its person's own jobs, an instructor's also of everything. Where nobody looks, nothing is
read.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, Literal

from ..job_queue.board import Board
from ..job_queue.errors import QueueError
from ..job_queue.events import Batch, Notice
from ..job_queue.forecast import Expected, forecast
from ..job_queue.frontend_queue import FrontendQueue
from .board_rows import Rows, rows_of
from .presence import Presence

log = logging.getLogger("comfyume")

#: Seconds between two reads while an instructor looks, and while only participants do.
PAUSE = 0.1
SLOW_PAUSE = 0.5
#: A read that takes long is not repeated at once: this many times as long passes before the next.
RESTS = 4
#: Seconds after which it is read again though nobody has told of a change: expected times move, leases run out.
AGAIN = 5.0
#: Seconds for which a read serves who asks by a request for a list of jobs.
FRESH = 1.0
#: Who looks: nobody, people at their own jobs, or an instructor at everything.
Attention = Literal["", "jobs", "workshop"]
#: Notices that tell of a change of what is read here.
CHANGES = ("changed", "workers", "lost", "measured", "policy")


class LiveBoard:
    """Keeps the rows.

    Args:
        presence: who is here.
        has_store: whether the store answers.
    """

    def __init__(self, queue: FrontendQueue, presence: Presence, has_store: Callable[[], bool]) -> None:
        self._presence = presence
        self._here: tuple[str, ...] = ()
        self._queue = queue
        self._has_store = has_store
        self._changed: Callable[[Rows], None] = lambda _: None
        self._attention: Callable[[], Attention] = lambda: ""
        self._progress: dict[str, dict[str, Any]] = {}
        self._board: Board | None = None
        self._expected: dict[str, Expected] = {}
        self._wake = asyncio.Event()
        self._is_stale = True
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()
        self.rows = Rows()

    def attach(self, changed: Callable[[Rows], None], attention: Callable[[], Attention]) -> None:
        """Call ``changed`` with the rows whenever they are others, while ``attention`` says that somebody looks."""
        self._changed, self._attention = changed, attention

    def observe(self, message: Batch | Notice) -> None:
        """Take note of a message of the events' channel."""
        if isinstance(message, Notice):
            if message.kind in CHANGES:
                self.touch()
            return
        board = self._board
        job = board.jobs.get(message.job_id) if board is not None else None
        if message.ends is not None or job is None or not job.is_running:
            self._progress.pop(message.job_id, None)
            self.touch()
        if message.ends is None and (progress := _progress_in(message)) is not None:
            self._progress[message.job_id] = progress
            self._wake.set()

    def touch(self) -> None:
        """Something has changed, or may have."""
        self._is_stale = True
        self._wake.set()

    async def look(self) -> Rows:
        """The rows as they are now.

        Raises:
            QueueError: the store does not tell.
        """
        async with self._reading:
            await self._read()
        self._draw()
        return self.rows

    async def recent(self, job_ids: Collection[str]) -> Rows:
        """The rows as they were a moment ago, so that one read serves all who ask; with these jobs, if they are there.

        Raises:
            QueueError: the store does not tell.
        """
        is_old = time.monotonic() - self._read_at > FRESH
        return await self.look() if is_old or any(job_id not in self.rows.jobs for job_id in job_ids) else self.rows

    async def run(self) -> None:
        """Keep the rows fresh for whoever looks, until cancelled."""
        rested = 0.0
        while True:
            pause = max(rested - time.monotonic(), 0.0) if self._is_stale else AGAIN
            try:
                await asyncio.wait_for(self._wake.wait(), pause)
            except asyncio.TimeoutError:
                self._is_stale = True
            self._wake.clear()
            attention = self._attention()
            begin = time.monotonic()
            if attention and self._is_stale and begin >= rested:
                try:
                    async with self._reading:
                        await self._read()
                except QueueError as error:
                    log.debug("the queue is not known: %s", error)
                rested = time.monotonic() + (time.monotonic() - begin) * RESTS
                self._draw()
            elif attention:
                self._draw_progress()
            await asyncio.sleep(PAUSE if attention == "workshop" else SLOW_PAUSE)

    async def _read(self) -> None:
        self._is_stale = False
        try:
            board, outlook, self._here = await asyncio.gather(
                self._queue.board(), self._queue.outlook(), self._presence.here()
            )
        except QueueError:
            self._is_stale = True
            raise
        self._expected = await asyncio.to_thread(forecast, outlook)
        self._board = board
        self._read_at = time.monotonic()
        self._progress = {job: told for job, told in self._progress.items() if job in board.jobs}

    def _draw(self) -> None:
        rows = rows_of(self._board, self._expected, self._progress, self.rows, has_store=self._has_store())
        self._show(replace(rows, here=self._here))

    def _draw_progress(self) -> None:
        """Draw the running jobs alone: the others stand still until the next read."""
        if self.rows.has_store != self._has_store():
            self._draw()
            return
        changed = {
            job: {**row, "progress": told}
            for job, told in self._progress.items()
            if (row := self.rows.jobs.get(job)) and row["state"] == "running" and row["progress"] != told
        }
        if changed:
            self._show(replace(self.rows, jobs={**self.rows.jobs, **changed}))

    def _show(self, rows: Rows) -> None:
        if rows != self.rows:
            self.rows = rows
            self._changed(rows)


def _progress_in(batch: Batch) -> dict[str, Any] | None:
    """How far a job has come, ``node``, ``title``, ``value`` and ``max``, by its latest events; None if none tells."""
    for event in reversed(batch.events):
        if event.name not in ("progress", "executing"):
            continue
        data = json.loads(event.payload)["data"]
        node = str(data.get("node") or "")
        if event.name == "progress":
            return {"node": node, "title": batch.titles.get(node, ""), "value": data["value"], "max": data["max"]}
        if node:
            return {"node": node, "title": batch.titles.get(node, ""), "value": 0, "max": 0}
    return None
