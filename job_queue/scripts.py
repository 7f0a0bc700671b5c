"""The Lua scripts, one a file in ``lua/``; each is one change of state and says in its header what it keeps true."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import redis
import redis.asyncio
from redis.commands.core import AsyncScript, Script

FOLDER = Path(__file__).parent / "lua"
_INCLUDE = re.compile(r"^-- @include (\w+)$", re.MULTILINE)


@cache
def source(name: str) -> str:
    """The text of a script with its includes in place."""
    text = (FOLDER / f"{name}.lua").read_text(encoding="utf-8")
    return _INCLUDE.sub(lambda match: (FOLDER / "includes" / f"{match[1]}.lua").read_text(encoding="utf-8"), text)


class Scripts:
    """The scripts registered on a client of threads."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._scripts: dict[str, Script] = {}

    def __getitem__(self, name: str) -> Script:
        if name not in self._scripts:
            self._scripts[name] = self._client.register_script(source(name))
        return self._scripts[name]


class AsyncScripts:
    """The scripts registered on a client of the event loop."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._scripts: dict[str, AsyncScript] = {}

    def __getitem__(self, name: str) -> AsyncScript:
        if name not in self._scripts:
            self._scripts[name] = self._client.register_script(source(name))
        return self._scripts[name]
