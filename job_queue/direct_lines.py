"""Connections to the store on which a command costs little, for the few that a prompt waits for."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from typing import Any

import redis
import redis.asyncio

from .connection import COMMAND_TIMEOUT, MOST_CONNECTIONS

#: Bytes of a command up to which it goes on a line of its own: so much is taken for writing without a wait.
LARGEST_DIRECT = 48 * 1024
#: Connections that are taken out of the pool: fewer than it has, since they are not given back.
MOST_LINES = MOST_CONNECTIONS // 2


class DirectLines:
    """Commands on connections that are taken out of the client's pool for good.

    The client library measures, counts and retries around each command and gives each write a task of its own. For a
    prompt that takes milliseconds that is a tenth of its way through the store. Here a command is packed, written, and
    its answer read; what goes wrong is left to the library's own way.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._pool: Any = client.connection_pool
        self._free: list[Any] = []
        self._slots = asyncio.Semaphore(MOST_LINES)

    async def call(self, command: Sequence[bytes | str | int], *, behind_ping: bool = False) -> Any:
        """The answer to one command of at most ``LARGEST_DIRECT`` bytes, which may not be nil.

        Args:
            behind_ping: for a command whose messages to others matter more than its answer. The store writes to the
                connection first that began to wait for an answer last. Behind a ping this one began before the others
                did, so they are served first: that is 0.25 ms on a machine where all share two cores.

        Raises:
            redis.exceptions.RedisError: the connection broke, the store was silent for ``COMMAND_TIMEOUT`` seconds, or
                it answered with an error.
        """
        async with self._slots:
            return await self._call(command, behind_ping)

    async def _call(self, command: Sequence[bytes | str | int], behind_ping: bool) -> Any:
        connection = self._free.pop() if self._free else await self._take()
        is_whole = False
        try:
            commands = [("PING",), command] if behind_ping else [command]
            await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            if behind_ping:
                await self._read(connection)
            try:
                answer = await self._read(connection)
            except redis.ResponseError:
                is_whole = True
                raise
            is_whole = True
            return answer
        finally:
            if is_whole:
                self._free.append(connection)
            else:
                # An answer may still be on its way, and would be taken for that of the next command. If the store has
                # gone, the other connections are as dead as this one.
                given_up, self._free = [connection, *self._free], []
                for each in given_up:
                    await self._give_back(each)

    async def _take(self) -> Any:
        """A connection of the pool, which closes it with all others when the client is closed."""
        connection = await self._pool.get_connection()
        # With a timeout of its own it would make a task of each write.
        connection.socket_timeout = None
        return connection

    async def _give_back(self, connection: Any) -> None:
        connection.socket_timeout = COMMAND_TIMEOUT
        await connection.disconnect(nowait=True)
        await self._pool.release(connection)

    async def _read(self, connection: Any) -> Any:
        answer = await connection.read_response(timeout=COMMAND_TIMEOUT)
        if answer is None:
            raise redis.TimeoutError("it was silent for too long")
        return answer


class DirectLine:
    """A ``DirectLines`` of one connection for one thread, which may wait long for the answer to a command."""

    def __init__(self, client: redis.Redis) -> None:
        self._pool: Any = client.connection_pool
        self._connection: Any = None

    def call(self, *command: bytes | str | float) -> Any:
        """The answer to a command.

        Raises:
            redis.exceptions.RedisError: the connection broke, the store was silent for longer than its timeout, or it
                answered with an error.
        """
        connection = self._connection = self._connection or self._pool.get_connection()
        is_whole = False
        try:
            connection.send_command(*command)
            try:
                answer = connection.read_response()
            except redis.ResponseError:
                is_whole = True
                raise
            is_whole = True
            return answer
        finally:
            if not is_whole:
                self._connection = None
                connection.disconnect()
                self._pool.release(connection)
                # The others are as dead as this one, and each would be waited for as long.
                self._pool.disconnect()

    def hang_up(self) -> None:
        """Break the connection: a ``call`` that waits on it ends with ``ConnectionError``. From any thread."""
        used = getattr(self._connection, "_sock", None)
        if used is not None:
            with contextlib.suppress(OSError):
                # The plain one, which under TLS too leaves the rest to the thread that reads.
                socket.socket.shutdown(used, socket.SHUT_RDWR)
