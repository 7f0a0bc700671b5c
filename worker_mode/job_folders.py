"""The folders in which a worker runs its jobs: always the same paths, never with another person's files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from ..comfyui_seams.context import Folders


class JobFolders:
    """Input, output and temp of the job that runs. Nodes keep these paths across jobs, so they never change.

    The output and temp folders begin with empty files under the person's last names, so that ComfyUI's numbering, which
    lists the folder, goes on where it was.
    """

    def __init__(self, root: Path) -> None:
        root = Path(os.path.realpath(root))
        self.folders = Folders(root / "input", root / "output", root / "temp")
        #: What people bring of models, each at a path that tells its content: nodes keep them by their paths.
        self.models = root / "models"
        self._ready_for: str | None = None

    def model(self, sha256: str, name: str) -> Path:
        """Where a model of people is for jobs, once it has come."""
        return self.models / sha256 / name

    def empty(self) -> None:
        """Leave nothing of an earlier process."""
        shutil.rmtree(self.models, ignore_errors=True)
        self.clear()

    def begin(self, user: str, last_names: Iterable[str]) -> None:
        """Take the folders for a job of this person; costs nothing if ``reset`` has guessed the person."""
        if self._ready_for != user:
            self.reset(user, last_names)
        self._ready_for = None

    def reset(self, user: str, last_names: Iterable[str]) -> None:
        """Leave nothing of the last job, and make the folders ready for a job of this person.

        Args:
            user: the person.
            last_names: paths below the root, such as ``output/film/shot_00012_.png``.
        """
        self.clear()
        root = self.folders.output.parent
        for name in last_names:
            path = root / name
            if not path.parent.is_dir():
                path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        self._ready_for = user

    def clear(self) -> None:
        """Leave nothing of the last job."""
        self._ready_for = None
        for folder in (self.folders.input, self.folders.output, self.folders.temp):
            if not os.path.isdir(folder):
                folder.mkdir(parents=True, exist_ok=True)
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        shutil.rmtree(entry.path)
                    else:
                        os.unlink(entry.path)
