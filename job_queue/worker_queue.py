"""What a worker does with the workshop's jobs: register, claim, report, finish.

``Claims`` is for the executing thread, which waits in it. ``Reports`` is for the event loop.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import redis
import redis.asyncio

from .connection import connect, store_errors
from .errors import ClaimLost, WorkerNameTaken
from .events import Batch, Event, encode
from .jobs import ClaimedJob, encode_json
from .keys import Keys
from .messages import INSTRUCTORS, message, publish
from .scripts import AsyncScripts, Scripts

log = logging.getLogger("comfyume")

#: Seconds that a blocking read for work lasts at most; then the worker asks again, so a lost wake-up costs no more.
LONGEST_WAIT = 5.0


@dataclass(frozen=True)
class WorkerIdentity:
    """Who claims: the worker's name, its process, what it can run, and its lease in seconds."""

    name: str
    instance: str
    lease: float

    @property
    def lease_ms(self) -> int:
        """The lease in milliseconds."""
        return int(self.lease * 1000)


@dataclass(frozen=True)
class UpcomingClaim:
    """The claim under which a worker will have its next job, and its place among that process's claims."""

    claim: str
    turn: int


def new_claim() -> str:
    """A random 128-bit claim id."""
    return secrets.token_hex(16)


class NotRegistered(Exception):
    """The store does not know this worker (any more); register again."""


