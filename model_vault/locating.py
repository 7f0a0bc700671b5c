"""Where each model that is needed can be had: here already, in the nearest place, or at its source."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..blobs.errors import BlobError
from .errors import Damaged, ModelError, NoSource, NotAsked, OtherFileHere
from .here import LocalModels
from .names import SAFETENSORS, check_kind
from .needs import Need, Plan, Workflow, plan
from .places import Offer, Place
from .safetensors_file import check_whole
from .sources import SourceFile, Sources

_AT_ONCE = 8


@dataclass(frozen=True)
class Located:
    """A model that is needed, and what is known of it.

    Attributes:
        is_here: it is on this machine.
        size: bytes; None where nobody knows.
        places: those that have it, the nearest first, with what each offers.
        sources: what the internet offers, in the order of the graph's addresses.
        problems: why it cannot be had, or not from everywhere; sentences.
    """

    need: Need
    is_here: bool = False
    size: int | None = None
    sha256: str = ""
    places: tuple[tuple[Place, Offer], ...] = ()
    sources: tuple[SourceFile, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def can_be_had(self) -> bool:
        """Whether anybody has it who may be asked."""
        return bool(self.places or self.sources)


@dataclass(frozen=True)
class Locator:
    """Looks for models.

    Attributes:
        sources: None asks nothing on the internet.
        allow_pickles: whether files may be fetched that are no safetensors.
        replace: whether a file that is here with another size is wanted anew.
    """

    here: LocalModels
    places: Sequence[Place]
    sources: Sources | None
    allow_pickles: bool = False
    replace: bool = False

    async def locate(self, needs: Sequence[Need]) -> list[Located]:
        """Find each of these models, in their order; several at once."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(need: Need) -> Located:
            async with gate:
                return await self._one(need)

        return await asyncio.gather(*map(one, needs))

    async def planned(self, workflows: Sequence[Workflow], problems: Sequence[str] = ()) -> tuple[Plan, list[Located]]:
        """What these workflows need and where each is, in the order of need."""
        first = plan(workflows, problems=problems)
        located = {each.need.key: each for each in await self.locate(first.needs)}

        def to_come(need: Need) -> int | None:
            return 0 if located[need.key].is_here else located[need.key].size

        ordered = plan(workflows, to_come, problems)
        return ordered, [located[need.key] for need in ordered.needs]

    async def _one(self, need: Need) -> Located:
        problems: list[str] = []
        places = await asyncio.to_thread(self._in_places, need, problems)
        path = await asyncio.to_thread(self.here.path, *need.key)
        known = await asyncio.to_thread(self.here.known, *need.key)
        if path is not None:
            size = path.stat().st_size
            wanted = places[0][1].size if places else known.digest.size if known else size
            if size == wanted:
                sha256 = known.digest.sha256 if known else need.sha256 or (places[0][1].sha256 if places else "")
                problem: ModelError | None = await asyncio.to_thread(_damage, path)
            else:
                sha256, problem = "", OtherFileHere(path, f"{size:,} bytes", f"{wanted:,} bytes")
            if problem is None or not self.replace:
                return Located(need, True, size, sha256, places, problems=(str(problem),) if problem else ())
        try:
            check_kind(*need.key, allow_pickles=self.allow_pickles)
        except ModelError as error:
            return Located(need, problems=(str(error),))
        sources = [] if places else await self._at_sources(need, problems)
        if not places and not sources and not problems:
            problems.append(str(NotAsked(*need.key) if need.urls else NoSource(*need.key)))
        sizes = [offer.size for _, offer in places] + [file.size for file in sources]
        hashes = [need.sha256, *(offer.sha256 for _, offer in places), *(file.sha256 for file in sources)]
        sha256 = next(filter(None, hashes), "")
        return Located(need, False, sizes[0] if sizes else None, sha256, places, tuple(sources), tuple(problems))

    def _in_places(self, need: Need, problems: list[str]) -> tuple[tuple[Place, Offer], ...]:
        found = []
        for place in self.places:
            try:
                offer = place.find(*need.key)
            except (BlobError, OSError) as error:
                problems.append(str(error))
                continue
            if offer is not None and need.sha256 and offer.sha256 not in ("", need.sha256):
                problems.append(
                    f"{place.name} has another {need.path} than the one that the workflow names by its hash."
                )
            elif offer is not None:
                found.append((place, offer))
        return tuple(found)

    async def _at_sources(self, need: Need, problems: list[str]) -> list[SourceFile]:
        """What the first address that answers has; the others are asked if it fails later."""
        if self.sources is None:
            return []
        for url in need.urls:
            try:
                file = await self.sources.ask(url)
            except ModelError as error:
                problems.append(str(error))
                continue
            if need.sha256 and file.sha256 not in ("", need.sha256):
                problems.append(f"{url} has another file than the one that the workflow names by its hash.")
                continue
            return [SourceFile(file.url, file.size, need.sha256 or file.sha256, file.tag)]
        return []


def _damage(path: Path) -> Damaged | None:
    """What a look at a file's header shows."""
    if path.name.lower().endswith(SAFETENSORS):
        try:
            check_whole(path)
        except Damaged as error:
            return error
    return None
