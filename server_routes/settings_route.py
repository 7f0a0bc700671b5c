"""``/comfyume/settings``: what this frontend is set to, for an instructor who looks after the workshop."""

from __future__ import annotations

from aiohttp import web

from ..comfyui_seams import server
from ..settings import Settings

PATH = "/comfyume/settings"


class SettingsRoute:
    """Answers from memory."""

    def __init__(self, settings: Settings) -> None:
        self._told = settings.without_secrets()

    def mount(self) -> None:
        """Add the route."""
        server.add_route("GET", PATH, self.answer)

    async def answer(self, _request: web.Request) -> web.Response:
        """The settings by their names, with the values that are in force."""
        return web.json_response(self._told)
