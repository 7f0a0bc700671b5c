"""A relay before a store that loses replies, or cuts its clients off, when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Literal

Mode = Literal["open", "reset", "stalled", "half open"]
_CHUNK = 64 * 1024
#: What a blocking read answers when nothing came.
_NOTHING = b"*-1\r\n"


class CuttingProxy:
    """Relays TCP to a port of this machine. Used as an asynchronous context.

    Attributes:
        mode: ``open``; ``reset`` breaks all connections and takes no new ones; ``stalled`` holds back what is sent, as
            a network does that comes back; ``half open`` swallows it, and those connections never work again.
        cuts: how many replies were lost.
    """

    def __init__(self, target: int) -> None:
        self.cuts = 0
        self.mode: Mode = "open"
        self._target = target
        self._armed: list[bytes] = []
        self._opened = asyncio.Event()
        self._opened.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._dead: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """What to give a client as the store's address."""
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    @property
    def is_armed(self) -> bool:
        """Whether a reply is still to be lost."""
        return bool(self._armed)

    def lose_reply_to(self, token: bytes, times: int = 1) -> None:
        """Forward the next requests that contain these bytes, and break the connection when the reply comes."""
        self._armed = [token] * times

    def disarm(self) -> None:
        """Lose nothing more."""
        self._armed = []

    def cut(self, mode: Mode) -> None:
        """Cut all clients off."""
        self.mode = mode
        self._opened.clear()
        if mode == "reset":
            for writer in self._writers:
                writer.transport.abort()
        elif mode == "half open":
            self._dead |= self._writers

    def heal(self) -> None:
        """Let new connections work, and old ones too unless they are broken."""
        self.mode = "open"
        self._opened.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode == "reset":
            writer.transport.abort()
            return
        if self.mode == "half open":
            self._dead.add(writer)
        try:
            store_reader, store_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        doomed = asyncio.Event()
        self._writers.add(writer)

        def close_both(_: asyncio.Task[None]) -> None:
            for end in (writer, store_writer):
                end.transport.abort()

        for task in (
            asyncio.create_task(self._up(reader, store_writer, writer, doomed)),
            asyncio.create_task(self._down(store_reader, writer, doomed)),
        ):
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(close_both)

    async def _up(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        client: asyncio.StreamWriter,
        doomed: asyncio.Event,
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                if client in self._dead:
                    continue
                await self._opened.wait()
                if self._armed and self._armed[0] in chunk:
                    self._armed.pop(0)
                    doomed.set()
                writer.write(chunk)
                await writer.drain()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doomed: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                if writer in self._dead:
                    continue
                await self._opened.wait()
                if doomed.is_set() and chunk != _NOTHING:
                    self.cuts += 1
                    break
                writer.write(chunk)
                await writer.drain()
        self._writers.discard(writer)
        self._dead.discard(writer)

    async def __aenter__(self) -> CuttingProxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
