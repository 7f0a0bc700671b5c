"""Which folders are whose.

While a workshop has no users, its one person has the folders with which ComfyUI was started. Users have one of their
own in each of them.
"""

from __future__ import annotations

from pathlib import Path

from ..comfyui_seams import folders, user_files
from ..comfyui_seams.context import Folders
from ..model_vault.shelves import FOLDER, MODEL, Shelves
from .identity import LOCAL_USER


class People:
    """The folders of the people of a workshop."""

    def __init__(self, shared_folder: Path | None, system_folder: Path) -> None:
        self._shared_folder = shared_folder.absolute() if shared_folder is not None else None
        self._temp = (system_folder / "temp").absolute()
        #: The models that people bring.
        self.shelves = Shelves((shared_folder or system_folder) / FOLDER)
        self._base: Folders | None = None
        self._made: set[str] = set()

    def folders_of(self, user: str) -> Folders:
        """The folders of a user.

        Temp files outlive a restart here: a worker's cache may name them in a later job.
        """
        if self._base is None:
            if self._shared_folder is not None:
                root = self._shared_folder
                self._base = Folders(root / "input", root / "output", root / "temp")
            else:
                own = folders.own_folders()
                self._base = Folders(own.input, own.output, self._temp)
        base = self._base
        return base if user == LOCAL_USER else Folders(base.input / user, base.output / user, base.temp / user)

    def roots(self) -> list[Path]:
        """Below which all that people keep lies, none of them below another."""
        own = [path for _, path in self.folders_of(LOCAL_USER)]
        found = [*own, self.shelves.root, Path(user_files.root()).absolute()]
        return [path for path in found if not any(path.is_relative_to(other) for other in found if other != path)]

    def all_folders(self, user: str) -> list[tuple[str, Path]]:
        """What a job of this user reads and writes below, by kind."""
        return [*self.folders_of(user), (MODEL, self.shelves.root)]

    def folder_of(self, user: str, kind: str) -> Path:
        """Where a user's files of a kind are: ``input``, ``output`` or ``temp``; and ``model``, below which all are."""
        return dict(self.all_folders(user))[kind]

    def are_made(self, user: str) -> bool:
        """Whether this process has made the folders of a user."""
        return user in self._made

    def make_folders(self, user: str) -> None:
        """Make the folders of a user; blocking."""
        found = self.folders_of(user)
        for folder in (found.input, found.output, found.temp):
            folder.mkdir(parents=True, exist_ok=True)
        data = user_files.folder_of(data_user(user))
        if user != LOCAL_USER and data is not None:
            # Without it ComfyUI's page takes a person for one who has worked elsewhere before.
            Path(data).mkdir(parents=True, exist_ok=True)
        self._made.add(user)


def data_user(user: str) -> str:
    """Under which name ComfyUI's user manager keeps the workflows and settings of a user."""
    return user_files.OWN_USER if user == LOCAL_USER else user
