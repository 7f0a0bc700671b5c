"""Webhooks: a job that names an address has its end told there, signed, and again until somebody has taken it.

Form and signature are those of Standard Webhooks (https://www.standardwebhooks.com), for which there are libraries.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import logging
import secrets
import time
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import redis.asyncio
import redis.exceptions
from aiohttp import web

from ..comfyui_seams import server
from ..job_queue.connection import store_errors
from ..job_queue.errors import QueueError
from ..job_queue.frontend_queue import FrontendQueue
from ..job_queue.keys import Keys
from ..public_addresses import PublicResolver, may_be_reached
from .gate import PERSON
from .job_signatures import JobSignatures
from .job_views import view_of

log = logging.getLogger("comfyume")

GROUP = "frontends"
#: Seconds after which each attempt that failed is followed by the next; behind the last one it is given up.
PAUSES = (2.0, 10.0, 60.0, 300.0)
#: Seconds that an answer may take.
PATIENCE = 10.0
#: Seconds after which another frontend takes over what one has begun: longer than all its attempts.
ABANDONED = sum(PAUSES) + 60.0
#: Seconds between two looks for what was not heard of.
LOOK = 5.0
MOST_AT_ONCE = 20
LONGEST_URL = 2_000


class WebhookRefused(Exception):
    """No webhook may go to this address; the message says why."""


def checked(url: Any, hosts: Collection[str]) -> str:
    """A webhook's address.

    Args:
        hosts: names and addresses that may be reached though they are in a private network.

    Raises:
        WebhookRefused: it is none.
    """
    if not isinstance(url, str) or len(url) > LONGEST_URL:
        raise WebhookRefused("webhook must be an address, as in https://example.org/done.")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host = ""
    if not host or parts.scheme not in ("http", "https"):
        raise WebhookRefused("webhook must be an address, as in https://example.org/done.")
    if host not in hosts and not may_be_reached(host):
        raise WebhookRefused(f"No webhook goes to {host}: it is no address on the internet (COMFYUME_WEBHOOK_HOSTS).")
    return url


class Webhooks:
    """Tells of ended jobs. What is to be told lies in the store, from where any frontend takes it."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        keys: Keys,
        queue: FrontendQueue,
        signatures: JobSignatures,
        hosts: Collection[str],
    ) -> None:
        self._client: Any = client
        self._stream = keys.webhooks
        self._queue = queue
        self._signatures = signatures
        self._hosts = frozenset(hosts)
        self._name = secrets.token_hex(8)
        self._tasks: set[asyncio.Task[None]] = set()

    def mount(self) -> None:
        """Add the route."""
        server.add_route("GET", "/comfyume/webhook-secret", self.secret)

    async def secret(self, request: web.Request) -> web.Response:
        """The words with which this person's webhooks are signed."""
        key = await self._signatures.derived(f"webhook {request[PERSON].name}")
        return web.json_response({"secret": f"whsec_{base64.b64encode(key).decode()}"})

    async def run(self) -> None:
        """Tell of what ends, until cancelled."""
        connector = aiohttp.TCPConnector(resolver=PublicResolver(self._hosts), limit=MOST_AT_ONCE)
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            while True:
                if len(self._tasks) < MOST_AT_ONCE:
                    try:
                        for entry, fields in await self._take(MOST_AT_ONCE - len(self._tasks)):
                            task = asyncio.create_task(self._tell(session, entry, fields))
                            self._tasks.add(task)
                            task.add_done_callback(self._tasks.discard)
                    except QueueError as error:
                        log.debug("no webhooks: %s", error)
                await asyncio.sleep(1.0 if self._tasks else LOOK / 2)

    async def _take(self, most: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
        with store_errors():
            with contextlib.suppress(redis.exceptions.ResponseError):
                # It is there already.
                await self._client.xgroup_create(self._stream, GROUP, id="0", mkstream=True)
            abandoned = await self._client.xautoclaim(
                self._stream, GROUP, self._name, int(ABANDONED * 1000), count=most
            )
            new = await self._client.xreadgroup(GROUP, self._name, {self._stream: ">"}, count=most)
        entries = [(entry, fields) for entry, fields in abandoned[1] if fields]
        return entries + [each for _, rows in new for each in rows]

    async def _tell(self, session: aiohttp.ClientSession, entry: bytes, fields: dict[bytes, bytes]) -> None:
        url, job_id, user = (fields[name].decode() for name in (b"url", b"job", b"user"))
        try:
            record = (await self._queue.records([job_id])).get(job_id)
            view = view_of(record) if record is not None else {"id": job_id, "state": fields[b"state"].decode()}
            body = json.dumps({"type": "job.ended", "timestamp": time.time(), "data": view}).encode()
            key = await self._signatures.derived(f"webhook {user}")
            for pause in (*PAUSES, None):
                if await self._is_taken(session, url, entry.decode(), body, key):
                    break
                if pause is None:
                    log.warning("[comfyume] nobody took the webhook of job %s at %s; it is given up", job_id, url)
                else:
                    await asyncio.sleep(pause)
            with store_errors():
                await self._client.xack(self._stream, GROUP, entry)
                await self._client.xdel(self._stream, entry)
        except QueueError as error:
            log.debug("the webhook of job %s waits: %s", job_id, error)

    async def _is_taken(self, session: aiohttp.ClientSession, url: str, entry: str, body: bytes, key: bytes) -> bool:
        try:
            checked(url, self._hosts)
            headers = signed_headers(entry, time.time(), body, key)
            async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                return 200 <= response.status < 300
        except WebhookRefused:
            return True
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError) as error:
            log.debug("a webhook was not taken: %s", error)
            return False


def signed_headers(entry: str, moment: float, body: bytes, key: bytes) -> dict[str, str]:
    """The headers by which whoever is told knows that it is true, and that it was told before."""
    name, stamp = f"msg_{entry}", str(int(moment))
    signature = hmac.digest(key, f"{name}.{stamp}.".encode() + body, hashlib.sha256)
    return {
        "Content-Type": "application/json",
        "webhook-id": name,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
    }
