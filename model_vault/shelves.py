"""Models that people bring: each person's own, those that they offer to the room, and those that the room has.

A person's own models are in their lists of nodes as ``mine/NAME``; what the instructor has let into the room is in
everybody's, as ``room/PERSON/NAME``. Methods block.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..blobs.digest import digest_file
from ..blobs.errors import BlobMissing
from ..blobs.filing import link_or_copy
from ..blobs.store import BlobFolder
from .errors import NameTaken, NoSuchModel
from .names import checked, current

#: The folder of all this, beside those of the people's files.
FOLDER = "people-models"
#: The kind of such a file among those that a job reads.
MODEL = "model"
OWN, OFFERED, ROOM = "own", "offered", "room"
ARRIVING = "arriving"
#: What graphs name such a model by begins with one of these.
MINE, ROOMS = "mine/", "room/"
#: Folders of models that no node's list names.
NOT_LISTED = frozenset({"embeddings", "diffusers"})
#: Seconds after which what has arrived of an upload is dropped that nobody went on with.
ABANDONED = 14 * 86_400


@dataclass(frozen=True)
class ShelvedModel:
    """A model that somebody has brought; ``size`` is in bytes."""

    shelf: str
    user: str
    folder: str
    name: str
    size: int

    @property
    def path(self) -> str:
        """Where it is below the shelves, with ``/``; what ``parsed`` reads."""
        return f"{self.shelf}/{self.user}/{self.folder}/{self.name}"

    @property
    def words(self) -> str:
        """What graphs name it by."""
        return f"{MINE}{self.name}" if self.shelf == OWN else f"{ROOMS}{self.user}/{self.name}"


def parsed(path: str, size: int) -> ShelvedModel:
    """The model with this path below the shelves.

    Raises:
        ValueError: it is none.
    """
    shelf, user, folder, name = path.split("/")
    return ShelvedModel(shelf, user, folder, name, size)


class Shelves:
    """The models that the people of a workshop have brought, below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root).absolute()
        #: Where uploads arrive, on the same disk.
        self.arriving = BlobFolder(self.root / ARRIVING)

    def seen_by(self, user: str) -> list[ShelvedModel]:
        """What a person's nodes can name: their own models, and the room's."""
        return [*self.own(user), *self.room()]

    def own(self, user: str) -> list[ShelvedModel]:
        """What a person has brought."""
        return sorted(self._of(OWN, user), key=_order)

    def offered(self) -> list[ShelvedModel]:
        """What waits for the instructor's word."""
        return self._all(OFFERED)

    def room(self) -> list[ShelvedModel]:
        """What everybody may use."""
        return self._all(ROOM)

    def file(self, model: ShelvedModel) -> Path:
        """Where a model is."""
        return self.root / model.path

    def folder_of(self, user: str) -> Path:
        """Below which a person's own models are."""
        return self.root / OWN / user

    def add(self, user: str, folder: str, name: str, sha256: str) -> ShelvedModel:
        """Put what has arrived on a person's own shelf.

        Raises:
            NameTaken: they have another content of that name.
            UnsafeModelName: it is no name of a model.
            BlobMissing: it has not arrived.
        """
        source = self.arriving.path(sha256)
        if source is None:
            raise BlobMissing(sha256)
        try:
            return self._put(source, OWN, user, folder, name, "You have")
        finally:
            self.arriving.discard(sha256)

    def remove(self, user: str, folder: str, name: str) -> None:
        """Delete a person's own model, and their offer of it; what the room has of it stays. Raises `NoSuchModel`."""
        self._unlink(OWN, user, folder, name)
        self._path(OFFERED, user, folder, name).unlink(missing_ok=True)

    def offer(self, user: str, folder: str, name: str) -> ShelvedModel:
        """Offer a model to the room as it is now: what is let in later is this content.

        Raises:
            NoSuchModel: they have none.
            NameTaken: they offer another content of that name.
        """
        own = self._path(OWN, user, folder, name)
        if not own.is_file():
            raise NoSuchModel(folder, name)
        return self._put(own, OFFERED, user, folder, name, "You offer")

    def withdraw(self, user: str, folder: str, name: str) -> None:
        """Take an offer back, or decline it. Raises `NoSuchModel`."""
        self._unlink(OFFERED, user, folder, name)

    def let_in(self, user: str, folder: str, name: str) -> ShelvedModel:
        """Give what a person offers to the room.

        Raises:
            NoSuchModel: they offer none.
            NameTaken: the room has another content of theirs by that name.
        """
        offered = self._path(OFFERED, user, folder, name)
        if not offered.is_file():
            raise NoSuchModel(folder, name)
        model = self._put(offered, ROOM, user, folder, name, "The room has")
        offered.unlink(missing_ok=True)
        return model

    def take_out(self, user: str, folder: str, name: str) -> None:
        """Take a model from the room; its owner keeps their own. Raises `NoSuchModel`."""
        self._unlink(ROOM, user, folder, name)

    def tidy(self) -> None:
        """Drop uploads that nobody went on with for two weeks."""
        self.arriving.prune(0, unused_seconds=ABANDONED)

    def _put(self, source: Path, shelf: str, user: str, folder: str, name: str, who: str) -> ShelvedModel:
        final = self._path(shelf, user, folder, name)
        final.parent.mkdir(parents=True, exist_ok=True)
        try:
            link_or_copy(source, final)
        except FileExistsError:
            if not os.path.samefile(source, final) and digest_file(source) != digest_file(final):
                raise NameTaken(folder, name, who) from None
        return ShelvedModel(shelf, user, current(folder), name, final.stat().st_size)

    def _unlink(self, shelf: str, user: str, folder: str, name: str) -> None:
        try:
            self._path(shelf, user, folder, name).unlink()
        except FileNotFoundError:
            raise NoSuchModel(folder, name) from None

    def _path(self, shelf: str, user: str, folder: str, name: str) -> Path:
        folder, name = checked(folder, name)
        if "/" in name or "/" in user or user.startswith("."):
            raise NoSuchModel(folder, name)
        return self.root / shelf / user / folder / name

    def _all(self, shelf: str) -> list[ShelvedModel]:
        return sorted((model for user in _folders(self.root / shelf) for model in self._of(shelf, user)), key=_order)

    def _of(self, shelf: str, user: str) -> Iterator[ShelvedModel]:
        for folder in _folders(self.root / shelf / user):
            with os.scandir(self.root / shelf / user / folder) as entries:
                for entry in entries:
                    # Beside them a copy may be on its way, under a hidden name.
                    if not entry.name.startswith(".") and entry.is_file(follow_symlinks=False):
                        yield ShelvedModel(shelf, user, folder, entry.name, entry.stat().st_size)


def _order(model: ShelvedModel) -> tuple[str, str, str]:
    return model.user, model.folder, model.name


def _folders(parent: Path) -> list[str]:
    try:
        with os.scandir(parent) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
