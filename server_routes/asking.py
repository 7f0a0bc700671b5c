"""Asks a worker what only a worker can answer."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from typing import Any

import redis.asyncio

from ..job_queue.connection import store_errors, subscribed
from ..job_queue.errors import QueueError
from ..job_queue.keys import Keys

log = logging.getLogger("comfyume")


class Asking:
    """Requests to workers and their answers, over the store's publish/subscribe."""

    def __init__(self, client: redis.asyncio.Redis, listening: redis.asyncio.Redis, keys: Keys) -> None:
        self._client = client
        self._listening = listening
        self._keys = keys
        self._name = secrets.token_hex(8)
        self._waiting: dict[str, asyncio.Future[Any]] = {}

    async def run(self) -> None:
        """Hear answers until cancelled."""
        while True:
            try:
                with store_errors():
                    async with subscribed(self._listening, self._keys.replies_channel(self._name)) as arriving:
                        async for data in arriving:
                            self._take(json.loads(data))
            except QueueError as error:
                log.warning("[comfyume] no answers from the workers: %s", error)
            await asyncio.sleep(1.0)

    def _take(self, message: dict[str, Any]) -> None:
        waiting = self._waiting.get(message["id"])
        if waiting is not None and not waiting.done():
            waiting.set_result(message["answer"])

    async def ask(self, worker: str, kind: str, *, timeout: float, **fields: Any) -> Any:
        """Ask one worker.

        Raises:
            asyncio.TimeoutError: when it does not answer within ``timeout`` seconds.
            StoreUnavailable, StoreRefused: see ``store_errors``.
        """
        request = secrets.token_hex(8)
        self._waiting[request] = asyncio.get_running_loop().create_future()
        message = {"kind": kind, "worker": worker, "id": request, "reply_to": self._name, **fields}
        try:
            with store_errors():
                await self._client.publish(self._keys.control_channel, json.dumps(message))
            return await asyncio.wait_for(self._waiting[request], timeout)
        finally:
            del self._waiting[request]

    async def tell_all(self, kind: str, **fields: Any) -> None:
        """Tell all workers something that has no answer."""
        with store_errors():
            await self._client.publish(self._keys.control_channel, json.dumps({"kind": kind, **fields}))
