"""Notes of the files that a claim has placed at a person's, written before a file gets its name. Blocking functions.

An attempt at a job can be lost at any moment. What it has placed by then is named by no result, and is taken back by
its notes. They know a file by its inode too: a file that somebody else placed under the name is never touched.
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DeliveryNote:
    """One file, placed or about to be.

    Attributes:
        user: whose it is.
        kind: which of the person's folders it lies in, as ``output``.
        path: below that folder, with ``/``.
        inode: of the file.
        asked: what it was delivered as, by which the same delivery is known again.
    """

    user: str
    kind: str
    path: str
    inode: int
    asked: str = ""

    def is_there(self, folder: Path) -> bool:
        """Whether the file lies in the person's folder of its kind."""
        root = Path(os.path.realpath(folder))
        path = root / self.path
        # Where notes lie, others may write too: they must not lead out of the folder.
        if ".." in path.parts or not Path(os.path.realpath(path.parent)).is_relative_to(root):
            return False
        try:
            return os.lstat(path).st_ino == self.inode
        except OSError:
            return False

    def take_back(self, folder: Path) -> bool:
        """Delete the file from the person's folder of its kind; whether it was there."""
        if not self.is_there(folder):
            return False
        (folder / self.path).unlink(missing_ok=True)
        return True


class DeliveryNotes:
    """A folder with a file of lines for each claim. Several processes may write and read them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, job_id: str, claim: str, note: DeliveryNote) -> None:
        """Note a file that is about to be placed. Raises OSError."""
        line = json.dumps([note.user, note.kind, note.path, note.inode, note.asked]).encode() + b"\n"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        path = self._path(job_id, claim)
        try:
            descriptor = os.open(path, flags, 0o666)
        except FileNotFoundError:
            os.makedirs(self._folder, exist_ok=True)
            descriptor = os.open(path, flags, 0o666)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)

    def claims(self) -> list[tuple[str, str]]:
        """The job and the claim of all notes."""
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return []
        return [(job_id, claim) for job_id, dot, claim in (name.rpartition(".") for name in sorted(names)) if dot]

    def has(self, job_id: str, claim: str) -> bool:
        """Whether a claim has notes."""
        return os.path.exists(self._path(job_id, claim))

    def read(self, job_id: str, claim: str) -> list[DeliveryNote]:
        """What a claim has placed; a line that cannot be read, as one that was cut short, is left out."""
        try:
            with open(self._path(job_id, claim), "rb") as file:
                lines = file.read().splitlines()
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            try:
                found.append(DeliveryNote(*json.loads(line)))
            except (ValueError, TypeError) as error:
                _log.warning("A delivery note of job %s cannot be read: %s", job_id, error)
        return found

    def forget(self, job_id: str, claim: str) -> None:
        """Delete the notes of a claim."""
        with suppress(FileNotFoundError):
            os.unlink(self._path(job_id, claim))

    def _path(self, job_id: str, claim: str) -> str:
        # Ids are UUIDs; one that is none must not choose the folder.
        return os.path.join(self._folder, os.path.basename(f"{job_id}.{claim}"))
