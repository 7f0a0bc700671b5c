"""What people have brought of models: in whose lists of nodes it is, and which of it a graph names."""

from __future__ import annotations

from collections.abc import Iterable

from ..comfyui_seams.context import current_visit
from ..model_vault.shelves import MINE, ROOMS, ShelvedModel, Shelves


class PeopleModels:
    """Shows each person their own models and the room's."""

    def __init__(self, shelves: Shelves) -> None:
        self.shelves = shelves

    def files(self, folder: str) -> list[str]:
        """What the person who asks may use of a folder of models, as graphs name it; blocking when asked first."""
        return self.of_visit().get(folder, [])

    def of_visit(self) -> dict[str, list[str]]:
        """The same by folder, of all folders; blocking when asked first."""
        visit = current_visit.get()
        if visit is None:
            return {}
        # A page that opens asks for each node's folder.
        if visit.models is None:
            visit.models = words_by_folder(self.shelves.seen_by(visit.user))
        return visit.models

    def named(self, texts: Iterable[str], user: str) -> list[ShelvedModel]:
        """What a person means with these strings, in whichever folder; blocking."""
        wanted = {text for text in texts if may_name(text)}
        return [model for model in self.shelves.seen_by(user) if model.words in wanted] if wanted else []


def may_name(text: str) -> bool:
    """A quick look whether a string in a graph could name a model that somebody has brought."""
    return text.startswith((MINE, ROOMS))


def words_by_folder(models: Iterable[ShelvedModel]) -> dict[str, list[str]]:
    """What graphs name these models by, for each folder of models."""
    found: dict[str, list[str]] = {}
    for model in models:
        found.setdefault(model.folder, []).append(model.words)
    return found
