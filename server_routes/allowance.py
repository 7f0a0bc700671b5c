"""``/comfyume/allowance``: what a person may use and has used. ``/comfyume/files``: deleting what they need no more."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aiohttp import web

from ..blobs.filing import is_below
from ..comfyui_seams import server
from ..comfyui_seams.context import Visit, current_visit
from ..job_queue.allowances import Allowance, Allowances
from ..job_queue.errors import QueueError
from .disk_use import DiskUse, size_of
from .native_shapes import STORE_AWAY, error_answer
from .own_files import KINDS, is_plain


class AllowanceRoutes:
    """What is each person's own to see and to delete."""

    def __init__(self, allowances: Allowances, disk: DiskUse) -> None:
        self._allowances = allowances
        self._disk = disk

    def mount(self) -> None:
        """Add the routes."""
        server.add_route("GET", "/comfyume/allowance", self.answer)
        server.add_route("DELETE", "/comfyume/files", self.delete)

    async def answer(self, _request: web.Request) -> web.Response:
        """``limits`` and what is ``used`` of each; see ``Allowance`` for units. ``disk`` is in GiB."""
        user = _visit().user
        try:
            allowance = (await self._allowances.of([user]))[user]
        except QueueError as error:
            return error_answer(503, "store_unavailable", STORE_AWAY, str(error))
        return web.json_response(told(allowance, await self._disk.measure(user)))

    async def delete(self, request: web.Request) -> web.Response:
        """Delete a file or folder of one's own, by ``kind`` and ``path``; of ``temp`` without a path all previews.

        Answers how many bytes are ``freed``.
        """
        kind, path = request.query.get("kind", ""), request.query.get("path", "")
        if kind not in KINDS:
            return error_answer(400, "invalid_kind", f"kind must be one of {', '.join(KINDS)}.")
        if not path and kind != "temp":
            return error_answer(400, "invalid_path", "Say which file or folder: path=NAME.")
        root = dict(_visit().folders)[kind]
        if path.startswith("/") or not is_plain(path) or not is_below(root / path, root):
            return error_answer(404, "not_found", "You have no such file.")
        try:
            freed = await asyncio.to_thread(_delete, root, path)
        except FileNotFoundError:
            return error_answer(404, "not_found", "You have no such file.")
        except OSError as error:
            return error_answer(409, "not_deleted", f"It could not be deleted: {error.strerror}.")
        return web.json_response({"freed": freed})


def told(allowance: Allowance, disk: int | None) -> dict[str, Any]:
    """An allowance as JSON; the size of files in bytes, if it is known."""
    used: dict[str, float | None] = {
        "queued": allowance.queued,
        "gpu_day": round(allowance.gpu_day, 5),
        "gpu_workshop": round(allowance.gpu_workshop, 5),
        "booked": round(allowance.booked, 5),
        "credits": None if allowance.credits is None else round(allowance.credits, 5),
    }
    if disk is not None:
        used["disk"] = round(disk / 1024**3, 6)
    return {"limits": asdict(allowance.limits), "own": sorted(allowance.own), "used": used}


def _visit() -> Visit:
    visit = current_visit.get()
    if visit is None:
        raise web.HTTPForbidden
    return visit


def _delete(root: Path, path: str) -> int:
    target = root / path
    if not path:
        freed = size_of(str(root))
        for entry in root.iterdir():
            _remove(entry)
        return freed
    freed = size_of(str(target)) if target.is_dir() else target.stat().st_size
    _remove(target)
    return freed


def _remove(target: Path) -> None:
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    else:
        target.unlink()
