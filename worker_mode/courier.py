"""Carries a running job's events and result from ComfyUI to the store, in order, on the event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar

from ..blobs.errors import BlobError
from ..job_queue.errors import ClaimLost, QueueError
from ..job_queue.events import Batch, Event
from ..job_queue.jobs import encode_json
from ..job_queue.worker_queue import Made, Reports
from .endings import count_files, failed_status, final_state, timed_out_data, timed_out_status, undelivered_status
from .engine import Engine
from .running_job import Finish, RunningJob
from .unsent import UnsentResults

log = logging.getLogger("comfyume")

T = TypeVar("T")

#: The event under which a finished job passes through ComfyUI's sending loop, behind its last event.
FINISH = "comfyume-finish"
#: ComfyUI's event with the progress of every node so far.
STATE = "progress_state"
#: ComfyUI's events that a browser may miss: the next one replaces them.
PASSING = {"progress", STATE, "status"}
#: ComfyUI's events by which pages are told at which node a job is.
TELL_OF_A_NODE = {"progress", "executing"}
#: Type numbers of ComfyUI's binary events that a browser may miss: previews, and text of progress.
PASSING_BINARY = {1, 2, 3, 4}
#: A passing event waits behind at most this many others before older passing ones are thinned out.
MOST_WAITING = 32
#: Seconds for which events are gathered, so that a busy job does not make a message of each one.
GATHER = 0.003
#: Seconds after which published events are kept at the latest.
KEEP_PAUSE = 0.02
#: Seconds until events are sent again that the store could not take.
RETRY_PAUSE = 1.0
#: Binary events of node packs are kept up to this size in bytes.
LARGEST_KEPT = 1024 * 1024


class Courier:
    """Takes events from the tap, publishes the files that they name, and appends them to the job's stream.

    Args:
        clock: tells the time by the store's clock, as far as it is known.
    """

    def __init__(
        self,
        reports: Reports,
        engine: Engine,
        unsent: UnsentResults,
        clock: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._clock = clock
        self._reports = reports
        self._unsent = unsent
        self._engine = engine
        self._running: RunningJob | None = None
        self._ended: str | None = None
        self._work = asyncio.Event()
        self._sending = asyncio.Lock()

    def start(self) -> asyncio.Task[None]:
        """Start sending; on the event loop."""
        return asyncio.create_task(self._send_for_ever(), name="comfyume-courier")

    def begin(self, running: RunningJob) -> None:
        """From now on events belong to this job; called by the executing thread between two jobs."""
        self._running = running
        self._engine.announce_client(running.client, running.job.envelope.get("features", {}))

    async def take_json(self, event: str, data: Any, sid: str | None) -> bool:
        """Take an event of the running job."""
        if event == FINISH:
            await self._finish(data)
            return True
        if event == "executing" and isinstance(data, dict) and data.get("prompt_id") == self._ended:
            # ComfyUI's own word that a job is over; the job's last batch has said it already. The next may have begun.
            return True
        running = self._running
        if running is None or not _is_for(running, sid):
            return False
        self._begin_waiting(running)
        if event == STATE:
            running.number += 1
            running.state = (running.number, data, sid)
            self._work.set()
            return True
        if event in TELL_OF_A_NODE and isinstance(data, dict) and data.get("node") is not None:
            running.note_node(str(data["node"]))
        if event == "execution_interrupted" and running.timed_out is not None:
            event, data = "execution_error", timed_out_data(data, running.timed_out)
        if event == "executed":
            data = {**data, "output": await self._publish(running, data["node"], data["output"])}
        elif event == "execution_start" and (running.cancelled or running.timed_out is not None):
            # ComfyUI forgets an interrupt that came before the start.
            self._engine.interrupt()
        self._append(
            running, self._engine.message(event, data), text=True, keep=event not in PASSING, name=event, sid=sid
        )
        return True

    async def take_bytes(self, event: int, message: bytes, sid: str | None) -> bool:
        """Take a binary event of the running job."""
        running = self._running
        if running is None or not _is_for(running, sid):
            return False
        self._begin_waiting(running)
        keep = event not in PASSING_BINARY and len(message) <= LARGEST_KEPT
        self._append(running, message, text=False, keep=keep, name=f"binary:{event}", sid=sid)
        return True

    def _begin_waiting(self, running: RunningJob) -> None:
        if running.since is None:
            running.since = self._clock()

    def _append(
        self, running: RunningJob, payload: bytes, *, text: bool, keep: bool, name: str, sid: str | None
    ) -> None:
        self._begin_waiting(running)
        running.number += 1
        running.waiting.append(Event(running.number, running.redacted(payload), text, keep, sid, name))
        if len(running.waiting) > MOST_WAITING:
            _thin_out(running.waiting)
        self._work.set()

    async def _publish(self, running: RunningJob, node_id: str, outputs: Any) -> Any:
        await self._make_sure(running)
        if running.lost:
            return outputs
        try:
            running.published[node_id] = await running.publisher.publish_outputs(outputs)
            return running.published[node_id]
        except (BlobError, OSError) as error:
            log.warning("[comfyume] results of job %s could not be delivered: %s", running.job.job_id, error)
            running.undelivered = error
            # The names are those of files that nobody can see. The job ends with the reason.
            return {}

    async def _make_sure(self, running: RunningJob) -> None:
        """Learn before a file is delivered whether the claim has gone to another worker while this one stood still.

        A store that is away knows no better; what is delivered then is taken back if the claim was lost.
        """
        now = time.monotonic()
        if running.lost or now - running.confirmed < self._reports.lease / 2:
            return
        try:
            await self._reports.make_sure(running.job.job_id, running.job.claim)
            running.confirmed = now
        except ClaimLost as error:
            self._lose(running, error)
        except QueueError as error:
            log.debug("nobody can say whether job %s is still this worker's: %s", running.job.job_id, error)

    async def _send_for_ever(self) -> None:
        while True:
            await self._work.wait()
            await asyncio.sleep(GATHER)
            self._work.clear()
            async with self._sending:
                running = self._running
                if running is not None and not running.lost and (running.waiting or running.state or running.unkept):
                    await self._send(running)

    async def _send(self, running: RunningJob) -> None:
        """Publish what waits, and keep what was published a while ago.

        Keeping is a write that the store syncs to its disk, so it is done for many events at
        once: after a pause, or with the job's end. What the store cannot take now is kept later.
        """
        now = time.monotonic()
        batch = self._take_batch(running)
        is_keeping = bool(running.unkept) and now >= running.keep_at
        if not batch.events and not is_keeping:
            return
        kept = [event for event in batch.events if event.keep]
        if kept and not running.unkept:
            self._keep_after(running, KEEP_PAUSE)
        try:
            if is_keeping:
                await self._reports.append(running.job.claim, batch, running.unkept)
                running.unkept = []
                running.confirmed = now
                return
            await self._reports.publish(running.job.claim, batch)
            running.confirmed = now
        except ClaimLost as error:
            self._lose(running, error)
        except QueueError as error:
            log.warning("[comfyume] %s Trying again in %.0f s; the job goes on.", error, RETRY_PAUSE)
            self._keep_after(running, RETRY_PAUSE)
        running.unkept += kept

    def _keep_after(self, running: RunningJob, seconds: float) -> None:
        running.keep_at = time.monotonic() + seconds
        asyncio.get_running_loop().call_later(seconds, self._work.set)

    def _lose(self, running: RunningJob, error: ClaimLost) -> None:
        log.warning("[comfyume] %s; what it still says is dropped", error)
        running.lost = True
        self._engine.interrupt()

    async def _finish(self, finish: Finish) -> None:
        """Publish what is left, then end the job with its last events as one change."""
        running = finish.running
        try:
            answer = await self._end(finish)
        except Exception as error:  # noqa: BLE001 - handed to the executing thread, which logs it and goes on
            self._let_go(running)
            finish.done.set_exception(error)
        else:
            self._let_go(running)
            finish.done.set_result(answer)
            self._settle(running)

    def _let_go(self, running: RunningJob) -> None:
        """No event belongs to this job any more. Before the executing thread hears of the end: it begins the next."""
        if running.lost and running.publisher.forget():
            # The engine's cache would name files in later jobs that are taken back.
            self._engine.set_flag("free_memory", True)
        self._engine.forget_client(running.client)
        self._running = None
        self._ended = running.job.job_id

    @staticmethod
    def _settle(running: RunningJob) -> None:
        """Whatever the job has delivered is its result now, if the store has taken it."""
        if running.lost:
            return
        try:
            running.publisher.settle()
        except OSError as error:
            log.debug("notes of job %s are left to the frontend: %s", running.job.job_id, error)

    async def abandon(self, running: RunningJob) -> None:
        """End a job that runs for too long and does not stop; what it has published so far is its result."""
        start = {"prompt_id": running.job.job_id, "node_id": "", "node_type": "", "executed": []}
        data = timed_out_data(start, running.timed_out or 0.0)
        self._append(
            running,
            self._engine.message("execution_error", data),
            text=True,
            keep=True,
            name="execution_error",
            sid=running.client,
        )
        result = {"outputs": dict(running.published), "meta": {}}
        status = failed_status([], "execution_error", data)
        await self._hand_in(Finish(running, result, status, None, "", None, None, concurrent.futures.Future()))
        self._running = None

    async def _end(self, finish: Finish) -> list[bytes]:
        running = finish.running
        outputs = {}
        for node_id, node_outputs in finish.history_result.get("outputs", {}).items():
            known = running.published.get(node_id)
            outputs[node_id] = known if known is not None else await self._publish(running, node_id, node_outputs)
        try:
            await self._make_sure(running)
            if not running.lost:
                await running.publisher.publish_rest()
        except (BlobError, OSError) as error:
            running.undelivered = error
        return await self._hand_in(replace(finish, history_result={**finish.history_result, "outputs": outputs}))

    async def _hand_in(self, finish: Finish) -> list[bytes]:
        """Store the result, with the last events."""
        running = finish.running
        job = running.job
        outputs = finish.history_result["outputs"]
        async with self._sending:
            status = finish.status
            if running.timed_out is not None:
                status = timed_out_status(status, running.timed_out)
            if running.undelivered is not None:
                outputs = {}
                status = undelivered_status(job.job_id, status, running.undelivered)
                event, data = status["messages"][-1]
                self._append(
                    running, self._engine.message(event, data), text=True, keep=True, name=event, sid=running.client
                )
            if running.client is not None:
                last = self._engine.message("executing", {"node": None, "prompt_id": job.job_id})
                self._append(running, last, text=True, keep=True, name="executing", sid=running.client)
            batch = self._take_batch(running, ends=final_state(status))
            result = {"outputs": outputs, "meta": finish.history_result.get("meta", {}), "status": status}
            told = running.redacted(encode_json(result))
            made = Made(count_files(outputs), running.publisher.frames)
            known: dict[str, Any] = {"earlier": running.unkept, "peak": finish.peak, "made": made}
            ending = partial(self._reports.ending, job.claim, batch, told, **known)
            words = ending(upcoming=finish.upcoming, catalogue=finish.catalogue, room=finish.room)
            answer = await self._insist(running, partial(self._end_or_save, running, words, ending))
            if running.is_saved:
                await asyncio.to_thread(self._unsent.forget, job.job_id)
            return answer if answer is not None else [b"none"]

    async def _end_or_save(
        self, running: RunningJob, words: list[bytes], ending: Callable[[], list[bytes]]
    ) -> list[bytes]:
        """End a job; what the store cannot take now is kept on disk, in case that this process ends first.

        Args:
            words: what ends it here, with the claim of the next job.
            ending: makes the words for another process, which claims for itself.
        """
        try:
            return await self._reports.end(words)
        except ClaimLost:
            raise
        except QueueError:
            if not running.is_saved:
                try:
                    await asyncio.to_thread(self._unsent.save, running.job.job_id, ending())
                    running.is_saved = True
                except OSError as error:
                    log.warning("[comfyume] the result of job %s is in memory alone: %s", running.job.job_id, error)
            raise

    async def hand_in_what_is_left(self) -> None:
        """Hand in what an earlier process of this worker could not; a claim that is another's by now takes nothing.

        Raises:
            QueueError: the store does not take it now either.
        """
        for job_id, words in (await asyncio.to_thread(self._unsent.load)).items():
            try:
                await self._reports.end(words)
                log.info("[comfyume] job %s, which the last process ran to its end, is handed in", job_id)
            except ClaimLost as error:
                log.warning("[comfyume] %s; its result is dropped", error)
            await asyncio.to_thread(self._unsent.forget, job_id)

    def _take_batch(self, running: RunningJob, ends: str | None = None) -> Batch:
        events, running.waiting = running.waiting, []
        if running.state is not None:
            number, data, sid = running.state
            events.append(Event(number, self._engine.message(STATE, data), True, False, sid, STATE))
            events.sort(key=attrgetter("number"))
            running.state = None
        job = running.job
        batch = Batch(job.job_id, job.user, job.attempt, events, running.kept, ends, running.titles, running.since)
        running.titles = {}
        if events:
            running.since = None
        running.kept = max((event.number for event in events if event.keep), default=running.kept)
        return batch

    async def _insist(self, running: RunningJob, send: Callable[[], Awaitable[T]]) -> T | None:
        """Send until the store has it, or the claim is another's; then the answer is None."""
        delay = 0.1
        while not running.lost:
            try:
                return await send()
            except ClaimLost as error:
                self._lose(running, error)
            except QueueError as error:
                log.warning("[comfyume] %s Trying again in %.1f s; the job goes on.", error, delay)
                await asyncio.sleep(delay * random.uniform(0.8, 1.2))  # noqa: S311 - spreads retries, guards nothing
                delay = min(delay * 2, 5.0)
        return None


def _is_for(running: RunningJob, sid: str | None) -> bool:
    return sid is None or sid == running.client


def _thin_out(waiting: list[Event]) -> None:
    """Leave out all passing events but the last of each name; kept ones stay, and order stays."""
    last = {event.name: event.number for event in waiting}
    waiting[:] = [event for event in waiting if event.keep or last[event.name] == event.number]
