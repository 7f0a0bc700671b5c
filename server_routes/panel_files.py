"""Scripts and words of the page: the instructor's part goes to instructors alone."""

from __future__ import annotations

import asyncio
import json
import mimetypes
import os
from pathlib import Path

from aiohttp import web

from ..comfyui_seams import server
from .own_files import is_plain
from .problems import problem

ROOT = Path(__file__).parent.parent
WORKSHOP = ROOT / "web" / "workshop"
LOCALES = ROOT / "locales"
#: Spoken where nobody has written another language's words.
FALLBACK = "en"


class PanelFiles:
    """Serves what ComfyUI does not serve by itself."""

    def mount(self) -> None:
        """Add the routes."""
        server.add_route("GET", "/comfyume/strings/{language}.json", self.page_words)
        server.add_route("GET", "/comfyume/workshop/strings/{language}.json", self.workshop_words)
        server.add_route("GET", "/comfyume/workshop/{path:.+}", self.script)

    async def page_words(self, request: web.Request) -> web.StreamResponse:
        """The words of everybody's page."""
        return await _words(request, "page.json")

    async def workshop_words(self, request: web.Request) -> web.StreamResponse:
        """The words of the instructor's panel."""
        return await _words(request, "workshop.json")

    async def script(self, request: web.Request) -> web.StreamResponse:
        """A file of the instructor's panel."""
        path = request.match_info["path"]
        file = WORKSHOP / path
        # Unlike `Path.is_file` this takes a name that no file can have for none.
        if not is_plain(path) or not await asyncio.to_thread(os.path.isfile, file):
            return problem(404, "not-found", "There is nothing at this address.")
        kind = "text/javascript" if file.suffix == ".mjs" else mimetypes.guess_type(file.name)[0] or "text/plain"
        return web.FileResponse(file, headers={"Content-Type": kind, "Cache-Control": "no-cache"})


async def _words(request: web.Request, name: str) -> web.StreamResponse:
    """All words: those of the language, and English for what it lacks; ``language`` is the one that they are in."""
    language = request.match_info["language"]
    known = {folder.name for folder in LOCALES.iterdir()}
    languages = [FALLBACK, *(each for each in (language.partition("-")[0], language) if each in known)]
    words: dict[str, str] = {}
    for each in languages:
        file = LOCALES / each / name
        if file.is_file():
            words |= json.loads(await asyncio.to_thread(file.read_text, encoding="utf-8"))
    return web.json_response({**words, "language": languages[-1]}, headers={"Cache-Control": "no-cache"})
