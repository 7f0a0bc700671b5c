"""Seam: ComfyUI's node definitions and model lists on a worker, put into a catalogue."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.utils
import folder_paths
import nodes
from aiohttp import web
from comfy_api.internal import _ComfyNodeInternal
from server import PromptServer

from ..job_queue.catalogue import Catalogue
from . import model_lists

log = logging.getLogger("comfyume")

#: Browser files of one node pack are offered up to this size in bytes, all together.
LARGEST_EXTENSION = 16 * 1024 * 1024

#: What the name of a file begins with that is in a folder's list only to be found again among a node's inputs.
MARK = "comfyume-mark-of-"
_asked_folders: ContextVar[set[str] | None] = ContextVar("comfyume_asked_folders", default=None)
_definitions: tuple[tuple[Any, ...], dict[str, Any], ListsOfNodes] | None = None


@dataclass(frozen=True)
class ListsOfNodes:
    """Which model folders node classes list.

    Attributes:
        folders: those of each class.
        lists: of each class, the inputs that have the files of one as they are, and which.
    """

    folders: dict[str, list[str]]
    lists: dict[str, dict[str, str]]


async def export() -> Catalogue:
    """What this process can run now. Definitions are computed again only when a model list has changed."""
    global _definitions  # noqa: PLW0603 - the definitions of the one ComfyUI in this process
    models = await asyncio.to_thread(model_lists.own_lists)
    state = (len(nodes.NODE_CLASS_MAPPINGS), json.dumps(models, sort_keys=True))
    if _definitions is None or _definitions[0] != state:
        with model_lists.own_models_only():
            # In this order: a class that keeps its first list must not keep the marks.
            _definitions = (state, await _node_definitions(), await asyncio.to_thread(_lists_of_nodes))
    extensions = await asyncio.to_thread(lambda: {pack: _hashes(files) for pack, files in extension_files().items()})
    sizes = await asyncio.to_thread(model_lists.own_sizes, models)
    _, definitions, found = _definitions
    checked = _classes_with_own_checks()
    return Catalogue(definitions, found.folders, checked, models, extensions, sizes, found.lists)


async def _node_definitions() -> dict[str, Any]:
    """What native ``/object_info`` answers."""
    handler: Any = next(
        route.handler
        for route in PromptServer.instance.routes
        if isinstance(route, web.RouteDef) and route.path == "/object_info"
    )
    response = await handler(None)
    definitions: dict[str, Any] = json.loads(response.body)
    return definitions


def _lists_of_nodes() -> ListsOfNodes:
    """Ask each node class for its inputs and note which model folders it lists."""
    result = ListsOfNodes({}, {})
    with _watching_model_lists():
        for name, node_class in list(nodes.NODE_CLASS_MAPPINGS.items()):
            asked: set[str] = set()
            token = _asked_folders.set(asked)
            try:
                lists = _marked_inputs(node_class.INPUT_TYPES())
                if lists:
                    result.lists[name] = lists
            except Exception as error:  # noqa: BLE001 - any node pack's code; ComfyUI's own list leaves such a node out too
                log.debug("node %s does not tell its inputs: %s", name, error)
            finally:
                _asked_folders.reset(token)
            if asked:
                result.folders[name] = sorted(asked)
    return result


def _marked_inputs(inputs: dict[str, Any]) -> dict[str, str]:
    """The inputs that list a folder of models, and which."""
    found = {}
    for group in inputs.values():
        for name, spec in group.items() if isinstance(group, dict) else ():
            if isinstance(spec, (list, tuple)) and spec:
                options = spec[1].get("options") if len(spec) > 1 and isinstance(spec[1], dict) else None
                for value in spec[0] if isinstance(spec[0], (list, tuple)) else options or ():
                    if isinstance(value, str) and value.startswith(MARK):
                        found[name] = value[len(MARK) :].partition(".")[0]
    return found


@contextlib.contextmanager
def _watching_model_lists() -> Iterator[None]:
    get_filename_list: Callable[[str], list[str]] = folder_paths.get_filename_list

    def watched(folder_name: str) -> list[str]:
        asked = _asked_folders.get()
        files = get_filename_list(folder_name)
        if asked is None:
            return files
        folder = folder_paths.map_legacy(folder_name)
        asked.add(folder)
        return [*files, f"{MARK}{folder}.safetensors"]

    folder_paths.get_filename_list = watched
    try:
        yield
    finally:
        folder_paths.get_filename_list = get_filename_list


def _classes_with_own_checks() -> frozenset[str]:
    return frozenset(name for name, node_class in nodes.NODE_CLASS_MAPPINGS.items() if _checks_itself(node_class))


def _checks_itself(node_class: type) -> bool:
    if issubclass(node_class, _ComfyNodeInternal):
        # Inputs that depend on each other can be resolved by the class alone.
        return True
    return hasattr(node_class, "VALIDATE_INPUTS")


def extension_files() -> dict[str, dict[str, Path]]:
    """The files that node packs give to browsers, by pack and path, but for packs that are too large."""
    packs = {}
    for pack, folder in nodes.EXTENSION_WEB_DIRS.items():
        root = Path(folder)
        files = {
            Path(parent, name).relative_to(root).as_posix(): Path(parent, name)
            for parent, _, names in os.walk(root)
            for name in names
        }
        size = sum(path.stat().st_size for path in files.values())
        if size > LARGEST_EXTENSION:
            log.warning(
                "[comfyume] the browser files of %s are not offered to frontends: %d MiB is too much", pack, size >> 20
            )
            continue
        packs[pack] = files
    return packs


def _hashes(files: dict[str, Path]) -> dict[str, str]:
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}


def model_metadata(folder: str, file: str) -> Any:
    """What native ``/view_metadata`` reads from a model's header; None when there is nothing. Blocking."""
    path = folder_paths.get_full_path(folder, file)
    if path is None or not file.endswith(".safetensors"):
        return None
    header = comfy.utils.safetensors_header(path, max_size=1024 * 1024)
    return json.loads(header).get("__metadata__") if header is not None else None
