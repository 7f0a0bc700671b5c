"""What the tests of transfers have in common: a small frontend with a folder, and a proxy that cuts connections."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from comfyume.blobs.digest import digest_file
from comfyume.blobs.errors import UploadRefused
from comfyume.blobs.http_server import UploadReceiver, announced_digest, serve_blob
from comfyume.blobs.protocol import SMALL
from comfyume.blobs.store import BlobFolder

MIB = 1024 * 1024
SIZES = [0, 1, 1000, SMALL - 1, SMALL, SMALL + 1, 5 * MIB + 3]


@dataclass
class BlobFrontend:
    """A server with the two routes, whose folder and answers the tests can see and change."""

    folder: BlobFolder
    receiver: UploadReceiver
    url: str = ""
    files: dict[str, Path] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    before: Callable[[web.Request], Awaitable[web.StreamResponse | None]] | None = None

    async def get(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(f"GET {request.headers.get('Range', '')}".strip())
        if self.before and (answer := await self.before(request)) is not None:
            return answer
        path = self.files[request.match_info["name"]]
        return serve_blob(path, digest_file(path).sha256)

    async def put(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(f"PUT {request.headers.get('Content-Range', '')}".strip())
        if self.before and (answer := await self.before(request)) is not None:
            return answer
        try:
            path = await self.receiver.receive(request, announced_digest(request))
        except UploadRefused as refusal:
            return web.json_response(refusal.body, status=refusal.status)
        return web.json_response({"name": path.name, "job": request.query.get("job")})


@contextlib.asynccontextmanager
async def serving(app: web.Application, port: int = 0) -> AsyncIterator[str]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class CuttingProxy:
    """A TCP proxy that cuts each connection named in `cuts` after so many bytes of payload in one direction."""

    def __init__(self, upstream: str, cuts: list[int], *, direction: str) -> None:
        self._host, port = upstream.removeprefix("http://").split(":")
        self._port = int(port)
        self._cuts = cuts
        self._direction = direction
        self.passed: list[int] = []
        self.url = ""

    async def __aenter__(self) -> CuttingProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(self.passed)
        self.passed.append(0)
        limit = self._cuts[number] if number < len(self._cuts) else None
        up_reader, up_writer = await asyncio.open_connection(self._host, self._port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, counted: bool) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
                    if counted:
                        self.passed[number] += len(data)
                        if limit is not None and self.passed[number] >= limit:
                            return

        pumps = [
            asyncio.ensure_future(pump(reader, up_writer, self._direction == "up")),
            asyncio.ensure_future(pump(up_reader, writer, self._direction == "down")),
        ]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        writer.transport.abort()
        up_writer.close()
        for task in pumps:
            task.cancel()
        await asyncio.wait(pumps)


def leftovers(folder: BlobFolder) -> list[str]:
    """Names of the files in a folder that are no published content: what a transfer must not leave behind."""
    return [path.name for path in folder.root.rglob("*") if path.is_file() and len(path.name) != 64]
