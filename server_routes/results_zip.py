"""``/comfyume/results.zip``: what a person's jobs have made, in one file, written as it is sent."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

from aiohttp import web

from ..blobs.cold_storage import ColdStorage
from ..blobs.errors import BlobError
from ..blobs.filing import is_below
from ..comfyui_seams import server
from ..job_queue.frontend_queue import FrontendQueue
from .gate import PERSON
from .job_views import files_of
from .people import People
from .problems import problem

log = logging.getLogger("comfyume")

#: Bytes that are read and sent at once.
CHUNK = 256 * 1024
#: Jobs whose files one archive holds.
MOST_JOBS = 1_000


class _Pieces:
    """A file to write to, from which what was written is taken piece by piece."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, data: bytes) -> int:
        """Keep what is written."""
        self._written.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def take(self) -> bytes:
        """What was written since the last time."""
        data, self._written = b"".join(self._written), []
        return data


class ResultsZip:
    """Sends archives of people's own files; ``sent`` is told how many bytes have left."""

    def __init__(
        self, queue: FrontendQueue, people: People, sent: Callable[[int], None], cold: ColdStorage | None = None
    ) -> None:
        self._sent = sent
        self._cold = cold
        self._queue = queue
        self._people = people

    def mount(self) -> None:
        """Add the route."""
        server.add_route("GET", "/comfyume/results.zip", self.answer)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The saved files of the jobs that are named by ``job``, else of all that have ended, the newest first."""
        user = request[PERSON].name
        ids = request.query.getall("job", [])[:MOST_JOBS]
        if not ids:
            ids = [job_id for job_id, _ in await self._queue.ended(user, None, MOST_JOBS)]
        records = await self._queue.records(ids)
        named = [
            (file["type"], file["subfolder"], file["filename"])
            for job_id in ids
            if job_id in records and records[job_id].user == user
            for file in files_of(records[job_id].result)
            if file["type"] == "output"
        ]
        root = self._people.folder_of(user, "output")
        files = await asyncio.to_thread(_existing, root, named)
        if not files:
            return problem(404, "no-files", "These jobs have left no files.")
        headers = {"Content-Type": "application/zip", "Content-Disposition": 'attachment; filename="results.zip"'}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        pieces = pieces_of(files, self._cold)
        # Whoever asked may have gone.
        with contextlib.suppress(ConnectionResetError):
            while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                await response.write(piece)
                self._sent(len(piece))
            await response.write_eof()
        return response


def _existing(root: Path, named: list[tuple[str, str, str]]) -> dict[str, Path]:
    """The files that are there, by their names in the archive. Blocking."""
    found: dict[str, Path] = {}
    for _, subfolder, name in named:
        path = root / subfolder / name
        if is_below(path, root) and path.is_file():
            found[path.relative_to(root).as_posix()] = path
    return found


def pieces_of(files: dict[str, Path], cold: ColdStorage | None = None) -> Iterator[bytes]:
    """An archive of these files, piece by piece; one that cannot be read any more is left out. Blocking.

    Pictures and films are packed already, so nothing is compressed.

    Args:
        cold: brings back what is no more on this machine's disk.
    """
    pieces = _Pieces()
    with zipfile.ZipFile(cast(IO[bytes], pieces), "w", zipfile.ZIP_STORED) as archive:
        for name, path in files.items():
            try:
                if cold is not None:
                    cold.bring(path)
                entry = zipfile.ZipInfo.from_file(path, name, strict_timestamps=False)
                source = path.open("rb")
            except (OSError, BlobError) as error:
                log.warning("[comfyume] %s is not in the archive: %s", name, error)
                continue
            with source, archive.open(entry, "w", force_zip64=True) as target:
                while chunk := source.read(CHUNK):
                    target.write(chunk)
                    yield pieces.take()
            yield pieces.take()
    yield pieces.take()
