"""Results that the store could not take, on disk until it can: a GPU has worked for them."""

from __future__ import annotations

import base64
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

log = logging.getLogger("comfyume")


class UnsentResults:
    """One file for each job, with the words that end it. Blocking."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, job_id: str, words: Sequence[bytes]) -> None:
        """Keep the end of a job.

        Raises:
            OSError: the disk does not take it.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(job_id)
        partial = path.with_suffix(".part")
        with partial.open("w", encoding="ascii") as file:
            json.dump([base64.b64encode(word).decode() for word in words], file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    def forget(self, job_id: str) -> None:
        """The store has taken it, or will never."""
        self._path(job_id).unlink(missing_ok=True)

    def load(self) -> dict[str, list[bytes]]:
        """What an earlier process of this worker could not hand in, by job; what cannot be read is left out."""
        found = {}
        for path in sorted(self._folder.glob("*.json")) if self._folder.is_dir() else ():
            try:
                found[path.stem] = [base64.b64decode(word) for word in json.loads(path.read_text(encoding="ascii"))]
            except (OSError, ValueError) as error:
                log.warning("[comfyume] %s is no result that can be handed in: %s", path, error)
        return found

    def _path(self, job_id: str) -> Path:
        # Ids are UUIDs; a store that says otherwise must not choose the file.
        return self._folder / f"{os.path.basename(job_id) or 'job'}.json"
