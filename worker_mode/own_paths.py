"""Backs up this machine's own files (``COMFYUME_BACKUP_PATHS``) before its drain ends: a rented machine is gone then.

In a process of its own, so that neither the job nor the heartbeat waits for it, and for no longer than there is time.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from .. import backup_runs
from ..job_queue.errors import QueueError
from ..job_queue.worker_queue import Reports
from ..settings import Settings

log = logging.getLogger("comfyume")

#: Why it was taken, for those who read the list.
REASON = "before its drain ends"
#: Seconds for a snapshot of a worker that an instructor drains: nobody has said yet when its machine goes.
UNHURRIED = 300.0
#: Seconds for the end of a process that was told to end.
ENDING = 1.0
OUT_OF_TIME = "There was no time for it: it was given up after {seconds:.0f} s."


class OwnPaths:
    """Takes a snapshot of a worker's own files, where a place and paths are set; for the event loop."""

    def __init__(self, settings: Settings, system: Path, reports: Reports) -> None:
        self._settings = settings
        self._system = system
        self._reports = reports
        # What a standalone process has is in the workshop's own snapshots.
        self._is_wanted = bool(settings.mode == "worker" and settings.backup and settings.backup_paths)
        self._task: asyncio.Task[str] | None = None
        self._began = 0.0

    def begin(self) -> None:
        """Begin to take one, if none is being taken."""
        if self._is_wanted and (self._task is None or self._task.done()):
            self._began = asyncio.get_running_loop().time()
            self._task = asyncio.create_task(self._take(), name="comfyume-own-paths")

    async def end(self, patience: float) -> str | None:
        """Wait at most so many seconds for it, then give it up. Why there is none; empty if there is; None if none was
        wanted."""
        task = self._task
        if task is None:
            return None
        await asyncio.wait({task}, timeout=max(0.0, patience))
        if task.done() and not task.cancelled():
            return task.result()
        task.cancel()
        await asyncio.wait({task}, timeout=ENDING)
        seconds = asyncio.get_running_loop().time() - self._began
        error = OUT_OF_TIME.format(seconds=seconds)
        log.error("[comfyume] this machine's own files were not backed up. %s", error)
        return error

    async def tell(self, error: str | None) -> None:
        """Tell the frontends, and by them the instructors, what ``end`` has returned."""
        if error is None:
            return
        try:
            await self._reports.tell_of_backup(error)
        except QueueError as problem:
            log.warning("[comfyume] nobody was told of this machine's backup: %s", problem)

    async def before_it_is_taken_away(self) -> None:
        """An instructor drains this worker: take one now, since its machine may go at any time."""
        self.begin()
        await self.tell(await self.end(UNHURRIED))

    async def _take(self) -> str:
        settings = self._settings.model_dump(mode="json", exclude_unset=True)
        # The default of the worker's name is made up by whoever reads the settings.
        asked = {"settings": {**settings, "worker_id": self._settings.worker_id}, "system": str(self._system)}
        told = await backup_runs.run("machine", {**asked, "reason": REASON})
        if "error" in told:
            log.error("[comfyume] this machine's own files were not backed up. %s", told["error"])
            return str(told["error"])
        summary = told["summary"]
        log.info("[comfyume] snapshot %s of this machine's own files: %d files", summary["id"], summary["files"])
        for problem in summary["problems"]:
            log.warning("[comfyume] not in the snapshot: %s", problem)
        return ""
