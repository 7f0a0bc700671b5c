"""``/comfyume/health``: whether this frontend is alive, sees its store, and how many workers are there."""

from __future__ import annotations

from aiohttp import web

from ..comfyui_seams import server
from .relay import Relay
from .workshop_nodes import WorkshopNodes

PATH = "/comfyume/health"


class Health:
    """Answers from memory, so it is fast and needs no store."""

    def __init__(self, relay: Relay, nodes: WorkshopNodes) -> None:
        self._relay = relay
        self._nodes = nodes

    def mount(self) -> None:
        """Add the route."""
        server.add_route("GET", PATH, self.answer)

    async def answer(self, _request: web.Request) -> web.Response:
        """``status`` is ``ok`` while the store is there; ``workers`` counts the live ones."""
        store = self._relay.connected.is_set()
        return web.json_response(
            {
                "status": "ok" if store else "store away",
                "store": "ok" if store else "away",
                "workers": len(self._nodes.workers),
            }
        )
