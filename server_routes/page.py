"""``/comfyume/page``: what this workshop's settings tell the scripts in the browser."""

from __future__ import annotations

import logging
from pathlib import Path

from aiohttp import web

from ..comfyui_seams import server
from ..settings import Settings
from .gate import PERSON

log = logging.getLogger("comfyume")

PATH = "/comfyume/page"
INSTRUCTORS_SCRIPTS = ["/comfyume/workshop/panel.mjs"]
#: The folder whose graphs ComfyUI serves as this extension's templates.
TEMPLATES = Path(__file__).parent.parent / "workflows"


class Page:
    """Answers from memory; ``first_template`` is the template that a person's first visit opens, or null."""

    def __init__(self, settings: Settings) -> None:
        self._first_template = settings.first_template or None
        known = sorted(path.stem for path in TEMPLATES.glob("*.json"))
        if self._first_template is not None and self._first_template not in known:
            log.warning(
                "[comfyume] there is no template %r for a first visit, so ComfyUI opens its own; there are %s",
                self._first_template,
                ", ".join(known),
            )
            self._first_template = None

    def mount(self) -> None:
        """Add the route."""
        server.add_route("GET", PATH, self.answer)

    async def answer(self, request: web.Request) -> web.Response:
        """The settings that concern the page, and further modules for it to load."""
        scripts = INSTRUCTORS_SCRIPTS if request[PERSON].is_instructor else []
        return web.json_response({"first_template": self._first_template, "scripts": scripts})
