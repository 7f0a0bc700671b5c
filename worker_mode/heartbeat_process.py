"""The worker's end of its heartbeat process."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ..job_queue.keys import Keys
from ..job_queue.worker_queue import WorkerIdentity
from .watched_job import WatchedJob

log = logging.getLogger("comfyume")

#: Called with ``cancel``, ``lost`` or ``unknown``, the job and the claim (empty for ``unknown``); from a thread.
Heard = Callable[[str, str, str], None]


class HeartbeatProcess:
    """Starts the heartbeat, shows it the job, hears what it learns, and starts it again if it dies."""

    def __init__(self, url: str, keys: Keys, identity: WorkerIdentity, folder: Path, heard: Heard) -> None:
        path = folder / f"heartbeat-{identity.name}"
        self._watched = WatchedJob(path, create=True)
        self._configuration = {
            "watched": str(path),
            "url": url,
            "prefix": keys.prefix,
            "worker": identity.name,
            "instance": identity.instance,
            "lease_ms": identity.lease_ms,
            "interval": min(1.0, identity.lease / 4),
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
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
                self._process = process
                self._listen(process)
                code = process.wait()
            if not self._stopped:
                log.warning("[comfyume] the heartbeat process ended with code %s; starting another one", code)
                time.sleep(0.1)

    def _listen(self, process: subprocess.Popen[str]) -> None:
        """Give the process its configuration and hear it until it ends."""
        if process.stdin is None or process.stdout is None:
            return
        try:
            process.stdin.write(json.dumps(self._configuration) + "\n")
            process.stdin.flush()
        except OSError as error:
            log.warning("[comfyume] the heartbeat process did not start: %s", error)
            return
        for line in process.stdout:
            word, job_id, claim = [*line.split(), "", ""][:3]
            self._heard(word, job_id, claim)
