"""ComfyUI's handlers that decode, encode or write pictures: run in threads, since they hold the event loop for long.

A preview of nine million pixels takes two seconds. The handlers wait for nothing but the body of their
request, so a thread can run each to its end once that is here.
"""

from __future__ import annotations

import asyncio
import re

from aiohttp import web
from aiohttp.typedefs import Handler
from PIL.Image import DecompressionBombError

from ..comfyui_seams import server
from ..comfyui_seams.context import Folders
from .native_shapes import error_answer
from .own_files import check_upload

#: So many at once: each can hold several copies of a decoded picture, 700 MB for the largest that Pillow takes.
MOST_AT_ONCE = 2
#: Paths without ``/api``, by method.
_UPLOADS = re.compile(r"/upload/(image|mask)")
_MODEL_PREVIEWS = re.compile(r"/experiment/models/preview/.*")


class Pictures:
    """Runs handlers that work on pictures."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(MOST_AT_ONCE)

    @staticmethod
    def are_asked_for(request: web.Request) -> bool:
        """Whether a request works on a picture, rather than sends a file as it is."""
        path = request.path.removeprefix("/api")
        if request.method == "POST":
            return _UPLOADS.fullmatch(path) is not None
        if path == "/view":
            return "preview" in request.query or request.query.get("channel") in ("rgb", "a")
        return _MODEL_PREVIEWS.fullmatch(path) is not None

    async def answer(self, request: web.Request, handler: Handler, folders: Folders) -> web.StreamResponse:
        """The handler's answer; 413 for a picture with more pixels than Pillow decodes.

        Raises:
            NotOwn: an upload would go elsewhere than into these folders.
        """
        if request.method == "POST":
            # From here on the handler finds it read.
            check_upload(await request.post(), folders)
        async with self._slots:
            try:
                return await server.answer_in_thread(request, handler)
            except DecompressionBombError as error:
                message = "This picture has too many pixels to be shown here."
                return error_answer(413, "picture_too_large", message, str(error))
