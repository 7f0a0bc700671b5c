"""Takes back what lost attempts at jobs have left at people's: files that no result names."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from ..blobs.delivery_notes import DeliveryNotes
from ..job_queue.frontend_queue import ClaimState, FrontendQueue

log = logging.getLogger("comfyume")


class LostFiles:
    """Compares the notes of what was delivered with what became of the claims.

    Args:
        folder_of: a user's folder of a kind, as ``output``.
    """

    def __init__(self, queue: FrontendQueue, notes: DeliveryNotes, folder_of: Callable[[str, str], Path]) -> None:
        self._queue = queue
        self._notes = notes
        self._folder_of = folder_of
        self._complained: set[str] = set()

    async def look(self) -> None:
        """Take back the files of claims that were lost, and forget the notes of those that have ended.

        The files of a job that the store knows nothing of any more stay: nobody can say that they were lost.

        Raises:
            QueueError: the store is away.
        """
        claims = await asyncio.to_thread(self._notes.claims)
        states = await self._queue.claim_states(claims) if claims else []
        over = [(claim, state) for claim, state in zip(claims, states, strict=True) if state != "running"]
        if over:
            await asyncio.to_thread(self._settle, over)

    def _settle(self, over: Sequence[tuple[tuple[str, str], ClaimState]]) -> None:
        for (job_id, claim), state in over:
            try:
                if state == "lost":
                    self._take_back(job_id, claim)
                self._notes.forget(job_id, claim)
            except OSError as error:
                if claim not in self._complained:
                    self._complained.add(claim)
                    log.warning("[comfyume] the notes of job %s, or files of a lost attempt, stay: %s", job_id, error)

    def _take_back(self, job_id: str, claim: str) -> None:
        for note in self._notes.read(job_id, claim):
            if note.take_back(self._folder_of(note.user, note.kind)):
                log.info("[comfyume] %s of a lost attempt at job %s is taken back", note.path, job_id)
