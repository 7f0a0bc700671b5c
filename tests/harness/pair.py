"""A whole workshop of real processes for the tests: a store, a frontend and its workers."""

from __future__ import annotations

import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Literal

from .discovery import ComfyInstall
from .processes import READY_SECONDS, ComfyProcess, ProcessFailed, RedisServer, known_workers, tail

Transport = Literal["shared", "http"]


class Pair:
    """A store, a frontend and its workers: what a workshop consists of.

    As they should be, workers have a user of their own on the store, and so all share the secret that seals API keys.

    Args:
        transport: ``shared``: both sides see one folder; ``http``: files travel over HTTP alone.
        worker_node_packs: node packs that the workers have and the frontend has not.
        worker_model_files: model files that the workers have and the frontend has not.
        store: a running store to use; it is not stopped here. None starts one.
    """

    def __init__(
        self,
        install: ComfyInstall,
        folder: Path,
        *,
        workers: int = 1,
        transport: Transport = "http",
        workshop: str | None = None,
        store: RedisServer | None = None,
        env: Mapping[str, str] | None = None,
        frontend_env: Mapping[str, str] | None = None,
        worker_env: Mapping[str, str] | None = None,
        frontend_args: Sequence[str] = (),
        worker_args: Sequence[str] = (),
        worker_node_packs: Iterable[Path] = (),
        worker_model_files: Mapping[str, bytes] | None = None,
    ) -> None:
        self.folder = folder
        self.workshop = workshop or f"test-{uuid.uuid4().hex[:12]}"
        self._own_store = store is None
        self._socket_folder = Path(tempfile.mkdtemp(prefix="cfm")) if store is None else None
        self.store = store or RedisServer(self._socket_folder or folder, port=None)
        #: The store's address as the workers have it.
        self.worker_store_url = self.store.worker_url(self.workshop)
        shared = {"COMFYUME_SECRET": f"secret of {self.workshop}", **(env or {})}
        if transport == "shared":
            (folder / "shared").mkdir(parents=True, exist_ok=True)
            shared["COMFYUME_SHARED_FOLDER"] = str(folder / "shared")
        self.frontend = ComfyProcess(
            install,
            folder / "frontend",
            mode="frontend",
            store_url=self.store.url,
            workshop=self.workshop,
            env={**shared, **(frontend_env or {})},
            args=frontend_args,
        )
        over_http = {} if transport == "shared" else {"COMFYUME_FRONTEND_URL": self.frontend.url}
        self.workers = [
            ComfyProcess(
                install,
                folder / f"worker{index}",
                mode="worker",
                store_url=self.worker_store_url,
                workshop=self.workshop,
                env={
                    "COMFYUME_WORKER_ID": f"worker{index}",
                    "COMFYUME_DRAIN_NOTICE": "1",
                    **shared,
                    **over_http,
                    **(worker_env or {}),
                },
                args=worker_args,
                node_packs=list(worker_node_packs),
                model_files=worker_model_files,
            )
            for index in range(workers)
        ]

    @property
    def worker(self) -> ComfyProcess:
        """The first worker."""
        return self.workers[0]

    def start(self, timeout: float = READY_SECONDS) -> Pair:
        """Start everything side by side and wait until the frontend knows every worker."""
        try:
            if self._own_store:
                self.store.start()
            for process in (*self.workers, self.frontend):
                process.start()
            for process in (*self.workers, self.frontend):
                process.wait_ready(timeout)
            wait_until_known(self.frontend, len(self.workers), timeout)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End every process, the store last."""
        with ThreadPoolExecutor() as threads:
            for ended in [threads.submit(process.stop) for process in (self.frontend, *self.workers)]:
                ended.result()
        if self._own_store:
            self.store.stop()
        if self._socket_folder is not None:
            shutil.rmtree(self._socket_folder, ignore_errors=True)

    def logs(self) -> str:
        """Return the ends of all logs, for the message of a failed test."""
        processes = {"frontend": self.frontend, **{f"worker{i}": w for i, w in enumerate(self.workers)}}
        return "\n".join(f"--- {name}\n{tail(process.log)}" for name, process in processes.items())

    def __enter__(self) -> Pair:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def wait_until_known(frontend: ComfyProcess, workers: int, timeout: float) -> None:
    """Wait until a frontend knows this many live workers, and so what they can run.

    Raises:
        ProcessFailed: it does not after ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while known_workers(frontend.url) < workers:
        if time.monotonic() > deadline:
            raise ProcessFailed(
                f"the frontend does not know {workers} workers after {timeout} s:\n{tail(frontend.log)}"
            )
        time.sleep(0.05)
