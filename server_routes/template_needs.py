"""``/comfyume/templates``: which model files each template needs, and which workers have them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiohttp import web

from ..comfyui_seams import server
from .page import TEMPLATES
from .workshop_nodes import WorkshopNodes

#: How the names of model files end.
MODELS = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx")


class TemplateNeeds:
    """Compares the templates with what the workers have."""

    def __init__(self, nodes: WorkshopNodes) -> None:
        self._nodes = nodes

    def mount(self) -> None:
        """Add the route."""
        server.add_route("GET", "/comfyume/templates", self.answer)

    async def answer(self, _request: web.Request) -> web.Response:
        """Each template: its ``files``, with the ``workers`` that have each, and how many are ``missing``."""
        templates = await asyncio.to_thread(read_templates, TEMPLATES)
        return web.json_response([self._told(name, graph) for name, graph in templates.items()])

    def _told(self, name: str, graph: dict[str, Any]) -> dict[str, Any]:
        files = [
            {"folder": folder, "file": file, "url": url, "workers": self._workers_with(folder, file)}
            for (folder, file), url in files_of(graph).items()
        ]
        return {"name": name, "files": files, "missing": sum(not file["workers"] for file in files)}

    def _workers_with(self, folder: str, file: str) -> list[str]:
        return [
            worker.name
            for worker in self._nodes.workers
            for folders in (worker.catalogue.models,)
            if file in folders.get(folder, ()) or (not folder and any(file in files for files in folders.values()))
        ]


def read_templates(folder: Path) -> dict[str, dict[str, Any]]:
    """The template graphs by name. Blocking."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def files_of(graph: dict[str, Any]) -> dict[tuple[str, str], str]:
    """The model files that a graph needs, also inside its subgraphs, by folder and name; with where to get each.

    A node says so in its ``properties.models``; where it does not, the names of model files among its widgets count,
    whose folder is not known then.
    """
    found: dict[tuple[str, str], str] = {}
    for node in _nodes_of(graph):
        named = (node.get("properties") or {}).get("models") or []
        for model in named:
            found.setdefault((str(model.get("directory", "")), str(model["name"])), str(model.get("url", "")))
        known = {str(model["name"]) for model in named}
        widgets = node.get("widgets_values")
        for value in widgets.values() if isinstance(widgets, dict) else widgets or ():
            if isinstance(value, str) and value.lower().endswith(MODELS) and value not in known:
                found.setdefault(("", value), "")
    elsewhere = {name for folder, name in found if folder}
    return {(folder, name): url for (folder, name), url in found.items() if folder or name not in elsewhere}


def _nodes_of(graph: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from graph.get("nodes") or ()
    for subgraph in (graph.get("definitions") or {}).get("subgraphs") or ():
        yield from _nodes_of(subgraph)
