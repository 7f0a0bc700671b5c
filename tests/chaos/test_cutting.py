"""The proxy cuts what it is told to cut, and each end learns of it what it would on a real network."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from comfyume.tests.chaos.cutting import CuttingProxy

SOON = 0.3


@dataclass
class End:
    """One end of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def hears(self, expected: bytes) -> bool:
        """Whether these bytes come soon."""
        with contextlib.suppress(asyncio.TimeoutError, OSError):
            return await asyncio.wait_for(self.reader.read(100), SOON) == expected
        return False

    async def is_told(self) -> bool:
        """Whether this end soon learns that the other one is gone."""
        try:
            return await asyncio.wait_for(self.reader.read(100), SOON) == b""
        # A timeout is an OSError too from Python 3.11 on.
        except asyncio.TimeoutError:
            return False
        except OSError:
            return True


@contextlib.asynccontextmanager
async def connection() -> AsyncIterator[tuple[CuttingProxy, End, End]]:
    """A proxy, and the client's and the store's end of a connection through it."""
    accepted: asyncio.Queue[End] = asyncio.Queue()
    server = await asyncio.start_server(lambda *ends: accepted.put_nowait(End(*ends)), "127.0.0.1", 0)
    async with CuttingProxy(server.sockets[0].getsockname()[1]) as proxy:
        client = End(*await asyncio.open_connection("127.0.0.1", int(proxy.url.rpartition(":")[2])))
        store = await accepted.get()
        client.writer.write(b"hello")
        assert await store.hears(b"hello")
        try:
            yield proxy, client, store
        finally:
            server.close()
            for end in (client, store):
                end.writer.transport.abort()
                with contextlib.suppress(OSError):
                    await end.writer.wait_closed()


async def test_what_is_stalled_comes_later() -> None:
    async with connection() as (proxy, client, store):
        proxy.cut("stalled", ("up",))
        client.writer.write(b"a")
        store.writer.write(b"b")
        assert await client.hears(b"b")
        assert not await store.hears(b"a")
        proxy.heal()
        assert await store.hears(b"a")


async def test_half_of_a_connection_never_works_again() -> None:
    async with connection() as (proxy, client, store):
        proxy.cut("half open", ("down",))
        client.writer.write(b"a")
        store.writer.write(b"b")
        assert await store.hears(b"a")
        assert not await client.hears(b"b")
        proxy.heal()
        store.writer.write(b"c")
        assert not await client.hears(b"c")


async def test_the_end_of_a_half_open_connection_is_not_told_until_it_speaks() -> None:
    async with connection() as (proxy, client, store):
        proxy.cut("half open")
        client.writer.close()
        assert not await store.is_told()
        proxy.heal()
        assert not await store.is_told()
        store.writer.write(b"a")
        assert await store.is_told()


async def test_a_reset_breaks_both_ends() -> None:
    async with connection() as (proxy, client, store):
        proxy.cut("reset")
        assert await client.is_told()
        assert await store.is_told()


async def test_a_reset_of_one_end_is_learnt_by_the_other_one_when_it_speaks() -> None:
    async with connection() as (proxy, client, store):
        proxy.cut("reset", ("up",))
        assert await store.is_told()
        client.writer.write(b"a")
        assert not await client.is_told()
        proxy.heal()
        client.writer.write(b"b")
        assert await client.is_told()
