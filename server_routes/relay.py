"""Brings the events of running jobs from the store to the browsers that wait for them."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis.asyncio

from ..comfyui_seams import sockets
from ..job_queue.connection import store_errors, subscribed
from ..job_queue.errors import QueueError
from ..job_queue.events import Batch, Event, Notice, decode
from ..job_queue.frontend_queue import FrontendQueue
from ..job_queue.keys import Keys
from .mailboxes import Mailbox
from .native_shapes import lost_event

log = logging.getLogger("comfyume")

#: ComfyUI's events from which a page that was loaded anew rebuilds what it shows of a running job.
STATE_EVENTS = {
    "execution_start",
    "execution_cached",
    "executing",
    "executed",
    "execution_success",
    "execution_error",
    "execution_interrupted",
}
#: Seconds between two words to one person that their queue has changed.
STATUS_PAUSE = 0.05
#: Seconds for which an ended job is remembered for a browser that was away at its end.
REMEMBER_ENDED = 600.0
MOST_ENDED = 2_000
#: How often, and after which pause in seconds, missed events are looked for in a job's stream.
GAP_LOOKS = 5
GAP_PAUSE = 0.02
#: How many of a job's last events are remembered.
RECENT = 64
#: Jobs whose end this frontend looks for when it has lost the channel for a while.
MOST_AWAITED = 20_000
#: The attempt of a job that was given up: behind all others.
LOST = 10**9


@dataclass
class LiveJob:
    """What the relay knows of a job that runs, or whose end its browser has not seen.

    Attributes:
        kept: number of the last kept event that was passed on.
        passing: the last event of each kind that may be missed, for a page that is loaded anew.
        recent: the last kept events, since a worker keeps them in the stream a little after it told them.
        clients: the browsers that its events were for.
        ended_at: when it ended, by this process's monotonic clock in seconds.
    """

    job_id: str
    user: str
    attempt: int = 0
    kept: int = 0
    passing: dict[str, Event] = field(default_factory=dict)
    recent: deque[Event] = field(default_factory=lambda: deque(maxlen=RECENT))
    clients: set[str] = field(default_factory=set)
    ended_at: float | None = None


class Relay:
    """Reads the events' channel and posts each event to its browser's mailbox."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        keys: Keys,
        queue: FrontendQueue,
        *,
        workers_changed: Callable[[], Awaitable[None]],
        accounts_changed: Callable[[], Awaitable[None]],
        backed_up: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        self._client = client
        self._keys = keys
        self._queue = queue
        self._workers_changed = workers_changed
        self._accounts_changed = accounts_changed
        self._backed_up = backed_up
        self._observe: Callable[[Batch | Notice], None] = lambda _: None
        self._connection_changed: Callable[[], None] = lambda: None
        self._left: Callable[[float], None] = lambda _: None
        self._mailboxes: dict[str, Mailbox] = {}
        self._jobs: dict[str, LiveJob] = {}
        self._ended: OrderedDict[str, LiveJob] = OrderedDict()
        self._told_end: OrderedDict[str, int] = OrderedDict()
        self._awaited: OrderedDict[str, str] = OrderedDict()
        self._unanswered: dict[str, list[Batch]] = {}
        self._held: dict[str, list[tuple[str, int, Event]]] = {}
        self._changing: dict[str, bool] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.connected = asyncio.Event()

    def attach(
        self,
        observe: Callable[[Batch | Notice], None],
        connection_changed: Callable[[], None],
        left: Callable[[float], None],
    ) -> None:
        """Call ``observe`` with each message, before it is acted on, and tell when the store comes and goes.

        Args:
            left: called when events have left for a browser, with the moment at which they came up.
        """
        self._observe, self._connection_changed, self._left = observe, connection_changed, left

    # Submits.

    def expect(self, job_id: str) -> None:
        """Hold a job's events back until ``answered``: nobody hears of a prompt before the answer to its submit."""
        self._unanswered.setdefault(job_id, [])

    async def answered(self, job_id: str, user: str | None) -> None:
        """The response to the submit is out; let the job's events go. None for a submit that was not stored."""
        if user is not None:
            self._awaited[job_id] = user
        _shorten(self._awaited, MOST_AWAITED)
        for batch in self._unanswered.pop(job_id, []):
            await self._pass_on(batch)

    # The channel.

    async def run(self) -> None:
        """Relay until cancelled; connects again when the store was away, and catches up."""
        while True:
            try:
                with store_errors():
                    async with subscribed(self._client, self._keys.events_channel) as arriving:
                        self.connected.set()
                        self._connection_changed()
                        self._spawn(self._accounts_changed())
                        await self._catch_up_all()
                        async for data in arriving:
                            await self._take(data)
            except QueueError as error:
                log.warning("[comfyume] no events from the workers: %s", error)
            finally:
                self.connected.clear()
                self._connection_changed()
            await asyncio.sleep(0.5)

    async def _take(self, data: bytes) -> None:
        try:
            message = decode(data)
        except ValueError as error:
            log.warning("[comfyume] %s", error)
            return
        self._observe(message)
        if isinstance(message, Notice):
            await self._take_notice(message)
        elif message.job_id in self._unanswered:
            self._unanswered[message.job_id].append(message)
        else:
            await self._pass_on(message)

    async def _take_notice(self, notice: Notice) -> None:
        if notice.kind == "changed":
            self._tell_changed(notice.data["changed"])
        elif notice.kind == "workers":
            self._spawn(self._workers_changed())
        elif notice.kind == "accounts":
            self._spawn(self._accounts_changed())
        elif notice.kind == "backup":
            self._spawn(self._backed_up(notice.data["backup"]))
        elif notice.kind == "lost":
            job_id, name, text = lost_event(notice.data["lost"])
            number = self._jobs[job_id].kept + 1 if job_id in self._jobs else 1
            client = notice.data.get("client") or None
            events = [Event(number, text, True, True, client, name)]
            if client:
                end = json.dumps({"type": "executing", "data": {"node": None, "prompt_id": job_id}}).encode()
                events.append(Event(number + 1, end, True, True, client, "executing"))
            await self._pass_on(Batch(job_id, notice.data["user"], LOST, events, 0, "error"))

    def _spawn(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            try:
                await work
            except QueueError as error:
                log.warning("[comfyume] %s", error)

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Events.

    async def _pass_on(self, batch: Batch) -> None:
        if batch.attempt <= self._told_end.get(batch.job_id, 0):
            return
        job = self._job(batch.job_id, batch.user)
        if batch.attempt != LOST:
            await self._close_gap(job, batch)
        self._apply(job, batch, batch.since)
        if batch.ends is not None:
            self._tell_changed(batch.user)

    async def _close_gap(self, job: LiveJob, batch: Batch) -> None:
        """Read what the channel did not bring before this batch; a worker keeps events shortly after it told them."""
        for _ in range(GAP_LOOKS):
            if batch.kept_before <= (job.kept if batch.attempt == job.attempt else 0):
                return
            await self._catch_up(job)
            await asyncio.sleep(GAP_PAUSE)

    def _job(self, job_id: str, user: str) -> LiveJob:
        if job_id not in self._jobs:
            self._jobs[job_id] = LiveJob(job_id, user)
        return self._jobs[job_id]

    def _apply(self, job: LiveJob, batch: Batch, since: float | None = None) -> None:
        if batch.attempt < job.attempt:
            return
        if batch.attempt > job.attempt:
            job.attempt, job.kept, job.passing = batch.attempt, 0, {}
            job.recent.clear()
        self._post_in_turn(job, [event for event in batch.events if _is_new(job, event)], since)
        if batch.ends is not None:
            self._end(job)

    def _post_in_turn(self, job: LiveJob, events: Sequence[Event], since: float | None) -> None:
        """Post events to their browsers, behind what is being told again to one that has just come back."""
        posts: dict[str, list[Event]] = {}
        for event in events:
            for sid in sockets.connected() if event.client is None else [event.client]:
                # A prompt may name any browser, but only those of its own person hear of it.
                if sockets.user_of(sid) == job.user:
                    posts.setdefault(sid, []).append(event)
        job.clients.update(event.client for event in events if event.client is not None)
        for sid, its in posts.items():
            if sid in self._held:
                self._held[sid] += [(job.job_id, job.attempt, event) for event in its]
            else:
                self._post(sid, job.job_id, job.attempt, *its, since=since)

    def _post(self, sid: str, job_id: str, attempt: int, *events: Event, since: float | None = None) -> None:
        mailbox = self._mailbox(sid)
        if mailbox is not None:
            mailbox.post(job_id, attempt, events, since)

    def tell(self, sid: str, message: bytes) -> None:
        """Send a text to a browser, behind what waits for it already."""
        mailbox = self._mailbox(sid)
        if mailbox is not None:
            mailbox.post_text(message)

    def _mailbox(self, sid: str) -> Mailbox | None:
        socket = sockets.socket_of(sid)
        mailbox = self._mailboxes.get(sid)
        if mailbox is not None and mailbox.socket is not socket:
            mailbox.close()
            del self._mailboxes[sid]
            mailbox = None
        if socket is None or socket.closed:
            return None
        if mailbox is None:
            mailbox = self._mailboxes[sid] = Mailbox(socket, self._left)
        return mailbox

    def _end(self, job: LiveJob) -> None:
        """Forget an ended job, unless a browser that waits for its end is away."""
        self._jobs.pop(job.job_id, None)
        self._awaited.pop(job.job_id, None)
        self._told_end[job.job_id] = job.attempt
        _shorten(self._told_end, MOST_ENDED)
        self._forget_old_ends()
        if any(sockets.socket_of(sid) is None for sid in job.clients):
            job.ended_at = time.monotonic()
            self._ended[job.job_id] = job
            _shorten(self._ended, MOST_ENDED)

    def _forget_old_ends(self) -> None:
        oldest = time.monotonic() - REMEMBER_ENDED
        while self._ended and (next(iter(self._ended.values())).ended_at or 0) < oldest:
            self._ended.popitem(last=False)

    # Catching up.

    async def _catch_up_all(self) -> None:
        """After the channel was lost: read what the jobs did meanwhile, also those that began and ended unheard."""
        for job_id, user in list(self._awaited.items()):
            self._job(job_id, user)
        for job in list(self._jobs.values()):
            await self._catch_up(job)

    async def _catch_up(self, job: LiveJob) -> None:
        """Pass on the kept events of a job that the channel did not bring."""
        for batch in await self._queue.kept_events(job.job_id):
            self._apply(job, batch)

    async def greet(self, sid: str) -> None:
        """Tell a browser that has just connected what its running jobs have done so far, and which have ended."""
        for known, mailbox in list(self._mailboxes.items()):
            if sockets.socket_of(known) is not mailbox.socket:
                mailbox.close()
                del self._mailboxes[known]
        self._mailbox(sid)
        self._held.setdefault(sid, [])
        self._spawn(self._retell(sid))

    async def _retell(self, sid: str) -> None:
        user = sockets.user_of(sid)
        try:
            active = await self._queue.active(user) if user is not None else []
            jobs = [job.job_id for job in active if job.is_running and job.client == sid]
            jobs += [job_id for job_id, job in self._ended.items() if sid in job.clients and job.user == user]
            for job_id in jobs:
                self._ended.pop(job_id, None)
                await self._retell_job(sid, job_id)
        finally:
            for job_id, attempt, event in self._held.pop(sid, []):
                self._post(sid, job_id, attempt, event)

    async def _retell_job(self, sid: str, job_id: str) -> None:
        """Tell a browser again what a page shows of a job; what it has been told on this socket is left out."""
        for batch in await self._queue.kept_events(job_id):
            for event in batch.events:
                if event.name in STATE_EVENTS and event.client in (None, sid):
                    self._post(sid, job_id, batch.attempt, event)
        live = self._jobs.get(job_id)
        if live is not None:
            recent = [event for event in live.recent if event.name in STATE_EVENTS]
            for event in [*recent, *live.passing.values()]:
                if event.client in (None, sid):
                    self._post(sid, job_id, live.attempt, event)

    # The queue's state.

    def _tell_changed(self, user: str) -> None:
        """Tell a person's browsers that their queue changed, once for all that changes within a short pause."""
        if user in self._changing:
            self._changing[user] = True
            return
        self._changing[user] = False
        self._spawn(self._send_status(user))

    async def _send_status(self, user: str) -> None:
        try:
            while True:
                await asyncio.sleep(STATUS_PAUSE)
                self._changing[user] = False
                clients = [sid for sid in sockets.connected() if sockets.user_of(sid) == user]
                if clients:
                    message = sockets.status_message(await self._queue.count_active(user))
                    for sid in clients:
                        self.tell(sid, message)
                if not self._changing[user]:
                    return
        finally:
            del self._changing[user]


def _is_new(job: LiveJob, event: Event) -> bool:
    """Note an event as told; False for a kept one that was told before."""
    if not event.keep:
        job.passing[event.name] = event
    elif event.number <= job.kept:
        return False
    else:
        job.kept = event.number
        job.recent.append(event)
    return True


def _shorten(entries: OrderedDict[str, Any], most: int) -> None:
    """Forget the oldest entries over a bound."""
    while len(entries) > most:
        entries.popitem(last=False)
