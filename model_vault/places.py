"""Places that hold models for many machines: vaults in a bucket or a folder, and folders laid out as ComfyUI's.

A vault has each content once under its hash, and one small index object for each model, so that two pushes at once
never write the same object but for the same model. Functions and methods block.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..blobs.arriving import ArrivingBlob
from ..blobs.digest import CHUNK, Digest
from ..blobs.errors import BlobMissing, InvalidDigest
from ..blobs.object_store import Moved, ObjectStore, blob_key, nobody
from ..blobs.store import BlobFolder
from .errors import NoSuchPlace, OtherFileThere, UnsafeModelName
from .here import LocalModels
from .names import checked
from .unnamed import arrive_unnamed

_INDEX = "models/index/"


@dataclass(frozen=True)
class Offer:
    """A model that a place has; ``sha256`` is empty where the place does not know it."""

    folder: str
    name: str
    size: int
    sha256: str = ""
    url: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Folder and name."""
        return self.folder, self.name


class Place(Protocol):
    """Where models can be had from."""

    @property
    def name(self) -> str:
        """For people."""

    def find(self, folder: str, name: str) -> Offer | None:
        """A model, if it is there."""

    def offers(self) -> Iterator[Offer]:
        """All models."""

    def bring(self, offer: Offer, staging: BlobFolder, moved: Moved = nobody) -> Digest:
        """Bring a model among the arriving ones; goes on where it was cut off. Raises what `ObjectStore.fetch` does."""


class Vault:
    """Models by their content, with an index, on an object store."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    @property
    def name(self) -> str:
        """See `Place`."""
        return self.store.name

    def find(self, folder: str, name: str) -> Offer | None:
        """See `Place`."""
        try:
            return self._read(index_key(folder, name))
        except BlobMissing:
            return None

    def offers(self) -> Iterator[Offer]:
        """See `Place`."""
        for each in self.store.listing(_INDEX):
            try:
                offer = self._read(each.key)
            except BlobMissing:  # deleted meanwhile
                continue
            if offer is not None:
                yield offer

    def bring(self, offer: Offer, staging: BlobFolder, moved: Moved = nobody) -> Digest:
        """See `Place`."""
        digest = Digest(offer.sha256, offer.size)
        self.store.fetch(content_key(offer.sha256), staging, digest, moved)
        return digest

    def add(self, offer: Offer, source: Path, moved: Moved = nobody, *, replace: bool = False) -> bool:
        """Put a model there; False if it is there already.

        Raises:
            OtherFileThere: another content has its name, and may not be replaced.
            DigestMismatch: the file is not (any more) what the offer says.
        """
        digest, key = Digest(offer.sha256, offer.size), content_key(offer.sha256)
        there = self.find(*offer.key)
        if there is not None and there.sha256 != offer.sha256 and not replace:
            raise OtherFileThere(self.name, *offer.key)
        if there is not None and there.sha256 == offer.sha256 and not offer.url:
            # Who does not know where it came from does not make the others forget it.
            offer = Offer(*offer.key, offer.size, offer.sha256, there.url)
        if replace:
            # What has the right size there may still be damaged.
            self.store.delete(key)
        sent = self.store.put(key, source, digest, moved)
        if there != offer:
            value = {"sha256": offer.sha256, "size": offer.size, "url": offer.url}
            self.store.write(index_key(*offer.key), json.dumps(value).encode())
            # Somebody who removes models may have taken it for one that nobody needs, before it stood in the index.
            if not sent and self.store.size_of(key) is None:
                sent = self.store.put(key, source, digest, moved)
        return sent or there != offer

    def remove(self, offer: Offer) -> int:
        """Remove a model, and its content if no other model has it; return the bytes that are free now."""
        self.store.delete(index_key(*offer.key))
        if any(other.sha256 == offer.sha256 for other in self.offers()):
            return 0
        self.store.delete(content_key(offer.sha256))
        return offer.size

    def _read(self, key: str) -> Offer | None:
        """An entry of the index; None if it is none of ours, for others can write there too."""
        folder, _, name = key.removeprefix(_INDEX).removesuffix(".json").partition("/")
        try:
            value = json.loads(self.store.read(key))
            digest = Digest(value["sha256"], value["size"])
            return Offer(*checked(folder, name), digest.size, digest.sha256, str(value.get("url", "")))
        except BlobMissing:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, InvalidDigest, UnsafeModelName):
            return None


class PlainFolder:
    """A folder laid out as ComfyUI's ``models``, as a network drive may bring one. Nothing is written there."""

    def __init__(self, root: Path) -> None:
        self._models = LocalModels(root)

    @property
    def name(self) -> str:
        """See `Place`."""
        return str(self._models.root)

    def find(self, folder: str, name: str) -> Offer | None:
        """See `Place`."""
        path = self._models.path(folder, name)
        return Offer(folder, name, path.stat().st_size) if path is not None else None

    def offers(self) -> Iterator[Offer]:
        """See `Place`."""
        for file in self._models.files():
            yield Offer(file.folder, file.name, file.size)

    def bring(self, offer: Offer, staging: BlobFolder, moved: Moved = nobody) -> Digest:
        """See `Place`; what the file has is only known when it has been read."""
        path = self._models.path(*offer.key)
        if path is None:
            raise BlobMissing(offer.name)
        state = path.stat()

        def bring(arriving: ArrivingBlob) -> None:
            with open(path, "rb", buffering=0) as file:
                file.seek(arriving.length)
                while arriving.missing and (piece := file.read(min(CHUNK, arriving.missing))):
                    arriving.append(piece)
                    moved(len(piece))

        return arrive_unnamed(staging, f"{path} {state.st_size} {state.st_mtime_ns}", state.st_size, bring)


def index_key(folder: str, name: str) -> str:
    """The key of a model's index object. Raises `UnsafeModelName`."""
    folder, name = checked(folder, name)
    return f"{_INDEX}{folder}/{name}.json"


def content_key(sha256: str) -> str:
    """The key of a model's content: apart from jobs' files and backups, which others prune."""
    return f"models/{blob_key(sha256)}"


def open_places(names: Sequence[str], open_store: Callable[[str], ObjectStore]) -> list[Place]:
    """The places that a setting names, folders before buckets, each kind in its order.

    A folder is a vault, a folder laid out as ComfyUI's, or both.

    Raises:
        NoSuchPlace: a folder is not there, or a bucket's name is none.
    """
    folders: list[Place] = []
    buckets: list[Place] = []
    for name in names:
        if name.startswith("s3://"):
            buckets.append(open_vault(name, open_store))
            continue
        root = Path(name).expanduser()
        if not root.is_dir():
            raise NoSuchPlace(name, "there is no such folder; mount it, or make it")
        if (root / "models").is_dir() or not any(root.iterdir()):
            folders.append(open_vault(name, open_store))
        folders.append(PlainFolder(root))
    return folders + buckets


def open_vault(name: str, open_store: Callable[[str], ObjectStore]) -> Vault:
    """The vault in a bucket or a folder.

    Raises:
        NoSuchPlace: a bucket's name is none.
    """
    try:
        return Vault(open_store(name))
    except ValueError as error:  # what boto3 says of names and addresses
        raise NoSuchPlace(name, str(error)) from error