class Claims:
    """Claims jobs for one worker; for one thread."""

    def __init__(self, url: str, keys: Keys, identity: WorkerIdentity) -> None:
        # The library types replies as text or bytes; without a decoder they are bytes.
        self._client: Any = connect(url, timeout=LONGEST_WAIT + 1.5)
        self._keys = keys
        self._scripts = Scripts(self._client)
        self._identity = identity
        self._is_waiting = False
        self.short: int | None = None
        self.upcoming = UpcomingClaim("", 0)
        self._begin_turn()

    def next(self, catalogue: str, timeout: float, room: int | None = None) -> ClaimedJob | None:
        """The next job for this worker, waiting at most ``timeout`` seconds for one.

        Args:
            room: bytes of memory that the job may need; None for any. When all that is queued for this worker needs
                more, this returns None at once and ``short`` says how much the least of it needs.

        A claim id is used until it has brought a job, so a reply that is lost on the way loses nothing. If it is lost
        for longer than the lease, the job is another's and the id is spent; then the next one is used.

        Raises:
            NotRegistered: the worker must register first.
            StoreUnavailable, StoreRefused: see ``store_errors``.
        """
        with store_errors():
            if not self._is_waiting:
                job = self._take(self._ask(catalogue, room))
                if job is not None or self.short is not None:
                    return job
            self._is_waiting = False
            inbox = self._keys.inbox(self._identity.name)
            item = self._wait_at(inbox, max(0.01, min(timeout, LONGEST_WAIT)))
        if item is None or item[1] == b"":
            return None
        job = ClaimedJob.from_inbox(item[1])
        return self._won(job) if job.claim == self.upcoming.claim else None

    def _wait_at(self, inbox: str, timeout: float) -> Any:
        try:
            return self._scripts.line.call("BLPOP", inbox, timeout)
        except redis.ConnectionError:
            # A store that was started anew, or a job that was lost on its way here: the claim is asked for again.
            return None

    def take_from_finish(self, reply: list[bytes]) -> ClaimedJob | None:
        """The job that came with the end of the last one, if one did; else this worker waits at its inbox already."""
        if reply in ([b"none"], [b"unknown"], [b"spent"]):
            return None
        job = self._take(reply)
        self._is_waiting = job is None and self.short is None
        return job

    def hang_up(self) -> None:
        """Break the connection, so that ``next`` asks on a new one; from any thread."""
        self._scripts.line.hang_up()

    def wait_though_short(self) -> None:
        """Let ``next`` wait at the inbox: there is no more room to be had."""
        self.short, self._is_waiting = None, True

    def _take(self, reply: list[bytes]) -> ClaimedJob | None:
        self.short = int(reply[1]) if reply[:1] == [b"short"] else None
        if self.short is not None:
            return None
        if reply == [b"unknown"]:
            raise NotRegistered(self._identity.name)
        if reply == [b"spent"]:
            self._begin_turn()
            return None
        return self._won(ClaimedJob.from_fields(reply)) if reply else None

    def _ask(self, catalogue: str, room: int | None) -> list[bytes]:
        identity, upcoming = self._identity, self.upcoming
        reply: list[bytes] = self._scripts.run(
            "claim",
            self._keys.prefix,
            identity.name,
            identity.instance,
            upcoming.claim,
            catalogue,
            identity.lease_ms,
            upcoming.turn,
            _word(room),
        )
        return reply

    def _won(self, job: ClaimedJob) -> ClaimedJob:
        self._begin_turn()
        return job

    def _begin_turn(self) -> None:
        """Choose the next claim id; its turn orders it among this process's, however late a request arrives."""
        self.upcoming = UpcomingClaim(new_claim(), time.monotonic_ns() // 1000)
        self._is_waiting = False


class Made(NamedTuple):
    """What a job has made: files, and images and frames of films in them."""

    files: int = 0
    frames: int = 0


NOTHING = Made()


def ending_words(
    claim: str,
    batch: Batch,
    result: bytes,
    history: Sequence[int],
    following: Sequence[str | int] = ("", "", "", "", ""),
    *,
    earlier: Sequence[Event] = (),
    room: int | None = None,
    peak: int | None = None,
    made: Made = NOTHING,
) -> list[bytes]:
    """The arguments of ``finish.lua``, which describes them."""
    published = encode(batch)
    kept = published
    if earlier or not all(event.keep for event in batch.events):
        kept = encode(replace(batch, events=[*earlier, *batch.events]), only_kept=True)
    words: list[Any] = [batch.job_id, claim, batch.ends, result, published, *history, *following]
    words += [kept, _word(room), _word(peak), made.files, made.frames]
    return [word if isinstance(word, bytes) else str(word).encode() for word in words]


def _lost(job_id: str) -> ClaimLost:
    return ClaimLost(f"job {job_id} is no longer this worker's")


def _word(number: int | None) -> str:
    return "" if number is None else str(number)


class Reports:
    """A worker's reports to the store, on the event loop."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        keys: Keys,
        identity: WorkerIdentity,
        *,
        history_size: int,
        history_days: float,
    ) -> None:
        self._client: Any = client
        self._keys = keys
        self._scripts = AsyncScripts(client)
        self._identity = identity
        #: How many finished jobs are kept for each person, and for how many milliseconds.
        self.history = [history_size, int(history_days * 86_400_000)]

    @property
    def lease(self) -> float:
        """Seconds until a silent worker's job is given to another."""
        return self._identity.lease

    async def make_sure(self, job_id: str, claim: str) -> None:
        """Ask whether a job is still this claim's.

        Raises:
            ClaimLost: it is not.
        """
        with store_errors():
            current = await self._client.hget(self._keys.job(job_id), "claim")
        if current != claim.encode():
            raise _lost(job_id)

    async def _run(self, script: str, *arguments: Any, behind_ping: bool = False) -> Any:
        with store_errors():
            return await self._scripts.run(script, self._keys.prefix, *arguments, behind_ping=behind_ping)

    async def wake(self) -> None:
        """Make the thread that waits for work look up."""
        inbox = self._keys.inbox(self._identity.name)
        with store_errors():
            pipeline = self._client.pipeline(transaction=True)
            pipeline.rpush(inbox, b"")
            pipeline.pexpire(inbox, self._identity.lease_ms)
            await pipeline.execute()

    async def register(
        self,
        description: dict[str, Any],
        catalogue: str,
        capabilities: frozenset[str],
        *,
        former_is_dead: bool = False,
        price: float | None = None,
    ) -> None:
        """Announce this worker.

        Args:
            price: what an hour of it costs; None if nobody has said.

        Raises:
            WorkerNameTaken: a live worker has the name; its description is in the message.
        """
        arguments = [
            self._identity.name,
            self._identity.instance,
            self._identity.lease_ms,
            encode_json(description),
            catalogue,
            "1" if former_is_dead else "",
            "" if price is None else f"{price:g}",
        ]
        reply = await self._run("register_worker", *arguments)
        if reply[0] == b"capabilities":
            with store_errors():
                # The empty one is what nothing needs: a set with no member would not be there.
                await self._client.sadd(self._keys.capabilities(catalogue), "", *capabilities)
            reply = await self._run("register_worker", *arguments)
        if reply[0] == b"taken":
            other = json.loads(reply[1])
            raise NameTakenBy(self._identity.name, other)

    async def report(self, measured: dict[str, Any]) -> None:
        """Tell what was measured of this machine; see ``Engine.measure``."""
        await self._run("report", self._identity.name, self._identity.instance, encode_json(measured))

    async def tell_of_backup(self, error: str) -> None:
        """Tell whether this machine's own files were backed up.

        Args:
            error: why not, in words for people; empty if they were.
        """
        worker = self._identity.name
        await publish(self._client, self._keys, "backup", {"worker": worker, "error": error})
        if error:
            text = f"The own files of the worker {worker} could not be backed up. {error}"
            await publish(self._client, self._keys, "message", message(text, who="backup", to=INSTRUCTORS))

    async def leave(self) -> str:
        """Take the worker out in good order.

        Returns:
            The id of the job that went back to the queue, or an empty string.
        """
        reply = await self._run("leave", self._identity.name, self._identity.instance, *self.history)
        return str(reply.decode())

    async def publish(self, claim: str, batch: Batch) -> None:
        """Publish events of a running job at once; what a browser may not miss must be kept soon, by ``append``.

        Raises:
            ClaimLost: the job is no longer this claim's.
        """
        if await self._run("append_events", batch.job_id, claim, encode(batch), b"") == b"lost":
            raise _lost(batch.job_id)

    async def append(self, claim: str, batch: Batch, earlier: Sequence[Event] = ()) -> None:
        """Publish events of a running job and keep what a browser may not miss, ``earlier`` ones included.

        Raises:
            ClaimLost: the job is no longer this claim's.
        """
        to_keep = replace(batch, events=[*earlier, *batch.events])
        kept = encode(to_keep, only_kept=True) if any(event.keep for event in to_keep.events) else b""
        if await self._run("append_events", batch.job_id, claim, encode(batch), kept) == b"lost":
            raise _lost(batch.job_id)

    def ending(
        self,
        claim: str,
        batch: Batch,
        result: bytes,
        *,
        earlier: Sequence[Event] = (),
        upcoming: UpcomingClaim | None = None,
        catalogue: str = "",
        room: int | None = None,
        peak: int | None = None,
        made: Made = NOTHING,
    ) -> list[bytes]:
        """The words that end a job with its result and its last events, and claim the next one, as one change.

        Args:
            result: what history shows of it, as JSON.
            room: bytes of memory that the next job may need; None for any.
            peak: bytes of memory that this job took; None if nobody knows.
            made: what it has made.
        """
        following: list[str | int] = ["", "", "", "", ""]
        if upcoming is not None:
            identity = self._identity
            following = [identity.instance, upcoming.claim, catalogue, identity.lease_ms, upcoming.turn]
        options: dict[str, Any] = {"earlier": earlier, "room": room, "peak": peak, "made": made}
        return ending_words(claim, batch, result, self.history, following, **options)

    async def end(self, words: Sequence[bytes]) -> list[bytes]:
        """End a job by the words of ``ending``; doing so again changes nothing.

        Returns:
            What ``Claims.take_from_finish`` takes.

        Raises:
            ClaimLost: the job is no longer this claim's.
        """
        reply = await self._run("finish", *words, behind_ping=True)
        if reply[0] == b"lost":
            raise _lost(words[0].decode())
        return reply[1:] if reply[0] == b"ok" else [b"none"]

    async def finish(self, claim: str, batch: Batch, result: dict[str, Any], **options: Any) -> list[bytes]:
        """``ending`` and ``end`` in one."""
        return await self.end(self.ending(claim, batch, encode_json(result), **options))


class NameTakenBy(WorkerNameTaken):
    """Another live worker has this name."""

    def __init__(self, name: str, description: dict[str, Any]) -> None:
        super().__init__(
            f"The name {name!r} belongs to a live worker on {description.get('host')} "
            f"(process {description.get('pid')}). Give this one another COMFYUME_WORKER_ID, or stop the other."
        )
        self.description = description
