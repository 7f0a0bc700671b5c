"""``/comfyume/allowance``: what a person may use and has used."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from aiohttp import web

from ..comfyui_seams import server
from ..job_queue.allowances import Allowance, Allowances
from ..job_queue.jobs import GIB
from .disk_use import DiskUse
from .gate import PERSON


class AllowanceRoutes:
    """What each person may see of their own use."""

    def __init__(self, allowances: Allowances, disk: DiskUse) -> None:
        self._allowances = allowances
        self._disk = disk

    def mount(self) -> None:
        """Add the route."""
        server.add_route("GET", "/comfyume/allowance", self.answer)

    async def answer(self, request: web.Request) -> web.Response:
        """``limits`` and what is ``used`` of each; see ``Allowance`` for units. ``disk`` is in GiB."""
        user = request[PERSON].name
        allowance = (await self._allowances.of([user]))[user]
        return web.json_response(told(allowance, await self._disk.measure(user)))


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
        used["disk"] = round(disk / GIB, 6)
    return {"limits": asdict(allowance.limits), "own": sorted(allowance.own), "used": used}
