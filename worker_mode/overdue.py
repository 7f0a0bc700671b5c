"""Ends, from the heartbeat process, a job whose node holds the interpreter of its worker.

``TimeLimit`` ends jobs that run for too long from inside the worker. While a node holds the interpreter's lock nothing
else runs there, so its heartbeat does it: it ends the job with an error, and the worker's process, and takes its place.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from typing import Any

import redis

from ..job_queue.connection import store_errors
from ..job_queue.events import Batch, Event, decode
from ..job_queue.jobs import encode_json
from ..job_queue.keys import Keys
from ..job_queue.scripts import Scripts
from ..job_queue.worker_queue import ending_words
from .endings import failed_status, timed_out_data

#: Seconds beyond the time limit for which a worker is left to end a job by itself; it takes ``time_limit.PATIENCE``.
PATIENCE = 13.0


@dataclass(frozen=True)
class WorkerProcess:
    """The process that a heartbeat belongs to, and how to start it again.

    Attributes:
        pid: its number.
        command: what it was started by; empty where it cannot be started again from here.
        streams: numbers of its standard input and output in the heartbeat process.
    """

    pid: int
    command: list[str]
    streams: list[int]

    def replace(self) -> None:
        """End it and become it. Returns only where that cannot be."""
        if os.getppid() != self.pid:
            return
        os.kill(self.pid, signal.SIGKILL)
        if not self.command:
            return
        while os.getppid() == self.pid:
            time.sleep(0.01)
        for number, stream in enumerate(self.streams):
            os.dup2(stream, number)
        os.execv(self.command[0], self.command)  # noqa: S606 - the command that the worker was started by


class Overdue:
    """Watches for how long a job runs. Blocking.

    Args:
        limit: seconds that a job may run.
        history: how many finished jobs are kept for each person, and for how many milliseconds.
    """

    def __init__(self, client: redis.Redis, keys: Keys, limit: float, history: list[int]) -> None:
        self._client: Any = client
        self._scripts = Scripts(client)
        self._keys = keys
        self._limit = limit
        self._history = history
        self._watched = ("", "")
        self._since = time.monotonic()

    def look(self, job_id: str, claim: str) -> bool:
        """Whether this job, which runs now, is long over its time; an empty id for none."""
        if self._watched != (job_id, claim):
            self._watched, self._since = (job_id, claim), time.monotonic()
        return bool(job_id) and time.monotonic() - self._since > self._limit + PATIENCE

    def end(self, job_id: str, claim: str) -> bool:
        """End a job with an error; whether its worker hangs, which it does unless it has ended the job itself.

        Raises:
            QueueError: the store is away.
        """
        with store_errors():
            user, attempt, client = self._client.hmget(self._keys.job(job_id), "user", "attempt", "client")
            if user is None:
                return True
            start = {"prompt_id": job_id, "node_id": "", "node_type": "", "executed": []}
            data = timed_out_data(start, self._limit)
            number = self._last_kept(job_id)
            sid = client.decode() or None
            events = [
                Event(number + 1, _message("execution_error", data), True, True, sid, "execution_error"),
                Event(
                    number + 2, _message("executing", {"node": None, "prompt_id": job_id}), True, True, sid, "executing"
                ),
            ]
            batch = Batch(job_id, user.decode(), int(attempt), events, number, "error")
            result = {"outputs": {}, "meta": {}, "status": failed_status([], "execution_error", data)}
            words = ending_words(claim, batch, encode_json(result), self._history)
            answer = self._scripts.run("finish", self._keys.prefix, *words)
        return bool(answer[0] != b"known")

    def _last_kept(self, job_id: str) -> int:
        """The number of the last event that is kept of a job's current attempt."""
        for entry in reversed(self._client.lrange(self._keys.events(job_id), -20, -1)):
            batch = decode(entry)
            if isinstance(batch, Batch) and batch.events:
                return max(event.number for event in batch.events)
        return 0


def _message(event: str, data: dict[str, Any]) -> bytes:
    return json.dumps({"type": event, "data": data}).encode()


def worker_command() -> list[str]:
    """What started this process, so that it can be started again."""
    return [sys.executable, *sys.orig_argv[1:]]
