"""Seam: ``PromptServer.send_json`` and ``send_bytes`` on a worker, where each event passes encoded and in order."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from server import PromptServer

#: Given an event's type, its data and the client it is for (None for everybody), in the order in which they were sent;
#: answers whether it took the event, so that ComfyUI need not send it.
TakeJson = Callable[[str, Any, str | None], Awaitable[bool]]
#: Given the type number, the encoded message and the client; answers as above.
TakeBytes = Callable[[int, bytes, str | None], Awaitable[bool]]


def install(take_json: TakeJson, take_bytes: TakeBytes) -> None:
    """Offer every event to the takers; ComfyUI's sending loop waits for them, so order is kept."""
    server = PromptServer.instance
    send_json, send_bytes = server.send_json, server.send_bytes

    async def tapped_json(event: str, data: Any, sid: str | None = None) -> None:
        if not await take_json(event, data, sid):
            await send_json(event, data, sid)

    async def tapped_bytes(event: int, data: bytes, sid: str | None = None) -> None:
        if not await take_bytes(event, bytes(server.encode_bytes(event, data)), sid):
            await send_bytes(event, data, sid)

    server.send_json = tapped_json
    server.send_bytes = tapped_bytes


def send_in_order(event: str, data: Any, sid: str | None = None) -> None:
    """Send something to the taker behind every event that was sent before; from any thread."""
    PromptServer.instance.send_sync(event, data, sid)


def message(event: str, data: Any) -> bytes:
    """The text that ComfyUI sends into a socket for an event."""
    return json.dumps({"type": event, "data": data}).encode()


def announce_client(client: str | None, features: dict[str, Any]) -> None:
    """Tell ComfyUI what a browser elsewhere can do, or previews fall back to the old format."""
    if client is not None:
        PromptServer.instance.sockets_metadata[client] = {"feature_flags": features}


def forget_client(client: str | None) -> None:
    """Forget a browser elsewhere."""
    server = PromptServer.instance
    if client is not None and client not in server.sockets:
        server.sockets_metadata.pop(client, None)
