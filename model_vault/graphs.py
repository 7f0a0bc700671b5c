"""The model files that a graph needs, as ComfyUI saves graphs, also inside subgraphs.

A node says so itself in ``properties.models``: name, folder, address, sometimes a hash. Where it does not, the names of
model files among its widgets count; their folder is known for ComfyUI's own loaders, and nobody says where to get them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from .errors import ModelError
from .loaders import folder_of
from .names import current, is_model, plain

#: ComfyUI's modes of a node that does not run: muted, and bypassed.
SWITCHED_OFF = frozenset({2, 4})
#: Bytes up to which a file is read as a graph.
LARGEST_GRAPH = 64 * 1024 * 1024


class NoGraph(ModelError):
    """A file that holds no graph."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} is no workflow: {why}.")


@dataclass(frozen=True)
class Mention:
    """A model file as one graph tells of it. Nothing here is checked: a graph can come from anybody.

    Attributes:
        folder: the model folder, empty where nobody knows it.
        urls: where it can be had, the first one first.
        sha256: of its content, or an empty string.
        runs: whether a node needs it that is not switched off.
    """

    folder: str
    name: str
    urls: tuple[str, ...] = ()
    sha256: str = ""
    runs: bool = True


def read_graph(path: Path) -> dict[str, Any]:
    """A graph from a file. Blocking.

    Raises:
        NoGraph: it holds none.
    """
    try:
        if path.stat().st_size > LARGEST_GRAPH:
            raise NoGraph(path, f"it has more than {LARGEST_GRAPH >> 20} MiB")
        graph = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise NoGraph(path, str(error)) from error
    if not isinstance(graph, dict) or not (isinstance(graph.get("nodes"), list) or _is_prompt(graph)):
        raise NoGraph(path, "it has no nodes")
    return graph


def mentions(graph: dict[str, Any]) -> list[Mention]:
    """The model files that a graph needs, each once, in the order in which they are found."""
    found: dict[tuple[str, str], Mention] = {}
    for each in _prompt_mentions(graph) if _is_prompt(graph) else _all_mentions(graph):
        key = (each.folder, each.name)
        found[key] = merged(found[key], each) if key in found else each
    # A subgraph shows widgets of its nodes outside, where nobody says the folder.
    elsewhere = {name for folder, name in found if folder}
    return [each for each in found.values() if each.folder or each.name not in elsewhere]


def merged(one: Mention, other: Mention) -> Mention:
    """What two mentions of the same file say together; where they differ, the first one's word comes first."""
    urls = tuple(dict.fromkeys((*one.urls, *other.urls)))
    return replace(one, urls=urls, sha256=one.sha256 or other.sha256, runs=one.runs or other.runs)


def _all_mentions(graph: dict[str, Any]) -> Iterator[Mention]:
    subgraphs: dict[str, dict[str, Any]] = {}
    _collect_subgraphs(graph, subgraphs, 0)
    running = _running_subgraphs(graph, subgraphs)
    for node in _dicts(graph.get("nodes")):
        yield from _node_mentions(node, runs=True)
    for key, subgraph in subgraphs.items():
        for node in _dicts(subgraph.get("nodes")):
            yield from _node_mentions(node, runs=key in running)


def _collect_subgraphs(graph: dict[str, Any], found: dict[str, dict[str, Any]], depth: int) -> None:
    """All definitions of subgraphs by their ids; they may stand inside each other."""
    definitions = graph.get("definitions")
    if not isinstance(definitions, dict) or depth > 100:
        return
    for number, subgraph in enumerate(_dicts(definitions.get("subgraphs"))):
        found.setdefault(str(subgraph.get("id", f"{depth} {number} {len(found)}")), subgraph)
        _collect_subgraphs(subgraph, found, depth + 1)


def _running_subgraphs(graph: dict[str, Any], subgraphs: dict[str, dict[str, Any]]) -> set[str]:
    """The subgraphs that a node calls which is not switched off, from the graph or from one of them."""
    running: set[str] = set()
    waiting = [graph]
    while waiting:
        for node in _dicts(waiting.pop().get("nodes")):
            kind = str(node.get("type", ""))
            if kind in subgraphs and kind not in running and node.get("mode") not in SWITCHED_OFF:
                running.add(kind)
                waiting.append(subgraphs[kind])
    return running


def _node_mentions(node: dict[str, Any], *, runs: bool) -> Iterator[Mention]:
    runs = runs and node.get("mode") not in SWITCHED_OFF
    properties = node.get("properties")
    said = properties.get("models") if isinstance(properties, dict) else None
    named = set()
    for model in _dicts(said):
        name = model.get("name")
        if isinstance(name, str) and name:
            named.add(plain(name))
            folder = current(str(model.get("directory") or ""))
            yield Mention(folder, plain(name), _urls(model), _sha256(model), runs)
    widgets = node.get("widgets_values")
    values = widgets.values() if isinstance(widgets, dict) else widgets if isinstance(widgets, list) else ()
    files = [plain(value) for value in values if isinstance(value, str) and is_model(value)]
    for position, name in enumerate(files):
        if name not in named:
            yield Mention(folder_of(str(node.get("type", "")), position), name, runs=runs)


def _is_prompt(graph: dict[str, Any]) -> bool:
    """Whether this is a graph as it is queued ("API format"), with its nodes by their ids."""
    return bool(graph) and all(isinstance(node, dict) and "class_type" in node for node in graph.values())


def _prompt_mentions(graph: dict[str, Any]) -> Iterator[Mention]:
    for node in graph.values():
        inputs = node.get("inputs")
        values = inputs.values() if isinstance(inputs, dict) else ()
        files = [plain(value) for value in values if isinstance(value, str) and is_model(value)]
        for position, name in enumerate(files):
            yield Mention(folder_of(str(node["class_type"]), position), name)


def _dicts(value: Any) -> Iterable[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else ()


def _urls(model: dict[str, Any]) -> tuple[str, ...]:
    url = model.get("url")
    return (tidied(url),) if isinstance(url, str) and url else ()


def tidied(url: str) -> str:
    """An address as it is asked: of the file instead of its page on Hugging Face, and without its word for browsers."""
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return url
    if parts.hostname == "huggingface.co" and "/blob/" in parts.path:
        parts = parts._replace(path=parts.path.replace("/blob/", "/resolve/", 1))
    if parts.query in ("download=true", "download=1"):
        return urlunsplit(parts._replace(query=""))
    if "download=true" in parts.query:
        kept = [(name, value) for name, value in parse_qsl(parts.query) if (name, value) != ("download", "true")]
        return urlunsplit(parts._replace(query=urlencode(kept)))
    return urlunsplit(parts)


def _sha256(model: dict[str, Any]) -> str:
    value = model.get("hash")
    kind = str(model.get("hash_type") or "sha256").lower().replace("-", "")
    is_one = kind == "sha256" and isinstance(value, str) and re.fullmatch(r"[0-9a-fA-F]{64}", value)
    return str(value).lower() if is_one else ""
