"""A relay between workers and a frontend that spoils requests in every way in which a network or a proxy does."""

from __future__ import annotations

import asyncio
import contextlib
import re
from random import Random

#: A connection that is reset while the request is sent, or when its reply comes; a proxy's own error; a reply that ends
#: early, or says that it does; a byte that changes; somebody else's page; a line that is slow, or swallows everything.
KINDS = (
    *("reset", "lost reply", "500", "503", "truncated"),
    *("wrong length", "damaged small", "damaged large", "wrong page", "slow", "silent"),
)
_CHUNK = 16 * 1024
#: Seconds that a slow line takes for one piece.
_PIECE = 0.01
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_PAGE = b"<html><body>Please sign in to this network.</body></html>"


class FaultyLink:
    """Relays HTTP to a port of this machine, one request to a connection. Used as an asynchronous context.

    Attributes:
        spoiled: how many requests went wrong.
    """

    def __init__(self, target: int, random: Random) -> None:
        self.spoiled = 0
        self._target = target
        self._random = random
        self._kind = ""
        self._times = 0.0
        self._healed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """What to give a worker as the frontend's address."""
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def spoil(self, kind: str, times: float) -> None:
        """Let so many of the next requests go wrong; infinitely many until ``heal``."""
        self._healed.clear()
        self._kind, self._times = kind, times

    def heal(self) -> None:
        """Let everything pass."""
        self._times = 0
        self._healed.set()

    def _next(self) -> str | None:
        if not self._times:
            return None
        self._times -= 1
        self.spoiled += 1
        return self._kind

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self._relay(reader, writer)
        writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        found = _LENGTH.search(head)
        length = int(found[1]) if found else 0
        kind = self._next()
        if kind in ("500", "503", "wrong page"):
            await _answer(kind, writer)
            # A sender that writes on must be able to read the answer.
            await _pass(reader, None, length)
            return
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            up_writer.write(head[:-2] + b"Connection: close\r\n\r\n")
            up = asyncio.create_task(self._up(reader, up_writer, kind, length))
            down = asyncio.create_task(self._down(up_reader, writer, kind))
            try:
                # A server may refuse before it has read everything; a request that breaks off has no answer.
                await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
                if not down.done() and up.result():
                    gone = asyncio.create_task(reader.read(1))
                    await asyncio.wait([down, gone], return_when=asyncio.FIRST_COMPLETED)
                    gone.cancel()
            finally:
                for task in (up, down):
                    task.cancel()
                await asyncio.gather(up, down, return_exceptions=True)
        finally:
            up_writer.transport.abort()
        if kind not in ("reset", "lost reply"):
            await writer.drain()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _up(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: str | None, length: int
    ) -> bool:
        """Whether the request got to the frontend in full."""
        if kind == "silent":
            gone = asyncio.create_task(reader.read(-1))
            healed = asyncio.create_task(self._healed.wait())
            await asyncio.wait([gone, healed], return_when=asyncio.FIRST_COMPLETED)
            for task in (gone, healed):
                task.cancel()
            return False
        is_whole = kind not in ("reset", "damaged small", "damaged large") or not length
        before = length if is_whole else self._random.randrange(length)
        pause = _PIECE if kind == "slow" else 0.0
        await _pass(reader, writer, before, pause)
        if kind == "reset":
            return False
        if before < length:
            byte = await reader.readexactly(1)
            writer.write(bytes([byte[0] ^ 1]))
            await _pass(reader, writer, length - before - 1)
        return True

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: str | None) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if kind == "lost reply":
            return
        body = await reader.read(-1)
        if kind in ("truncated", "wrong length") and body:
            body = body[: self._random.randrange(len(body))]
        if kind == "wrong length":
            head = _LENGTH.sub(b"\r\nContent-Length: %d" % len(body), head)
        writer.write(head + body)
        await writer.drain()

    async def __aenter__(self) -> FaultyLink:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _answer(kind: str, writer: asyncio.StreamWriter) -> None:
    status = {"500": "500 Internal Server Error", "503": "503 Service Unavailable"}.get(kind, "200 OK")
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {len(_PAGE)}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() + _PAGE)
    await writer.drain()


async def _pass(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None, count: int, pause: float = 0.0
) -> None:
    """Relay so many bytes, or drop them."""
    while count:
        chunk = await reader.read(min(_CHUNK, count))
        if not chunk:
            raise ConnectionResetError
        count -= len(chunk)
        if writer is not None:
            writer.write(chunk)
            await writer.drain()
        if pause:
            await asyncio.sleep(pause)
