"""A bad line to an S3 server: each request may be spoiled in one of the ways in which services and networks fail."""

from __future__ import annotations

import asyncio
import datetime
import io
import random
import threading
from types import TracebackType

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

#: Of the server, of the line, and of the bytes.
FAULTS = ("500", "503", "slow", "reset up", "reset down", "truncated", "wrong length", "damaged", "lost reply")
#: Seconds that S3 lets a clock be off, at which moto does not look.
MOST_SKEW = 900
_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "server", "date"})


class FaultyS3:
    """An HTTP proxy before an S3 server, on an event loop in a thread of its own.

    Attributes:
        faults: how often each was inflicted.
    """

    def __init__(self, endpoint: str, seed: int) -> None:
        self._target = endpoint
        self._random = random.Random(seed)
        self._next: list[str] = []
        self._lasting = ""
        self.faults: dict[str, int] = {}
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)

    def spoil(self, faults: list[str]) -> None:
        """Spoil the next requests, one fault each; between two of them some go through."""
        self._next = list(faults)

    def insist(self, fault: str) -> None:
        """Answer every request with a fault, until ``heal``."""
        self._lasting = fault

    def heal(self) -> None:
        """From now on nothing is spoiled."""
        self._next, self._lasting = [], ""

    def __enter__(self) -> FaultyS3:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self) -> None:
        application = web.Application(client_max_size=2**30)
        application.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        # Without a connection for each request the server's own habits would count as faults.
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as self._session:
            self._ready.set()
            await self._stop.wait()
        await runner.cleanup()

    def _fault(self) -> str:
        fault = self._lasting
        if not fault and self._next and self._random.random() < 0.6:
            fault = self._next.pop(0)
        if fault:
            self.faults[fault] = self.faults.get(fault, 0) + 1
        return fault

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        fault = "clock off" if _is_off(request.headers.get("X-Amz-Date", "")) else self._fault()
        if fault in _ERRORS:
            status, code = _ERRORS[fault]
            return web.Response(status=status, text=_error(code), content_type="application/xml")
        if fault == "reset up":
            await request.content.read(1 + self._random.randrange(65536))
            return _cut(request)
        body = await request.read()
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        address = self._target + request.raw_path
        async with self._session.request(
            request.method,
            aiohttp.client.URL(address, encoded=True),
            data=io.BytesIO(body) if body else None,
            headers=headers,
        ) as reply:
            data = await reply.read()
            kept = CIMultiDict((name, value) for name, value in reply.headers.items() if name.lower() not in _HOP)
            if request.method == "HEAD":
                kept["Content-Length"] = reply.headers.get("Content-Length", "0")
            if fault == "lost reply":
                return _cut(request)
            return await self._send(request, reply.status, kept, data, fault)

    async def _send(
        self, request: web.Request, status: int, headers: CIMultiDict[str], data: bytes, fault: str
    ) -> web.StreamResponse:
        is_content = request.method == "GET" and status in (200, 206) and len(data) > 1 and "?" not in request.raw_path
        if fault in ("truncated", "reset down") and is_content:
            response = web.StreamResponse(status=status, headers=headers)
            response.content_length = len(data)
            await response.prepare(request)
            await response.write(data[: self._random.randrange(len(data))])
            return _cut(request)
        if fault == "wrong length" and is_content:
            data = data[: self._random.randrange(len(data))]
        if fault == "damaged" and is_content:
            at = self._random.randrange(len(data))
            data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        if fault == "slow":
            await asyncio.sleep(self._random.uniform(0.1, 0.6))
        return web.Response(status=status, headers=headers, body=data)


def _cut(request: web.Request) -> web.StreamResponse:
    """Reset the connection."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


_ERRORS = {
    "500": (500, "InternalError"),
    "503": (503, "SlowDown"),
    "expired": (400, "ExpiredToken"),
    "clock off": (403, "RequestTimeTooSkewed"),
}


def _error(code: str) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'


def _is_off(told: str) -> bool:
    """Whether the time of a request is one that S3 would refuse."""
    when = datetime.datetime.strptime(told, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
    return abs((datetime.datetime.now(datetime.timezone.utc) - when).total_seconds()) > MOST_SKEW
