"""The worker's end of its heartbeat process."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..job_queue.keys import Keys
from ..job_queue.worker_queue import WorkerIdentity
from .overdue import worker_command
from .watched_job import WatchedJob

log = logging.getLogger("comfyume")

#: Called with ``cancel`` or ``lost``, the job and the claim, or with ``ready``, ``unknown`` or ``back`` alone; from a
#: thread.
Heard = Callable[[str, str, str], None]


@dataclass(frozen=True)
class Limits:
    """What the heartbeat must know to end a job in its worker's place.

    Attributes:
        job_timeout: seconds that a job may run.
        history: how many finished jobs are kept for each person, and for how many milliseconds.
    """

    job_timeout: float
    history: list[int]


class HeartbeatProcess:
    """Starts the heartbeat, shows it the job, hears what it learns, and starts it again if it dies."""

    def __init__(
        self, url: str, keys: Keys, identity: WorkerIdentity, folder: Path, heard: Heard, limits: Limits
    ) -> None:
        path = folder / f"heartbeat-{identity.name}"
        self._watched = WatchedJob(path, create=True)
        self._configuration = {
            "watched": str(path),
            "url": url,
            "workshop": keys.workshop,
            "worker": identity.name,
            "instance": identity.instance,
            "lease_ms": identity.lease_ms,
            "interval": min(1.0, identity.lease / 4),
            "job_timeout": limits.job_timeout,
            "history": limits.history,
        }
        self._heard = heard
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False

    def start(self) -> None:
        """Start the process and the thread that listens to it."""
        threading.Thread(target=self._run, name="comfyume-heartbeat", daemon=True).start()

    def stop(self) -> None:
        """End the process; the lease is left to run out."""
        self._stopped = True
        process = self._process
        if process is not None and process.stdin is not None:
            process.stdin.close()

    def watch(self, job_id: str, claim: str) -> None:
        """Keep this job's lease alive from the next beat on; empty strings for none."""
        self._watched.write(job_id, claim)

    def _run(self) -> None:
        while not self._stopped:
            command = [sys.executable, str(Path(__file__).with_name("heartbeat.py"))]
            streams = _streams_of_a_restart()
            options: dict[str, Any] = {"pass_fds": streams} if streams else {}
            with subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options
            ) as process:
                for stream in streams:
                    os.close(stream)
                self._process = process
                self._listen(process, streams)
                code = process.wait()
            if not self._stopped:
                log.warning("[comfyume] the heartbeat process ended with code %s; starting another one", code)
                time.sleep(0.1)

    def _listen(self, process: subprocess.Popen[str], streams: list[int]) -> None:
        """Give the process its configuration and hear it until it ends."""
        if process.stdin is None or process.stdout is None:
            return
        try:
            own = {"pid": os.getpid(), "command": worker_command() if streams else [], "streams": streams}
            process.stdin.write(json.dumps({**self._configuration, "process": own}) + "\n")
            process.stdin.flush()
        except OSError as error:
            log.warning("[comfyume] the heartbeat process did not start: %s", error)
            return
        for line in process.stdout:
            word, job_id, claim = [*line.split(), "", ""][:3]
            self._heard(word, job_id, claim)


def _streams_of_a_restart() -> list[int]:
    """Second numbers of this process's standard input and output, for the one that may take its place."""
    return [os.dup(number) for number in (0, 1)] if os.name == "posix" else []
