"""Seam: ``nodes.NODE_CLASS_MAPPINGS`` on a frontend, which gets a stand-in for each node that only workers have.

ComfyUI's own ``/object_info`` and validation then treat such a node like any other. A stand-in is never executed.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from typing import Any, ClassVar

import folder_paths
import nodes

#: Options of an input that offers the person's own files, and the kinds of content that it takes (none: all).
UPLOAD_FLAGS = {
    "image_upload": ["image"],
    "video_upload": ["video"],
    "audio_upload": ["audio", "video"],
    "file_upload": [],
}


class Wildcard(str):
    """The type ``*`` as node packs mean it: different from no type, which is what ComfyUI asks of two linked ones.

    It equals ``*`` alone, or ComfyUI would cast its values to the first type that it compares.
    """

    __slots__ = ()

    def __ne__(self, _other: object) -> bool:
        return False

    __eq__ = str.__eq__
    __hash__ = str.__hash__


class Stub:
    """Base of all stand-ins."""

    DEFINITION: ClassVar[dict[str, Any]] = {}
    #: The model folders that inputs list.
    LISTS: ClassVar[Mapping[str, str]] = {}
    FUNCTION = "run_on_a_worker"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        """The worker's definition; inputs that take uploads offer the person's files, lists of models theirs."""
        inputs: dict[str, Any] = copy.deepcopy(cls.DEFINITION.get("input", {}))
        for group in inputs.values():
            if isinstance(group, dict):
                for name, spec in group.items():
                    group[name] = _with_own_files(_with_all_models(spec, cls.LISTS.get(name)))
        return inputs

    def run_on_a_worker(self, **_inputs: Any) -> Any:
        """Raises always: a frontend executes nothing."""
        raise RuntimeError(f"{type(self).__name__} is a node of the workers; a frontend does not execute it.")


class LenientStub(Stub):
    """Stands in for a node that checks its inputs with code of its own, which only a worker can run."""

    @classmethod
    def VALIDATE_INPUTS(cls, input_types: Any, **_inputs: Any) -> bool:  # noqa: N802 - ComfyUI's names
        """Accepts all: the worker has the word."""
        return True


def _with_own_files(spec: Any) -> Any:
    if not isinstance(spec, list) or len(spec) < 2 or not isinstance(spec[1], dict):
        return _typed(spec)
    flag = next((flag for flag in UPLOAD_FLAGS if spec[1].get(flag)), None)
    if flag is None:
        return _typed(spec)
    folder = folder_paths.get_input_directory()
    names = sorted(name for name in os.listdir(folder) if os.path.isfile(os.path.join(folder, name)))
    if UPLOAD_FLAGS[flag]:
        names = folder_paths.filter_files_content_types(names, UPLOAD_FLAGS[flag])
    if isinstance(spec[0], list):
        return (names, spec[1])
    return (spec[0], {**spec[1], "options": names})


def _with_all_models(spec: Any, folder: str | None) -> Any:
    """An input that lists one worker's models of a folder lists what all have and what people have brought."""
    if folder is None or not isinstance(spec, list) or not spec:
        return spec
    options = spec[1] if len(spec) > 1 and isinstance(spec[1], dict) else {}
    names = spec[0] if isinstance(spec[0], list) else options.get("options")
    if not isinstance(names, list):
        return spec
    # What is no file, such as "None", stays where the node has it.
    names = [*names, *(name for name in folder_paths.get_filename_list(folder) if name not in names)]
    if isinstance(spec[0], list):
        return [names, *spec[1:]]
    return [spec[0], {**options, "options": names}, *spec[2:]]


def _typed(spec: Any) -> Any:
    if isinstance(spec, list) and spec and spec[0] == "*":
        return (Wildcard("*"), *spec[1:])
    return tuple(spec) if isinstance(spec, list) else spec


def make(name: str, definition: dict[str, Any], *, checks_itself: bool, lists: Mapping[str, str]) -> type[Stub]:
    """A stand-in for a worker's node, from what the worker's ``/object_info`` says of it.

    Args:
        lists: the model folders that its inputs list.
    """
    attributes = {
        "DEFINITION": definition,
        "LISTS": lists,
        "RETURN_TYPES": tuple(Wildcard("*") if kind == "*" else kind for kind in definition.get("output", [])),
        "RETURN_NAMES": tuple(definition.get("output_name", [])),
        "OUTPUT_IS_LIST": tuple(definition.get("output_is_list", [])),
        "OUTPUT_NODE": bool(definition.get("output_node")),
        "INPUT_IS_LIST": bool(definition.get("is_input_list")),
        "HAS_INTERMEDIATE_OUTPUT": bool(definition.get("has_intermediate_output")),
        "CATEGORY": definition.get("category", ""),
        "DESCRIPTION": definition.get("description", ""),
        "RELATIVE_PYTHON_MODULE": definition.get("python_module", ""),
        "DEPRECATED": bool(definition.get("deprecated")),
        "EXPERIMENTAL": bool(definition.get("experimental")),
        "DEV_ONLY": bool(definition.get("dev_only")),
        "SEARCH_ALIASES": definition.get("search_aliases", []),
    }
    for optional, key in (
        ("OUTPUT_TOOLTIPS", "output_tooltips"),
        ("API_NODE", "api_node"),
        ("ESSENTIALS_CATEGORY", "essentials_category"),
    ):
        if key in definition:
            attributes[optional] = definition[key]
    return type(name, (LenientStub if checks_itself else Stub,), attributes)


def own_classes() -> set[str]:
    """Names of the node classes that this process really has."""
    return {name for name, node_class in nodes.NODE_CLASS_MAPPINGS.items() if not _is_stub(node_class)}


def replace_all(
    definitions: dict[str, dict[str, Any]],
    checked_by_worker: frozenset[str],
    lists: Mapping[str, Mapping[str, str]],
) -> None:
    """Have exactly these stand-ins; nodes that this process has itself stay as they are."""
    own = own_classes()
    for name in [name for name in nodes.NODE_CLASS_MAPPINGS if name not in own and name not in definitions]:
        del nodes.NODE_CLASS_MAPPINGS[name]
        nodes.NODE_DISPLAY_NAME_MAPPINGS.pop(name, None)
    for name, definition in definitions.items():
        if name not in own:
            nodes.NODE_CLASS_MAPPINGS[name] = make(
                name, definition, checks_itself=name in checked_by_worker, lists=lists.get(name, {})
            )
            nodes.NODE_DISPLAY_NAME_MAPPINGS[name] = definition.get("display_name") or name


def _is_stub(node_class: Any) -> bool:
    return isinstance(node_class, type) and issubclass(node_class, Stub)
