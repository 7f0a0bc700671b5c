"""Finds models that are not what they should be: cut off, changed, or another file under a wrong name. Blocking."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..blobs.digest import digest_file
from ..blobs.errors import BlobError
from ..blobs.object_folder import FolderObjects
from .errors import Damaged
from .here import Known, LocalFile, LocalModels
from .names import SAFETENSORS
from .places import Offer, Place, Vault, content_key
from .safetensors_file import check_whole


@dataclass(frozen=True)
class Finding:
    """One model and what is wrong with it, in a sentence; nothing is wrong where that is empty.

    Attributes:
        is_certain: whether its content was compared with what it should be, and not only its size or its header.
    """

    name: str
    problem: str = ""
    is_certain: bool = False


def verify_here(
    here: LocalModels,
    places: Sequence[Place] = (),
    *,
    quick: bool = False,
    only: Callable[[LocalFile], bool] = lambda _file: True,
) -> Iterator[Finding]:
    """Look at the models of this machine, each against its own header, and against what was noted when it came.

    Args:
        places: whose word counts for models of which nothing is noted here.
        quick: look at sizes and headers alone.
    """
    offers = [offer for place in places for offer in _offers(place) if offer.sha256]
    by_key = {offer.key: offer for offer in reversed(offers)}
    names = {offer.sha256: f"{offer.folder}/{offer.name}" for offer in offers}
    for file in here.files():
        if only(file):
            yield _look_at(file, here.known(file.folder, file.name), by_key.get((file.folder, file.name)), names, quick)


def _look_at(file: LocalFile, known: Known | None, offer: Offer | None, names: dict[str, str], quick: bool) -> Finding:
    name = f"{file.folder}/{file.name}"
    wanted = (known.digest.sha256, known.digest.size) if known else (offer.sha256, offer.size) if offer else None
    if wanted is not None and file.size < wanted[1]:
        return Finding(name, f"it is cut off: {file.size:,} of {wanted[1]:,} bytes are there", is_certain=True)
    if file.name.lower().endswith(SAFETENSORS):
        try:
            check_whole(file.path, name)
        except Damaged as error:
            return Finding(name, error.problem, is_certain=True)
    if wanted is None:
        return Finding(name)
    if file.size != wanted[1]:
        return Finding(name, f"it is another file: it has {file.size:,} bytes and not {wanted[1]:,}", is_certain=True)
    if quick:
        return Finding(name)
    found = digest_file(file.path).sha256
    if found == wanted[0]:
        return Finding(name, is_certain=True)
    other = names.get(found)
    what = f"that of {other}" if other and other != name else f"{found[:16]}... and not {wanted[0][:16]}..."
    return Finding(name, f"it has another content than it should: {what}", is_certain=True)


def verify_vault(vault: Vault, *, quick: bool = False) -> Iterator[Finding]:
    """Look at each model of a vault: whether its content is there with the right size, and in a folder with the right
    hash too. A bucket has checked each part as it came."""
    seen: dict[str, str] = {}
    for offer in vault.offers():
        name = f"{offer.folder}/{offer.name}"
        if offer.sha256 not in seen:
            seen[offer.sha256] = _problem_there(vault, offer, quick)
        yield Finding(name, seen[offer.sha256], is_certain=not quick and isinstance(vault.store, FolderObjects))


def _problem_there(vault: Vault, offer: Offer, quick: bool) -> str:
    key = content_key(offer.sha256)
    size = vault.store.size_of(key)
    if size is None:
        return "its content is missing; push it again"
    if size != offer.size:
        return f"its content has {size:,} and not {offer.size:,} bytes; push it again with --replace"
    if not quick and isinstance(vault.store, FolderObjects):
        path: Path = vault.store.root / key
        if digest_file(path).sha256 != offer.sha256:
            return "its content has changed; push it again with --replace"
    return ""


def _offers(place: Place) -> list[Offer]:
    try:
        return list(place.offers())
    except (BlobError, OSError):
        return []
