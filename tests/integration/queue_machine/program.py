"""The program's own ``FrontendQueue``, ``Reports`` and ``Claims``, on one plain connection and without waiting."""

from __future__ import annotations

import contextlib
from collections.abc import Coroutine
from typing import Any

import redis

from comfyume.job_queue.connection import store_errors
from comfyume.job_queue.errors import StoreUnavailable
from comfyume.job_queue.frontend_queue import FrontendQueue
from comfyume.job_queue.jobs import ClaimedJob
from comfyume.job_queue.worker_queue import Claims, Reports, UpcomingClaim, WorkerIdentity

from .store import StoredWorkshop
from .things import Short, Told

HISTORY_SIZE = 1000
#: Longer than any sequence of steps takes by the clock that they set.
HISTORY_DAYS = 30.0


def now(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("the coroutine waits for something")


class DirectQueue(FrontendQueue):
    """A frontend's queue; ``reply`` is what the last script answered."""

    def __init__(self, store: StoredWorkshop, lease: float) -> None:
        super().__init__(store.client, store.keys, history_size=HISTORY_SIZE, history_days=HISTORY_DAYS, lease=lease)
        self._store = store
        self.reply: Any = None

    async def _run(self, script: str, *arguments: Any) -> Any:
        self.reply = self._store.run(script, *arguments)
        return self.reply


class DirectReports(Reports):
    """A worker's reports; ``reply`` is what the last script answered."""

    def __init__(self, store: StoredWorkshop, identity: WorkerIdentity) -> None:
        super().__init__(store.client, store.keys, identity, history_size=HISTORY_SIZE, history_days=HISTORY_DAYS)
        self._store = store
        self.reply: Any = None

    async def _run(self, script: str, *arguments: Any, behind_ping: bool = False) -> Any:
        self.reply = self._store.run(script, *arguments)
        return self.reply


class _Requests:
    """The scripts as ``Claims`` calls them; an answer may be lost on its way."""

    def __init__(self, store: StoredWorkshop) -> None:
        self._store = store
        self.is_lossy = False
        self.reply: Any = None

    def run(self, name: str, prefix: str, *args: Any) -> Any:
        assert prefix == self._store.keys.prefix
        self.reply = self._store.run(name, *args)
        if self.is_lossy:
            raise redis.ConnectionError("The answer was lost.")
        return self.reply


class ImpatientClaims(Claims):
    """A worker's claims that look into the inbox once, instead of waiting at it."""

    def __init__(self, store: StoredWorkshop, url: str, identity: WorkerIdentity) -> None:
        super().__init__(url, store.keys, identity)
        self._store = store
        self._client = store.client
        self._requests: Any = _Requests(store)
        self._scripts = self._requests

    @property
    def is_waiting(self) -> bool:
        """Whether it looks into its inbox without asking."""
        return self._is_waiting

    def ask_unheard(self, catalogue: str, upcoming: UpcomingClaim, room: int | None) -> list[bytes]:
        """Ask under a claim id, present or past, and hear no answer; returns what it was."""
        present = self.upcoming, self._is_waiting
        self.upcoming, self._is_waiting = upcoming, False
        self._requests.is_lossy = True
        with contextlib.suppress(StoreUnavailable):
            self.next(catalogue, 0, room)
        self._requests.is_lossy = False
        self.upcoming, self._is_waiting = present
        reply: list[bytes] = self._requests.reply
        return reply

    def _wait_at(self, inbox: str, timeout: float) -> Any:
        self._store.changed()
        with store_errors():
            item = self._store.client.lpop(inbox)
        return None if item is None else (inbox.encode(), item)


def told_of(job: ClaimedJob) -> Told:
    """What the model says of a job that a worker was given."""
    return Told(job.job_id, job.user, float(job.number), job.attempt, job.claim, job.memory)


def claim_answer(reply: list[bytes]) -> Told | Short | str:
    """The answer of ``claim.lua`` as the model gives it."""
    if reply[:1] == [b"short"]:
        return Short(int(reply[1]))
    if len(reply) > 1:
        return told_of(ClaimedJob.from_fields(reply))
    return reply[0].decode() if reply else "waits"
