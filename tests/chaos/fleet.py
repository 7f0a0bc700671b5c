"""Worker processes with the script engine, and whoever starts them again when they have died."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from comfyume.tests.harness.processes import die_with_parent

from .record import Record

SCRIPT = Path(__file__).resolve().parents[1] / "harness" / "script_worker.py"


def _in_a_group_of_its_own() -> None:
    """So the kernel wakes a heartbeat that is paused, and hangs up on it, when its worker and this process are gone."""
    os.setpgid(0, 0)
    die_with_parent()


class WorkerProcess:
    """One worker and the heartbeat process beside it; they are one process group."""

    def __init__(self, name: str, folder: Path, environment: Mapping[str, str], record: Record) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._record = record
        system = folder / f"system-{name}"
        system.mkdir(parents=True, exist_ok=True)
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("COMFYUME_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(SCRIPT), str(system), str(folder / "runs.jsonl")],
                env={**inherited, **environment, "COMFYUME_WORKER_ID": name},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=_in_a_group_of_its_own,  # noqa: PLW1509 - two system calls, no lock taken
            )
        record.note("start", worker=name, pid=self.pid)

    @property
    def pid(self) -> int:
        """Of the worker itself."""
        return self.process.pid

    @property
    def lives(self) -> bool:
        """Whether the worker has not ended."""
        return self.process.poll() is None

    def kill(self) -> None:
        """End the worker at once; its heartbeat notices by itself."""
        self._record.note("kill", worker=self.name, pid=self.pid)
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """Stop worker and heartbeat where they are, as a machine that is suspended does."""
        self._record.note("pause", worker=self.name, pid=self.pid)
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let both go on."""
        self._record.note("resume", worker=self.name, pid=self.pid)
        os.killpg(self.pid, signal.SIGCONT)

    def resume_alone(self) -> None:
        """Let the worker go on, and not yet the heartbeat, which would tell it at once that it is late."""
        self._record.note("resume alone", worker=self.name, pid=self.pid)
        os.kill(self.pid, signal.SIGCONT)

    def terminate(self) -> None:
        """Tell the worker to stop."""
        self._record.note("terminate", worker=self.name, pid=self.pid)
        self.process.terminate()

    def end(self) -> None:
        """End both, paused or not."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()


class Fleet:
    """The workers of a room. Those that die are started again, under their name or another one."""

    def __init__(self, folder: Path, environment: Mapping[str, str], record: Record) -> None:
        self.folder = folder
        self.environment = dict(environment)
        self.workers: dict[str, WorkerProcess] = {}
        self.keeps_names = True
        self._record = record
        self._started = 0
        self._keeper: asyncio.Task[None] | None = None

    def add(self, name: str = "", **environment: str) -> WorkerProcess:
        """Start a worker; on the main thread, since it ends with the thread that started it."""
        self._started += 1
        name = name or f"w{self._started}"
        worker = WorkerProcess(name, self.folder, {**self.environment, **environment}, self._record)
        self.workers[name] = worker
        return worker

    def by_pid(self, pid: int) -> WorkerProcess | None:
        """The worker that is this process, if it lives."""
        return next((worker for worker in self.workers.values() if worker.pid == pid and worker.lives), None)

    def keep(self) -> None:
        """Start again whoever dies, from now on."""
        self._keeper = asyncio.create_task(self._keep(), name="chaos-keeper")

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            for name, worker in list(self.workers.items()):
                if not worker.lives:
                    self._record.note("died", worker=name, pid=worker.pid, code=worker.process.returncode)
                    del self.workers[name]
                    self.add(name if self.keeps_names else "")

    async def close(self) -> None:
        """End all of them."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        for worker in self.workers.values():
            worker.end()
