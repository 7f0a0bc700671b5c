"""Hears what frontends ask of workers: cancel, free memory, and questions that only a worker can answer."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import redis.asyncio

from ..job_queue.connection import store_errors, subscribed
from ..job_queue.errors import QueueError
from ..job_queue.keys import Keys

log = logging.getLogger("comfyume")

#: Seconds until a store is asked again that could not be reached.
STORE_PAUSE = 1.0
#: Handles a message of one kind; what it returns is the answer.
Handler = Callable[[dict[str, Any]], Awaitable[Any]]


class Control:
    """Listens on the control channel and gives each message that is for this worker to the handler of its kind."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys, worker: str, handlers: dict[str, Handler]) -> None:
        self._client = client
        self._keys = keys
        self._worker = worker
        self._handlers = handlers
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Listen until cancelled; connects again when the store was away."""
        while True:
            pause = STORE_PAUSE
            try:
                with store_errors():
                    async with subscribed(self._client, self._keys.control_channel) as arriving:
                        async for data in arriving:
                            # Not before: a channel that may not be listened to is refused with the first answer.
                            pause = 0.0
                            self._take(json.loads(data))
            except QueueError as error:
                log.warning("[comfyume] not listening to frontends: %s", error)
                await asyncio.sleep(pause)

    def _take(self, message: dict[str, Any]) -> None:
        handler = self._handlers.get(message.get("kind", ""))
        if handler is None or message.get("worker", self._worker) != self._worker:
            return
        task = asyncio.create_task(self._handle(handler, message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, handler: Handler, message: dict[str, Any]) -> None:
        try:
            answer = await handler(message)
        except Exception:
            log.exception("[comfyume] a frontend's request of kind %s failed", message.get("kind"))
            return
        if "reply_to" in message:
            with store_errors():
                reply = json.dumps({"id": message["id"], "answer": answer})
                await self._client.publish(self._keys.replies_channel(message["reply_to"]), reply)
