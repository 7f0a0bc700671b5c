"""One outgoing queue for each browser, so that a slow one holds up nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator

from aiohttp import ClientError, WSMsgType, web

from ..job_queue.events import Event

log = logging.getLogger("comfyume")

#: Passing events (previews, progress) wait behind at most this many messages; then the older ones are left out.
MOST_PASSING = 64
#: A browser that is this many messages or bytes behind is disconnected; it comes back and is told what it missed.
MOST_WAITING = 5_000
#: Jobs of which a socket remembers what it was given.
MOST_JOBS = 1_000
MOST_BYTES = 64 * 1024 * 1024


class Mailbox:
    """Messages on their way to one socket, in order.

    Args:
        left: called with the moment since which events were under way, once the last of them has left.
    """

    def __init__(self, socket: web.WebSocketResponse, left: Callable[[float], None]) -> None:
        self._left = left
        self.socket = socket
        self._waiting: deque[tuple[bytes, bool, float | None]] = deque()
        self._size = 0
        self._told: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._more = asyncio.Event()
        self._task = asyncio.create_task(self._send_for_ever())

    def post(self, job_id: str, attempt: int, events: Iterable[Event], since: float | None = None) -> None:
        """Send events of a job when their turn comes; those that this socket was given before are left out.

        Args:
            since: when they came up, by the store's clock; None where that says nothing.
        """
        told = self._told.get(job_id, (0, 0))
        before = len(self._waiting)
        for event in events:
            if event.keep:
                if (attempt, event.number) <= told:
                    continue
                told = (attempt, event.number)
            elif len(self._waiting) > MOST_PASSING:
                continue
            self._put(event.payload, event.text)
        if since is not None and len(self._waiting) > before:
            self._waiting[-1] = (*self._waiting[-1][:2], since)
        self._told[job_id] = told
        self._told.move_to_end(job_id)
        while len(self._told) > MOST_JOBS:
            self._told.popitem(last=False)

    def post_text(self, message: bytes) -> None:
        """Send a text message when its turn comes."""
        self._put(message, True)

    def _put(self, payload: bytes, text: bool) -> None:
        self._waiting.append((payload, text, None))
        self._size += len(payload)
        self._more.set()
        if len(self._waiting) > MOST_WAITING or self._size > MOST_BYTES:
            log.warning("[comfyume] a browser does not read its messages and is disconnected")
            self.close()
            transport = self.socket._req.transport if self.socket._req is not None else None  # noqa: SLF001 - aiohttp offers no abort
            if transport is not None:
                transport.abort()

    def close(self) -> None:
        """Stop sending."""
        self._task.cancel()
        self._waiting.clear()

    async def _send_for_ever(self) -> None:
        while not self.socket.closed:
            with corked(self.socket) if len(self._waiting) > 1 else contextlib.nullcontext():
                while self._waiting:
                    payload, text, since = self._waiting.popleft()
                    self._size -= len(payload)
                    try:
                        await self.socket.send_frame(payload, WSMsgType.TEXT if text else WSMsgType.BINARY)
                    except (ClientError, ConnectionError, RuntimeError) as error:
                        log.debug("a browser went away while a message was sent: %s", error)
                        return
                    if since is not None:
                        self._left(since)
            self._more.clear()
            await self._more.wait()


@contextlib.contextmanager
def corked(response: web.WebSocketResponse) -> Iterator[None]:
    """Let the messages that are sent in here leave as one packet, where the system can: their reader wakes up once."""
    raw = response.get_extra_info("socket")
    option = getattr(socket, "TCP_CORK", None)
    if raw is None or option is None or raw.family not in (socket.AF_INET, socket.AF_INET6):
        yield
        return
    raw.setsockopt(socket.IPPROTO_TCP, option, 1)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.IPPROTO_TCP, option, 0)
