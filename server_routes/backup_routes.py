"""``/comfyume/backups``: whether what people made is kept, and a snapshot when an instructor wants one."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from aiohttp import web

from ..comfyui_seams import server
from ..settings import Settings
from .activity_notes import ActivityNotes
from .backups import Backups
from .gate import PERSON
from .problems import problem

#: Why a snapshot was taken, for those who read the list.
FROM_THE_PANEL = "from the panel"
NO_PLACE = (
    "There is no place for a backup yet: set COMFYUME_BACKUP on the frontend to s3://NAME/PREFIX, or to a folder on "
    "another disk, and start it again."
)


class BackupRoutes:
    """Answers instructors; the gate lets nobody else through."""

    def __init__(self, backups: Backups, settings: Settings, notes: ActivityNotes) -> None:
        self._backups = backups
        self._settings = settings
        self._notes = notes

    def mount(self) -> None:
        """Add the routes."""
        server.add_route("GET", "/comfyume/backups", self.look)
        server.add_route("POST", "/comfyume/backups", self.begin)
        server.add_route("GET", "/comfyume/backups/snapshots", self.snapshots)

    async def look(self, _request: web.Request) -> web.Response:
        """How the last snapshot went, whether one is taken now, and when the next one is due."""
        return web.json_response(await self._told())

    async def begin(self, request: web.Request) -> web.Response:
        """Begin to take a snapshot; what becomes of it is told by ``look``."""
        if not self._settings.backup:
            return problem(409, "no-backup-place", NO_PLACE)
        if not await self._backups.begin(FROM_THE_PANEL):
            return problem(409, "backup-running", "A snapshot is being taken already. The next one can follow it.")
        self._notes.note(request[PERSON].name, "backup")
        return web.json_response(await self._told(), status=202)

    async def snapshots(self, _request: web.Request) -> web.Response:
        """The newest snapshots."""
        listed = await self._backups.newest() if self._settings.backup else {}
        return web.json_response({"snapshots": listed.get("snapshots", []), "error": listed.get("error", "")})

    async def _told(self) -> dict[str, Any]:
        state, running = await self._backups.look()
        is_set = bool(self._settings.backup)
        last = {"taken": state.at, "seconds": state.seconds, "new_files": state.new_files, "new_size": state.new_size}
        return {
            "now": time.time(),
            "where": self._settings.backup,
            "hours": self._settings.backup_hours,
            "running": running,
            "last": last if state.at else None,
            "next": max(time.time(), state.due(self._settings.backup_hours)) if is_set else None,
            "workers": [asdict(each) for each in state.workers],
            "failed": {"at": state.tried, "error": state.error} if state.error else None,
        }
