"""Lets a worker take only what fits the memory of its GPU: decided before a claim, not after."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from ..comfyui_seams.answers import Memory
from ..job_queue.jobs import GIB, ClaimedJob
from ..settings import GateMode
from .engine import Engine

log = logging.getLogger("comfyume")

T = TypeVar("T")

#: Seconds between two attempts to make room for the same need, and between two words about it.
PAUSE = 30.0
#: Seconds for which a look at the memory counts.
FRESH = 1.0


class MemoryGate:
    """Knows how much a job may need here. For the executing thread.

    Args:
        margin: bytes kept free beside a job's need.
    """

    def __init__(self, engine: Engine, mode: GateMode, margin: int) -> None:
        self._engine = engine
        self._mode = mode
        self._margin = margin
        self._is_told = False
        self._looked: tuple[float, Memory | None] | None = None
        self._made_room_at: dict[int, float] = {}

    def room(self) -> int | None:
        """Bytes that the next job may need; None for any."""
        return self._room() if self._mode == "on" else None

    def _room(self) -> int | None:
        if self._mode == "off":
            return None
        memory = self._look()
        if not self._is_told:
            self._is_told = True
            if memory is None:
                log.warning("[comfyume] nobody here can tell the memory of a GPU, so jobs are taken whatever they need")
            else:
                log.info("[comfyume] %s tells of %s of GPU memory", memory.source, gib(memory.total))
        if memory is None:
            return None
        return max(memory.free + memory.reclaimable - self._margin, 0)

    def _look(self) -> Memory | None:
        """The engine's memory, at most ``FRESH`` seconds old: what is free and what can be had again change little."""
        now = time.monotonic()
        if self._looked is None or now - self._looked[0] > FRESH:
            self._looked = (now, _asked(self._engine.memory))
        return self._looked[1]

    def begin(self) -> None:
        """A prompt begins."""
        _asked(self._engine.begin_measuring)

    def peak(self) -> int | None:
        """The most bytes that the prompt took; None if nobody knows."""
        return _asked(self._engine.peak)

    def make_room(self, need: int) -> bool:
        """Unload what is not in use, for a job that needs this many bytes.

        Returns:
            Whether there is room for it now.
        """
        now = time.monotonic()
        if now - self._made_room_at.get(need, -PAUSE) >= PAUSE:
            self._made_room_at = {need: now}
            self._engine.unload()
            self._looked = None
            room = self._room()
            if room is not None and room < need:
                log.info("[comfyume] a queued job needs %s; this worker has %s", gib(need), gib(room))
        room = self._room()
        return room is None or room >= need

    def look_at(self, job: ClaimedJob) -> None:
        """In a dry run, say of a job that was taken that it would not have been."""
        room = self._room() if self._mode == "dry_run" and job.memory is not None else None
        if room is not None and job.memory is not None and job.memory > room:
            log.warning(
                "[comfyume] dry run of the memory gate: job %s needs %s, this worker has %s; it would have waited",
                job.job_id,
                gib(job.memory),
                gib(room),
            )


def _asked(question: Callable[[], T]) -> T | None:
    """The engine's answer; None when it fails, since an exception would end the executing thread for good."""
    try:
        return question()
    except Exception:
        log.exception("[comfyume] the engine does not tell its memory, so jobs are taken whatever they need")
        return None


def gib(size: int) -> str:
    """A size for people: ``46.2 GiB``."""
    return f"{size / GIB:.1f} GiB"
