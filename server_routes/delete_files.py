"""``DELETE /comfyume/files``: making room by deleting what one needs no more."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from aiohttp import web

from ..blobs.filing import is_below
from ..comfyui_seams import server
from .disk_use import size_of
from .gate import PERSON
from .own_files import KINDS, is_plain
from .people import People
from .problems import problem


class DeleteFiles:
    """Deletes files of the person who asks."""

    def __init__(self, people: People) -> None:
        self._people = people

    def mount(self) -> None:
        """Add the route."""
        server.add_route("DELETE", "/comfyume/files", self.delete)

    async def delete(self, request: web.Request) -> web.Response:
        """Delete a file or folder of one's own, by ``kind`` and ``path``; of ``temp`` without a path all previews.

        Answers how many bytes are ``freed``.
        """
        kind, path = request.query.get("kind", ""), request.query.get("path", "")
        if kind not in KINDS:
            return problem(400, "invalid-kind", f"kind must be one of {', '.join(KINDS)}.")
        if not path and kind != "temp":
            return problem(400, "invalid-path", "Say which file or folder: path=NAME.")
        root = self._people.folder_of(request[PERSON].name, kind)
        if path.startswith("/") or not is_plain(path) or not is_below(root / path, root):
            return problem(404, "not-found", "You have no such file.")
        try:
            freed = await asyncio.to_thread(_delete, root, path)
        except FileNotFoundError:
            return problem(404, "not-found", "You have no such file.")
        except OSError as error:
            return problem(409, "not-deleted", f"It could not be deleted: {error.strerror}.")
        return web.json_response({"freed": freed})


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
