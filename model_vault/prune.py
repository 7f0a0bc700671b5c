"""What may go: from a vault what nothing needs, from this machine what can be had again. Blocking; deletes nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from .here import LocalFile, LocalModels
from .places import Offer, Vault

Key = tuple[str, str]


@dataclass(frozen=True)
class Leaving:
    """What would go from this machine, and what stays though it should go, because nobody else has it."""

    going: tuple[LocalFile, ...]
    last_copies: tuple[LocalFile, ...]
    size: int
    limit: int

    @property
    def left(self) -> int:
        """Bytes that models take afterwards."""
        return self.size - sum(file.size for file in self.going)


def unneeded(vault: Vault, needed: Collection[Key]) -> list[Offer]:
    """The models of a vault that no workflow needs; ``needed`` by folder and name, or by an empty folder and name."""
    return [offer for offer in vault.offers() if offer.key not in needed and ("", offer.name) not in needed]


def too_much_here(here: LocalModels, limit: int, needed: Collection[Key], elsewhere: Iterable[Offer]) -> Leaving:
    """Which models to delete so that at most ``limit`` bytes remain: unneeded ones first, of those the longest unused.

    Only what another place has too, or what is known to be had at its source, may go.
    """
    files = here.files()
    there = {(offer.key, offer.size) for offer in elsewhere}
    size = sum(file.size for file in files)
    excess = size - limit
    going, last = [], []
    for file in sorted(files, key=lambda each: ((each.folder, each.name) in needed, each.used)):
        if excess <= 0:
            break
        known = here.known(file.folder, file.name)
        has_source = known is not None and bool(known.url) and known.digest.size == file.size
        if has_source or ((file.folder, file.name), file.size) in there:
            going.append(file)
            excess -= file.size
        else:
            last.append(file)
    return Leaving(tuple(going), tuple(last), size, limit)
