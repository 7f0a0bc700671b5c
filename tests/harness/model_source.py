"""A server that gives models, for the tests: as Hugging Face does, with redirects and what it says of a file ahead."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import threading
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

PIECE = 64 * 1024


def safetensors(seed: int, size: int = 200_000) -> bytes:
    """A safetensors file with one tensor of random bytes."""
    data = random.Random(seed).randbytes(size)
    header = json.dumps({"t": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + data


@dataclass
class SourceServer:
    """Serves ``files`` by their names, on a thread of its own. What tests may set:

    Attributes:
        plain: names of which nothing is told but the size, as by other servers than Hugging Face.
        gated: names that are given to nobody without ``token``.
        lies: hashes that are told for names instead of their own.
        rate: bytes a second of each answer; none for no limit.
        cut: names whose answers end after so many bytes, once for each number.
        sent: bytes that were sent of each name.
        asked: what was asked, as ``GET NAME RANGE``.
        tokens: the Authorization headers that came, by the kind of address.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    plain: set[str] = field(default_factory=set)
    gated: set[str] = field(default_factory=set)
    lies: dict[str, str] = field(default_factory=dict)
    moved_to: dict[str, str] = field(default_factory=dict)
    cut: dict[str, list[int]] = field(default_factory=dict)
    token: str = "let-me-in"
    rate: int | None = None
    most_at_once: int = 0
    sent: Counter[str] = field(default_factory=Counter)
    asked: list[str] = field(default_factory=list)
    tokens: dict[str, set[str]] = field(default_factory=dict)
    port: int = 0
    _open: int = 0

    def url(self, name: str) -> str:
        """The address of a file, as a graph has it."""
        return f"http://127.0.0.1:{self.port}/org/repo/resolve/main/{name}"

    def __enter__(self) -> SourceServer:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_get("/org/repo/resolve/main/{name:.+}", self._resolve)
        app.router.add_get("/cdn/{name:.+}", self._give)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    def _note_token(self, kind: str, request: web.Request) -> str:
        token = request.headers.get("Authorization", "")
        self.tokens.setdefault(kind, set()).add(token)
        return token

    async def _resolve(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        token = self._note_token("hub", request)
        if name in self.gated and token != f"Bearer {self.token}":
            return web.Response(status=401, headers={"X-Error-Code": "GatedRepo"})
        if name in self.moved_to:
            raise web.HTTPFound(self.moved_to[name])
        if name not in self.files:
            return web.Response(status=404)
        if name in self.plain:
            return await self._give(request)
        told = self.lies.get(name) or hashlib.sha256(self.files[name]).hexdigest()
        headers = {"X-Linked-Size": str(len(self.files[name])), "X-Linked-Etag": f'"{told}"'}
        raise web.HTTPFound(f"http://localhost:{self.port}/cdn/{name}", headers=headers)

    async def _give(self, request: web.Request) -> web.StreamResponse:
        name, data = request.match_info["name"], self.files[request.match_info["name"]]
        if name not in self.plain:
            self._note_token("cdn", request)
        self.asked.append(f"{request.method} {name} {request.headers.get('Range', '')}".strip())
        start = request.http_range.start or 0
        stop = request.http_range.stop or len(data)
        headers = {"Content-Length": str(stop - start), "ETag": f'"{hashlib.md5(data).hexdigest()}"'}  # noqa: S324
        if "Range" in request.headers:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        response = web.StreamResponse(status=206 if "Range" in request.headers else 200, headers=headers)
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        ends = self.cut.get(name)
        last = min(stop, start + ends.pop(0)) if ends else stop
        self._open += 1
        self.most_at_once = max(self.most_at_once, self._open)
        try:
            for at in range(start, last, PIECE):
                piece = data[at : min(at + PIECE, last)]
                await response.write(piece)
                self.sent[name] += len(piece)
                if self.rate:
                    await asyncio.sleep(len(piece) / self.rate)
        finally:
            self._open -= 1
        if last < stop and request.transport is not None:
            request.transport.close()
        return response
