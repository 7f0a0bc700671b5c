"""Signatures of jobs, by which a frontend knows those that frontends have stored.

A worker writes into the store, so one that was taken over can make up a job in anybody's name. What a frontend lets the
holder of a claim fetch, and into whose folders it puts results, follows from whose a job is and which files it names;
so that much is signed, by a key in the store which the workers' user cannot read (see ``job_queue/rights.py``).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Iterable, Mapping
from typing import Any

import redis.asyncio

from ..job_queue.connection import store_errors
from ..job_queue.frontend_queue import HeldJob
from ..job_queue.keys import Keys

#: Seconds for which the key is taken for the store's; another store, or an empty one, has another.
FRESH = 60.0


class JobSignatures:
    """Signs jobs and checks them. Every method raises what ``store_errors`` names."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        # The library types replies as text or bytes; without a decoder they are bytes.
        self._client: Any = client
        self._name = keys.signing_key
        self._key = b""
        self._seen = float("-inf")

    async def of(self, job_id: str, user: str, files: Iterable[Mapping[str, Any]]) -> str:
        """The signature of a job with these files, each by ``kind`` and ``path``."""
        return _signature(await self._shared_key(), job_id, user, files)

    async def derived(self, purpose: str) -> bytes:
        """A key for something else, which nobody without the store's key can make: 32 bytes."""
        return hmac.digest(await self._shared_key(), purpose.encode(), hashlib.sha256)

    async def are_right(self, job: HeldJob) -> bool:
        """Whether a frontend of this workshop has signed a job as it stands in the store."""
        given = job.envelope.get("signature")
        if not isinstance(given, str):
            return False
        if await self._is(given, job):
            return True
        # The store may be another by now.
        self._seen = float("-inf")
        return await self._is(given, job)

    async def _is(self, given: str, job: HeldJob) -> bool:
        key = await self._shared_key()
        try:
            wanted = _signature(key, job.job_id, job.user, job.envelope.get("files", []))
        except (AttributeError, TypeError):
            # No frontend writes such a list.
            return False
        return hmac.compare_digest(given.encode(), wanted.encode())

    async def _shared_key(self) -> bytes:
        """The key of all frontends; the first of them makes it."""
        if time.monotonic() - self._seen > FRESH:
            with store_errors():
                pipeline = self._client.pipeline(transaction=True)
                pipeline.set(self._name, self._key or secrets.token_bytes(32), nx=True)
                pipeline.get(self._name)
                _, self._key = await pipeline.execute()
            self._seen = time.monotonic()
        return self._key


def _signature(key: bytes, job_id: str, user: str, files: Iterable[Mapping[str, Any]]) -> str:
    named = sorted([str(file.get("kind")), str(file.get("path"))] for file in files)
    return hmac.digest(key, json.dumps([job_id, user, named]).encode(), hashlib.sha256).hex()
