"""The Lua scripts, one a file in ``lua/``; each is one change of state and says in its header what it keeps true."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import redis
import redis.asyncio
from redis.commands.core import AsyncScript, Script
from redis.exceptions import NoScriptError

from .direct_lines import LARGEST_DIRECT, DirectLine, DirectLines

FOLDER = Path(__file__).parent / "lua"
_INCLUDE = re.compile(r"^-- @include (\w+)$", re.MULTILINE)


@cache
def source(name: str) -> str:
    """The text of a script with its includes in place."""
    text = (FOLDER / f"{name}.lua").read_text(encoding="utf-8")
    return _INCLUDE.sub(lambda match: (FOLDER / "includes" / f"{match[1]}.lua").read_text(encoding="utf-8"), text)


class Scripts:
    """The scripts registered on a client of one thread.

    Attributes:
        line: the connection that they are run on.
    """

    def __init__(self, client: redis.Redis) -> None:
        self.line = DirectLine(client)
        self._client = client
        self._scripts: dict[str, Script] = {}

    def __getitem__(self, name: str) -> Script:
        if name not in self._scripts:
            self._scripts[name] = self._client.register_script(source(name))
        return self._scripts[name]

    def run(self, name: str, prefix: str, *arguments: bytes | str | int) -> Any:
        """Run a script.

        Raises:
            redis.exceptions.RedisError: what the client library raises.
        """
        script = self[name]
        try:
            return self.line.call("EVALSHA", script.sha, 1, prefix, *arguments)
        except (NoScriptError, redis.ConnectionError):
            # A store that was started anew: the library connects again, loads the script, and repeats the call.
            return script(keys=[prefix], args=list(arguments))


class AsyncScripts:
    """The scripts registered on a client of the event loop."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._lines = DirectLines(client)
        self._scripts: dict[str, AsyncScript] = {}

    def __getitem__(self, name: str) -> AsyncScript:
        if name not in self._scripts:
            self._scripts[name] = self._client.register_script(source(name))
        return self._scripts[name]

    async def run(self, name: str, prefix: str, *arguments: bytes | str | int, behind_ping: bool = False) -> Any:
        """Run a script; see ``DirectLines`` for how, and for ``behind_ping``.

        Raises:
            redis.exceptions.RedisError: what the client library raises.
        """
        script = self[name]
        if sum(len(argument) for argument in arguments if not isinstance(argument, int)) <= LARGEST_DIRECT:
            try:
                return await self._lines.call(("EVALSHA", script.sha, 1, prefix, *arguments), behind_ping=behind_ping)
            except redis.TimeoutError:
                # The other connections are as dead as this one; each would be waited for as long.
                await self._client.connection_pool.disconnect(inuse_connections=False)
                raise
            except (NoScriptError, redis.ConnectionError):
                # A store that was started anew: the library connects again, loads the script, and repeats the call.
                pass
        return await script(keys=[prefix], args=list(arguments))
