"""A relay before a store that loses replies, or cuts its clients off in one direction or both, when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Literal

#: Of bytes: from the clients to the store, or back.
Way = Literal["up", "down"]
Mode = Literal["open", "reset", "stalled", "half open"]
BOTH: tuple[Way, ...] = ("up", "down")
_CHUNK = 64 * 1024
#: What a blocking read answers when nothing came.
_NOTHING = b"*-1\r\n"


@dataclass(eq=False)
class _Link:
    """A client's connection and the one to the store that belongs to it.

    Attributes:
        client: where replies go.
        store: where requests go.
        lost: the ways on which nothing arrives any more, not even that the other end is gone.
        is_doomed: whether it breaks at the next reply.
        has_lost_an_end: whether the client or the store is gone and the other does not know.
    """

    client: asyncio.StreamWriter
    store: asyncio.StreamWriter
    lost: set[Way] = field(default_factory=set)
    is_doomed: bool = False
    has_lost_an_end: bool = False

    def break_both(self) -> None:
        for end in (self.client, self.store):
            end.transport.abort()


class CuttingProxy:
    """Relays TCP to a port of this machine. Used as an asynchronous context.

    Attributes:
        mode: what becomes of what is sent on the ways that are cut. ``open``: it arrives. ``reset``: connections break
            and no new ones are taken; with one way alone only the end that this way leads to is told, the other one
            learns it when it sends something after the cut. ``stalled``: it is held back, as a network does that comes
            back. ``half open``: it is swallowed, and those connections never work again.
        cuts: how many replies were lost.
    """

    def __init__(self, target: int) -> None:
        self.cuts = 0
        self.mode: Mode = "open"
        self._target = target
        self._armed: list[bytes] = []
        self._ways: tuple[Way, ...] = ()
        self._flows: dict[Way, asyncio.Event] = {way: asyncio.Event() for way in BOTH}
        for flow in self._flows.values():
            flow.set()
        self._links: set[_Link] = set()
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

    def cut(self, mode: Mode, ways: tuple[Way, ...] = BOTH) -> None:
        """Cut all clients off."""
        self.mode = mode
        self._ways = ways
        if mode == "stalled":
            for way in ways:
                self._flows[way].clear()
        for link in self._links:
            if mode == "half open":
                link.lost |= set(ways)
            elif mode == "reset" and ways == BOTH:
                link.break_both()
            elif mode == "reset":
                link.lost |= set(BOTH)
                link.has_lost_an_end = True
                told = link.store if ways == ("up",) else link.client
                told.transport.abort()

    def heal(self) -> None:
        """Let new connections work, and old ones too unless they are broken."""
        self.mode = "open"
        for flow in self._flows.values():
            flow.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer), name="chaos-relay")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            store_reader, store_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(writer, store_writer)
        if self.mode == "reset":
            link.break_both()
            return
        if self.mode == "half open":
            link.lost |= set(self._ways)
        self._links.add(link)
        try:
            await asyncio.gather(
                self._carry(link, "up", reader, writer, store_writer),
                self._carry(link, "down", store_reader, store_writer, writer),
            )
        finally:
            self._links.discard(link)
            link.break_both()

    async def _carry(
        self,
        link: _Link,
        way: Way,
        reader: asyncio.StreamReader,
        source: asyncio.StreamWriter,
        target: asyncio.StreamWriter,
    ) -> None:
        """Relay one way until an end is gone, and tell the other end unless that is lost on the way too."""
        with contextlib.suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                await self._flows[way].wait()
                if link.has_lost_an_end and self.mode == "open":
                    break
                if link.has_lost_an_end or way in link.lost:
                    continue
                if way == "up" and self._armed and self._armed[0] in chunk:
                    self._armed.pop(0)
                    link.is_doomed = True
                elif way == "down" and link.is_doomed and chunk != _NOTHING:
                    self.cuts += 1
                    break
                target.write(chunk)
                await target.drain()
        await self._flows[way].wait()
        source.transport.abort()
        if way in link.lost:
            link.has_lost_an_end = True
        else:
            target.transport.abort()

    async def __aenter__(self) -> CuttingProxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
