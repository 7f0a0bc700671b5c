"""What pages are told beside the events of jobs: messages of people and of the workshop, over the events' channel."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from typing import Any

import redis.asyncio

from .connection import store_errors
from .keys import Keys

#: Whom alone a message may be for.
INSTRUCTORS = "instructors"


def message(text: str, *, who: str, to: str = "") -> dict[str, Any]:
    """Something to read, from ``who``: a user, or a part of the workshop; to everybody, or to ``INSTRUCTORS``."""
    said = {"text": text, "from": who, "at": time.time(), "id": secrets.token_hex(16)}
    return {**said, "to": to} if to else said


async def publish(client: redis.asyncio.Redis, keys: Keys, kind: str, told: Mapping[str, Any]) -> None:
    """Tell every frontend something of a kind of ``events.NOTICES``.

    Raises:
        StoreUnavailable, StoreRefused: see ``store_errors``.
    """
    with store_errors():
        await client.publish(keys.events_channel, json.dumps({kind: told}) + "\n")
