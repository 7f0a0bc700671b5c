"""Opens what the settings say of models: the places that hold them, and the rules for fetching them elsewhere."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from .model_vault.here import LocalModels
from .model_vault.places import Place, Vault, open_places, open_vault
from .model_vault.sources import SourceRules
from .object_stores import open_object_store
from .settings import Settings


def places_of(settings: Settings, here: LocalModels, names: Sequence[str] = ()) -> list[Place]:
    """The places where models are found, the nearest first; ``names`` in place of those that the settings name.

    Raises:
        NoSuchPlace: one of them is none.
    """
    places = open_places(names or settings.models, lambda name: open_object_store(name, settings))
    return [place for place in places if place.name != str(here.root)]


def vault_at(settings: Settings, name: str) -> Vault:
    """The vault in a bucket or a folder. Raises `NoSuchPlace`."""
    return open_vault(name, lambda where: open_object_store(where, settings))


def rules_of(settings: Settings, environ: Mapping[str, str] = os.environ) -> SourceRules:
    """Where models may be fetched from, and with which token."""
    token = settings.hf_token or environ.get("HF_TOKEN", "")
    return SourceRules(frozenset(host.lower() for host in settings.models_hosts), token=token.strip())
