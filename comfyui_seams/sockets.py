"""Seam: ``PromptServer.sockets``, the browsers that are connected to this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from server import PromptServer

from .context import Visit, current_visit


class SocketsByOwner(dict[str, web.WebSocketResponse]):
    """ComfyUI's sockets by client id, where only the connection that put a socket in can take it out.

    ComfyUI's handler removes its client id when its connection ends. When a browser reloads, the new connection is
    often there first, and the old one would take the new one's entry with it.

    Attributes:
        visits: the request that each of them came with.
    """

    def __init__(self, sockets: dict[str, web.WebSocketResponse]) -> None:
        super().__init__(sockets)
        self._owners: dict[str, asyncio.Task[Any] | None] = {}
        self.visits: dict[str, Visit] = {}

    def __setitem__(self, sid: str, socket: web.WebSocketResponse) -> None:
        self._owners[sid] = asyncio.current_task()
        visit = current_visit.get()
        if visit is not None:
            self.visits[sid] = visit
        super().__setitem__(sid, socket)

    def pop(self, sid: str, *default: Any) -> Any:
        """As ``dict.pop``, but leaves another connection's socket where it is."""
        if sid in self and self._owners.get(sid) is not asyncio.current_task():
            return default[0] if default else self[sid]
        self._owners.pop(sid, None)
        self.visits.pop(sid, None)
        return super().pop(sid, *default)


def install(greeted: Callable[[str], Awaitable[None]]) -> None:
    """Call ``greeted`` with the client id of each new connection, right after ComfyUI's first message to it.

    That message is ``status`` with the client's ``sid``; no other carries one.
    """
    server = PromptServer.instance
    server.sockets = SocketsByOwner(server.sockets)
    send_json = server.send_json

    async def send_json_and_greet(event: str, data: Any, sid: str | None = None) -> None:
        await send_json(event, data, sid)
        if event == "status" and sid is not None and isinstance(data, dict) and data.get("sid") == sid:
            await greeted(sid)

    server.send_json = send_json_and_greet
    # Whoever changes the queue tells the people that it changed; ComfyUI's own word would go to everyone.
    server.queue_updated = lambda: None


def socket_of(sid: str) -> web.WebSocketResponse | None:
    """The open socket of a client, if it is connected here."""
    socket: web.WebSocketResponse | None = PromptServer.instance.sockets.get(sid)
    return socket


def user_of(sid: str) -> str | None:
    """Whose socket that of a client is, if it is connected here."""
    visit = PromptServer.instance.sockets.visits.get(sid)
    return visit.user if visit is not None else None


def visits() -> dict[str, Visit]:
    """The request that each open socket came with, by client id."""
    return dict(PromptServer.instance.sockets.visits)


def connected() -> list[str]:
    """Client ids of all open sockets."""
    return list(PromptServer.instance.sockets)


def features_of(sid: str | None) -> dict[str, Any]:
    """What a browser has said that it can do."""
    metadata = PromptServer.instance.sockets_metadata.get(sid, {}) if sid is not None else {}
    return dict(metadata.get("feature_flags", {}))


def status_message(remaining: int) -> bytes:
    """ComfyUI's word to a browser that its queue has changed, and how many jobs it has."""
    status = {"exec_info": {"queue_remaining": remaining}}
    return json.dumps({"type": "status", "data": {"status": status}}).encode()
