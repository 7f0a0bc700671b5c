"""Keeps a worker registered, with what it can run."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from typing import Any

from ..job_queue.catalogue import Catalogue, CatalogueStore
from ..job_queue.errors import QueueError
from ..job_queue.worker_queue import NameTakenBy, Reports
from .engine import Engine

log = logging.getLogger("comfyume")

#: Seconds between two looks at the models and node packs of this machine.
REFRESH = 15.0
#: Seconds that a worker waits for the last process of its name to be forgotten.
NAME_PATIENCE = 60.0


class Registration:
    """Announces this worker, again when the store forgot it, and anew when it can run something else."""

    def __init__(
        self,
        reports: Reports,
        catalogues: CatalogueStore,
        loop: asyncio.AbstractEventLoop,
        engine: Engine,
        price: float | None,
    ) -> None:
        self._price = price
        self._reports = reports
        self._catalogues = catalogues
        self._loop = loop
        self._engine = engine
        self._registered = threading.Event()
        self._again = asyncio.Event()
        self._catalogue: Catalogue | None = None

    @property
    def catalogue(self) -> str:
        """Digest of what this worker can run."""
        return self._catalogue.digest if self._catalogue is not None else ""

    def wait(self, timeout: float) -> bool:
        """Whether the worker is registered; waits for it at most ``timeout`` seconds. For the executing thread."""
        return self._registered.wait(timeout)

    def lost(self) -> None:
        """The store does not know this worker any more; from any thread."""
        if not self._registered.is_set():
            # It does not know it yet.
            return
        self._registered.clear()
        self._loop.call_soon_threadsafe(self._again.set)

    def look_again(self) -> None:
        """This machine has something new; from any thread."""
        self._loop.call_soon_threadsafe(self._again.set)

    async def run(self) -> None:
        """Stay registered until cancelled.

        Raises:
            WorkerNameTaken: another live worker keeps the name.
        """
        while True:
            await self._look()
            try:
                await asyncio.wait_for(self._again.wait(), REFRESH)
            except asyncio.TimeoutError:
                continue
            self._again.clear()

    async def _look(self) -> None:
        catalogue = await self._engine.offer()
        changed = self._catalogue is None or catalogue.digest != self._catalogue.digest
        if not changed and self._registered.is_set():
            return
        waited = 0.0
        while True:
            try:
                await self._catalogues.store(catalogue)
                await self._register(catalogue)
            except QueueError as error:
                if isinstance(error, NameTakenBy) and waited >= NAME_PATIENCE:
                    raise
                log.warning("[comfyume] not registered yet: %s", error)
                await asyncio.sleep(1.0)
                waited += 1.0
                continue
            break
        self._catalogue = catalogue
        self._registered.set()
        log.info("[comfyume] registered; this worker offers %d nodes and %d models", *catalogue.counts())

    async def _register(self, catalogue: Catalogue) -> None:
        announced = (describe(self._engine), catalogue.digest, catalogue.capabilities)
        try:
            await self._reports.register(*announced, price=self._price)
        except NameTakenBy as error:
            if not _is_dead(error.description):
                raise
            await self._reports.register(*announced, price=self._price, former_is_dead=True)


def describe(engine: Engine) -> dict[str, Any]:
    """Who this worker is, for people and for others of its name."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "boot": _boot_id(), **engine.describe()}


def _boot_id() -> str:
    """What tells one boot of one machine from all others, where the system has it."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _is_dead(description: dict[str, Any]) -> bool:
    """Whether the worker that is described ran on this boot of this machine and is gone."""
    if not description.get("boot") or description["boot"] != _boot_id() or description["host"] != socket.gethostname():
        return False
    try:
        os.kill(int(description["pid"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
