"""Asking a store again that does not answer, as workers and people do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from comfyume.job_queue.errors import QueueError

T = TypeVar("T")
#: Seconds until the store is asked again.
PAUSE = 0.05


async def insist(work: Callable[[], Awaitable[T]]) -> T:
    """The answer to something that may be asked again without harm."""
    while True:
        try:
            return await work()
        except QueueError:
            await asyncio.sleep(PAUSE)
