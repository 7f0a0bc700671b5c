"""Who asks, and which folders are theirs.

While a workshop has no users it is open to loopback alone, as one implicit local user.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from pathlib import Path

from aiohttp import web

from ..comfyui_seams import folders
from ..comfyui_seams.context import Folders

#: The one person of a workshop without users.
LOCAL_USER = "local"


class NotAllowed(Exception):
    """Somebody who may not use this workshop."""


class People:
    """The people of a workshop."""

    def __init__(self, shared_folder: Path | None, system_folder: Path) -> None:
        self._shared_folder = shared_folder
        self._temp = system_folder / "temp"
        self._folders: Folders | None = None

    def who(self, request: web.Request) -> str:
        """The user who sends a request.

        Raises:
            NotAllowed: with a sentence for them.
        """
        remote = request.remote
        if remote is not None and not _is_loopback(remote):
            raise NotAllowed(
                "This workshop has no users yet, so it answers to its own machine alone. "
                "Open it there, or through an SSH tunnel to it."
            )
        return LOCAL_USER

    def user_of_client(self, _client: str) -> str | None:
        """The user whose browser has this client id."""
        return LOCAL_USER

    def folders_of(self, _user: str) -> Folders:
        """The folders of a user, made if they are missing.

        Temp files outlive a restart here: a worker's cache may name them in a later job.
        """
        if self._folders is not None:
            return self._folders
        if self._shared_folder is not None:
            root = self._shared_folder.absolute()
            found = Folders(root / "input", root / "output", root / "temp")
        else:
            own = folders.own_folders()
            found = Folders(own.input, own.output, self._temp.absolute())
        self._folders = found
        return found

    def folder_of(self, user: str, kind: str) -> Path:
        """A user's folder of a kind: ``input``, ``output`` or ``temp``."""
        return dict(self.folders_of(user))[kind]

    def make_folders(self, user: str) -> None:
        """Make the folders of a user; blocking."""
        found = self.folders_of(user)
        for folder in (found.input, found.output, found.temp):
            folder.mkdir(parents=True, exist_ok=True)


@lru_cache(maxsize=1_000)
def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        # A unix socket has no address.
        return host == ""
