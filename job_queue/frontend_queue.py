"""What a frontend does with the workshop's jobs: submit, cancel, list, forget, sweep. For the event loop."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import redis.asyncio

from .board import Board
from .connection import store_errors
from .errors import JobConflict, LimitReached
from .events import Batch, decode
from .forecast import Outlook
from .jobs import ActiveJob, Level, Policy, QueueMode, StoredJob, Submission, plain_number
from .keys import Keys
from .records import FIELDS, JobRecord
from .scripts import AsyncScripts

#: Lost claims after which a job is quarantined.
MAXIMUM_LOSSES = 3
#: What became of a claim: its job runs under it, has ended under it, is no longer its own, or is not there any more.
ClaimState = Literal["running", "ended", "lost", "unknown"]


class PayloadCache:
    """Raw payloads and results by job id, bounded by their bytes: they never change, and interfaces ask often."""

    def __init__(self, limit: int = 32 * 1024 * 1024) -> None:
        self._limit = limit
        self._size = 0
        self._entries: OrderedDict[tuple[str, str], tuple[bytes, ...]] = OrderedDict()

    def get(self, kind: str, job_id: str) -> tuple[bytes, ...] | None:
        """The entry, or None."""
        entry = self._entries.get((kind, job_id))
        if entry is not None:
            self._entries.move_to_end((kind, job_id))
        return entry

    def put(self, kind: str, job_id: str, entry: tuple[bytes, ...]) -> None:
        """Remember an entry; the least recently used ones make room."""
        self.drop(kind, job_id)
        self._entries[kind, job_id] = entry
        self._size += sum(map(len, entry))
        while self._size > self._limit and self._entries:
            _, old = self._entries.popitem(last=False)
            self._size -= sum(map(len, old))

    def drop(self, kind: str, job_id: str) -> None:
        """Forget an entry."""
        old = self._entries.pop((kind, job_id), None)
        if old is not None:
            self._size -= sum(map(len, old))

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._size = 0


@dataclass(frozen=True)
class HeldJob:
    """A job that a worker has, as it stands in the store; see ``Submission`` for the envelope."""

    job_id: str
    user: str
    envelope: dict[str, Any]

    @property
    def files(self) -> set[tuple[str, str]]:
        """Kind and path of each file that it names."""
        return {(str(file["kind"]), str(file["path"])) for file in self.envelope.get("files", [])}


class FrontendQueue:
    """The workshop's jobs as one frontend reads and changes them. Every method raises what ``store_errors`` names."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        keys: Keys,
        *,
        history_size: int,
        history_days: float,
        lease: float = 30.0,
    ) -> None:
        # The library types replies as text or bytes; without a decoder they are bytes.
        self._client: Any = client
        self._keys = keys
        self._scripts = AsyncScripts(client)
        self._history = [history_size, int(history_days * 86_400_000)]
        self._lease_ms = int(lease * 1000)
        #: Seconds between two sweeps: a frontend that pauses for longer than five of them counts as having been away.
        self.sweep_pause = min(1.0, lease / 10)
        self._cache = PayloadCache()

    async def _run(self, script: str, *arguments: Any) -> Any:
        with store_errors():
            return await self._scripts.run(script, self._keys.prefix, *arguments)

    async def submit(self, submission: Submission) -> float:
        """Store a job; the same again is the same job.

        Returns:
            Its number in the queue.

        Raises:
            JobConflict: the id is taken by another job.
            LimitReached: it is over a limit of the person or of the workshop.
        """
        reply = await self._run("submit", *submission.arguments())
        if reply[0] == b"limited":
            raise LimitReached(reply[1].decode(), *map(int, reply[2:]))
        if reply[0] == b"conflict":
            raise JobConflict(f"A prompt with the id {submission.job_id} exists already with another content.")
        return plain_number(reply[1])

    async def cancel(
        self, user: str, job_ids: Sequence[str], which: Literal["any", "queued", "running"] = "any"
    ) -> list[str]:
        """Cancel these jobs of a user, and no others."""
        return await self._cancel(user, which, job_ids) if job_ids else []

    async def cancel_all(self, user: str, which: Literal["any", "queued", "running"]) -> list[str]:
        """Cancel all jobs of a user that are in this state."""
        return await self._cancel(user, which, [])

    async def _cancel(self, user: str, which: str, job_ids: Sequence[str]) -> list[str]:
        return [job_id.decode() for job_id in await self._run("cancel", user, which, *job_ids)]

    async def set_level(self, job_ids: Sequence[str], level: Level) -> list[str]:
        """Give queued jobs the instructor's priority, or put them ahead of all; returns those that changed."""
        return await self._steer("level", level, job_ids)

    async def hold(self, job_ids: Sequence[str]) -> list[str]:
        """Keep queued jobs from being run until they are released; returns those that changed."""
        return await self._steer("hold", "", job_ids)

    async def release(self, job_ids: Sequence[str]) -> list[str]:
        """Let held jobs run again, from where they stood; returns those that changed."""
        return await self._steer("release", "", job_ids)

    async def _steer(self, what: str, level: str, job_ids: Sequence[str]) -> list[str]:
        return [job_id.decode() for job_id in await self._run("steer", what, level, *job_ids)]

    async def configure(self, policy: Policy) -> None:
        """Set how the queue is worked off, from the next claim on."""
        await self._run("configure", "set", *policy.arguments())

    async def configure_if_new(self, policy: Policy) -> None:
        """Set how the queue is worked off where nobody has set it before."""
        await self._run("configure", "default", *policy.arguments())

    async def set_mode(self, mode: QueueMode) -> None:
        """Change who goes next, and nothing else of the policy."""
        await self._run("configure", "set", "mode", mode)

    async def pause(self, *, is_paused: bool) -> None:
        """Begin no further job, or go on."""
        await self._run("configure", "set", "paused", "1" if is_paused else "")

    async def policy(self) -> Policy:
        """How the queue is worked off now."""
        with store_errors():
            return Policy.from_fields(await self._client.hgetall(self._keys.policy))

    async def reserve(self, worker: str, user: str | None) -> None:
        """Keep a worker for one person's jobs; None gives it back to all."""
        await self._run("reserve", worker, user or "")

    async def drain(self, worker: str, *, is_drained: bool = True) -> bool:
        """Give a worker no more jobs, whereas it ends the one it has; or give it jobs again.

        Returns:
            Whether there is such a worker.
        """
        return bool(await self._run("drain", worker, "1" if is_drained else "") == b"ok")

    async def dismiss(self, worker: str) -> Literal["ok", "live", "unknown"]:
        """Show a lost worker no longer; ``live`` for one that is not lost."""
        answer: Literal["ok", "live", "unknown"] = (await self._run("dismiss", worker)).decode()
        return answer

    async def outlook(self) -> Outlook:
        """All that decides who goes next, for ``forecast``."""
        return Outlook.from_reply(await self._run("look_ahead"))

    async def board(self) -> Board:
        """All that an instructor sees of the queue and the workers."""
        return Board.from_reply(await self._run("board"))

    async def active(self, user: str) -> list[ActiveJob]:
        """A user's jobs that have not ended, in the order of the queue."""
        reply = await self._run("list_active", user)
        return [
            ActiveJob(job_id.decode(), state.decode(), plain_number(number), client.decode())
            for job_id, state, number, client in zip(*[iter(reply)] * 4, strict=True)
        ]

    async def count_active(self, user: str) -> int:
        """How many jobs of a user have not ended."""
        with store_errors():
            return int(await self._client.zcard(self._keys.active(user)))

    async def history_ids(self, user: str, start: int = 0, stop: int = -1) -> list[str]:
        """Ids of a user's finished jobs, the oldest first; ``start`` and ``stop`` as in ZRANGE, both inclusive."""
        with store_errors():
            return [job_id.decode() for job_id in await self._client.zrange(self._keys.history(user), start, stop)]

    async def payloads(self, job_ids: Sequence[str]) -> dict[str, StoredJob]:
        """The whole of some jobs that have not ended."""
        rows = await self._fields("payload", ("number", "payload"), job_ids)
        return {job_id: StoredJob(plain_number(row[0]), json.loads(row[1]), None) for job_id, row in rows.items()}

    async def finished(self, user: str, job_ids: Sequence[str]) -> dict[str, StoredJob]:
        """The whole of some finished jobs of a user."""
        rows = await self._fields("finished", ("user", "number", "payload", "result"), job_ids)
        return {
            job_id: StoredJob(plain_number(row[1]), json.loads(row[2]), json.loads(row[3]))
            for job_id, row in rows.items()
            if row[0].decode() == user
        }

    async def finished_briefs(self, job_ids: Sequence[str]) -> dict[str, StoredJob]:
        """Finished jobs without their prompts: what lists of jobs show."""
        rows = await self._fields("brief", ("number", "brief", "result"), job_ids)
        return {
            job_id: StoredJob(plain_number(row[0]), json.loads(row[1]), json.loads(row[2]))
            for job_id, row in rows.items()
        }

    async def _fields(self, kind: str, names: tuple[str, ...], job_ids: Sequence[str]) -> dict[str, tuple[bytes, ...]]:
        found = {job_id: self._cache.get(kind, job_id) for job_id in job_ids}
        missing = [job_id for job_id, entry in found.items() if entry is None]
        if missing:
            with store_errors():
                pipeline = self._client.pipeline(transaction=False)
                for job_id in missing:
                    pipeline.hmget(self._keys.job(job_id), names)
                rows = await pipeline.execute()
            for job_id, row in zip(missing, rows, strict=True):
                if None not in row:
                    found[job_id] = tuple(row)
                    self._cache.put(kind, job_id, tuple(row))
        return {job_id: entry for job_id, entry in found.items() if entry is not None}

    async def records(self, job_ids: Sequence[str]) -> dict[str, JobRecord]:
        """These jobs, whosever they are, as far as they are there."""
        with store_errors():
            pipeline = self._client.pipeline(transaction=False)
            for job_id in job_ids:
                pipeline.hmget(self._keys.job(job_id), FIELDS)
            rows = await pipeline.execute() if job_ids else []
        found = (JobRecord.from_row(job_id, row) for job_id, row in zip(job_ids, rows, strict=True))
        return {record.job_id: record for record in found if record is not None}

    async def ended(self, user: str, before: int | None, most: int) -> list[tuple[str, int]]:
        """A user's finished jobs, the newest first, each with its place among them, from before such a place."""
        latest = "+inf" if before is None else f"({before}"
        with store_errors():
            rows = await self._client.zrevrangebyscore(
                self._keys.history(user), latest, "-inf", start=0, num=most, withscores=True
            )
        return [(job_id.decode(), int(place)) for job_id, place in rows]

    async def forget(self, user: str, job_ids: Sequence[str]) -> None:
        """Delete these finished jobs of a user from history."""
        if job_ids:
            await self._run("forget", user, *job_ids)
            for job_id in job_ids:
                for kind in ("payload", "finished", "brief"):
                    self._cache.drop(kind, job_id)

    async def forget_all(self, user: str) -> None:
        """Delete all of a user's history."""
        await self._run("forget", user)
        self._cache.clear()

    async def kept_events(self, job_id: str) -> list[Batch]:
        """The kept events of a job's current attempt, from the first."""
        with store_errors():
            entries = await self._client.lrange(self._keys.events(job_id), 0, -1)
        return [batch for entry in entries if isinstance(batch := decode(entry), Batch)]

    async def sweep(self) -> tuple[list[str], list[str]]:
        """Give back the jobs of lost workers.

        Returns:
            The ids that are queued again, and those that were quarantined.
        """
        requeued, quarantined = await self._run("sweep", MAXIMUM_LOSSES, *self._history, self._lease_ms)
        return [job_id.decode() for job_id in requeued], [job_id.decode() for job_id in quarantined]

    async def held_by(self, claim: str, job_id: str) -> HeldJob | None:
        """A job if this is the claim under which it runs now, else None."""
        names = ("claim", "state", "user", "envelope")
        with store_errors():
            current, state, user, envelope = await self._client.hmget(self._keys.job(job_id), names)
        if current is None or current.decode() != claim or state not in (b"claimed", b"running"):
            return None
        try:
            return HeldJob(job_id, user.decode(), dict(json.loads(envelope)))
        except (AttributeError, TypeError, ValueError):
            # No frontend has written it.
            return None

    async def claim_states(self, claims: Sequence[tuple[str, str]]) -> list[ClaimState]:
        """What became of some claims, each by its job and its id."""
        with store_errors():
            pipeline = self._client.pipeline(transaction=False)
            for job_id, _ in claims:
                pipeline.hmget(self._keys.job(job_id), "state", "claim")
            rows = await pipeline.execute() if claims else []
        return [
            _claim_state(state, current == claim.encode())
            for (_, claim), (state, current) in zip(claims, rows, strict=True)
        ]


def _claim_state(state: bytes | None, is_current: bool) -> ClaimState:
    if state is None:
        return "unknown"
    if not is_current:
        return "lost"
    return "running" if state in (b"claimed", b"running") else "ended"
