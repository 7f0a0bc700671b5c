"""A machine with models for the tests, and pulls to it from servers on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from comfyume.model_vault.here import LocalModels
from comfyume.model_vault.locating import Locator
from comfyume.model_vault.needs import Need
from comfyume.model_vault.places import Place
from comfyume.model_vault.pull import Pull, Report
from comfyume.model_vault.sources import SourceRules, Sources
from comfyume.tests.harness.model_source import SourceServer

LOCAL = SourceRules(frozenset({"127.0.0.1", "localhost"}), hub="127.0.0.1")


def need(source: SourceServer, name: str, content: bytes | None = None, folder: str = "vae", **more: Any) -> Need:
    """A need of a file that the server has, with this content."""
    if content is not None:
        source.files[name] = content
    return Need(folder, name, (source.url(name),), **more)


async def pull(
    here: LocalModels,
    needs: list[Need],
    *places: Place,
    rules: SourceRules = LOCAL,
    offline: bool = False,
    **options: Any,
) -> Report:
    """Locate and pull."""
    more = {name: options.pop(name) for name in ("allow_pickles",) if name in options}
    async with Sources(rules) as sources:
        asked = None if offline else sources
        locator = Locator(here, places, asked, replace=options.get("replace", False), **more)
        return await Pull(here, asked, **options).run(await locator.locate(needs))


def put(here: LocalModels, name: str, content: bytes, folder: str = "vae") -> Path:
    """A model that came by other ways."""
    path = here.root / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def contents(here: LocalModels) -> dict[str, bytes]:
    """What is here."""
    return {f"{file.folder}/{file.name}": file.path.read_bytes() for file in here.files()}


def until(condition: Callable[[], bool], timeout: float = 30.0) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
