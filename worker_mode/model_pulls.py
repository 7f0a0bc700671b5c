"""Fills a worker's models while it already works: what the templates need, in the order of need."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from ..blobs.errors import BlobError
from ..model_places import places_of, rules_of
from ..model_vault.errors import ModelError, PullUnderWay
from ..model_vault.here import LocalModels
from ..model_vault.locating import Located, Locator
from ..model_vault.needs import read_workflows
from ..model_vault.pull import Pull, Report, Watch
from ..model_vault.sources import Sources
from ..settings import Settings

log = logging.getLogger("comfyume")

#: Seconds after which what could not be had is asked for again.
AGAIN = 600.0
#: Seconds after which it is looked whether another worker of this machine has ended its pull.
NEIGHBOUR = 15.0
GB = 1e9


class ModelPulls(Watch):
    """Pulls on a thread with an event loop of its own, so that nothing of it holds up jobs or their events.

    Args:
        models: ComfyUI's folder of them.
        templates: the folder of the graphs that count.
        has_come: called from any thread when another model is there.
    """

    def __init__(self, settings: Settings, models: Path, templates: Path, has_come: Callable[[], None]) -> None:
        self._settings = settings
        self._here = LocalModels(models)
        self._templates = templates
        self._has_come = has_come
        self._lock = threading.Lock()
        self._files = self._come = self._failed = self._size = self._moved = 0
        self._ended = threading.Event()
        self._cancel: Callable[[], None] = lambda: None

    @property
    def told(self) -> str:
        """How far it is, for an instructor of any language; empty when nothing is left to come."""
        with self._lock:
            if self._come + self._failed >= self._files and not self._failed:
                return ""
            sizes = f"{self._moved / GB:.1f}/{self._size / GB:.1f} GB"
            return f"⇣ {self._come}/{self._files} · {sizes}{f' · ✕ {self._failed}' if self._failed else ''}"

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, name="comfyume-models", daemon=True).start()

    def stop(self) -> None:
        """End; what has arrived is kept."""
        self._ended.set()
        self._cancel()

    def begins(self, files: int, size: int) -> None:
        """See ``Watch``."""
        with self._lock:
            self._files, self._size = self._files + files, size
        if files:
            log.info("[comfyume] %d models will come, %.1f GB", files, size / GB)

    def moved(self, name: str, count: int) -> None:
        """See ``Watch``."""
        del name
        with self._lock:
            self._moved += count

    def has_come(self, located: Located, where: str) -> None:
        """See ``Watch``."""
        with self._lock:
            self._come += 1
        log.info("[comfyume] model %s has come from %s", located.need.path, where)
        self._has_come()

    def failed(self, located: Located, why: str) -> None:
        """See ``Watch``."""
        with self._lock:
            self._failed += 1
        log.warning("[comfyume] model %s does not come: %s", located.need.path, why)

    def _run(self) -> None:
        while not self._ended.is_set():
            with self._lock:
                self._files = self._come = self._failed = self._size = self._moved = 0
            try:
                report = asyncio.run(self._pull())
            except asyncio.CancelledError:
                return
            except PullUnderWay:
                # By another worker of this machine: what it brings is there for this one too.
                self._ended.wait(NEIGHBOUR)
                continue
            except (ModelError, BlobError, OSError) as error:
                log.warning("[comfyume] models do not come: %s", error)
                with self._lock:
                    self._failed += 1
            else:
                if not report.failed:
                    return
            self._ended.wait(AGAIN)

    async def _pull(self) -> Report:
        filling = asyncio.ensure_future(self._fill())
        loop = asyncio.get_running_loop()

        def cancel() -> None:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                loop.call_soon_threadsafe(filling.cancel)

        self._cancel = cancel
        if self._ended.is_set():
            filling.cancel()
        return await filling

    async def _fill(self) -> Report:
        workflows, _ = read_workflows([self._templates], trusted=True)
        async with Sources(rules_of(self._settings)) as sources:
            locator = Locator(self._here, places_of(self._settings, self._here), sources, self._settings.models_pickles)
            _, located = await locator.planned(workflows)
            return await Pull(self._here, sources, watch=self).run(located)
