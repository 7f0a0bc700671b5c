"""``/comfyume/templates``: which model files each template needs, and which workers have them."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from ..comfyui_seams import server
from ..model_vault.needs import Workflow, read_workflows
from .page import TEMPLATES
from .workshop_nodes import WorkshopNodes


class TemplateNeeds:
    """Compares the templates with what the workers have."""

    def __init__(self, nodes: WorkshopNodes) -> None:
        self._nodes = nodes

    def mount(self) -> None:
        """Add the route."""
        server.add_route("GET", "/comfyume/templates", self.answer)

    async def answer(self, _request: web.Request) -> web.Response:
        """Each template: its ``files``, with the ``workers`` that have each, and how many are ``missing``."""
        templates, _ = await asyncio.to_thread(read_workflows, [TEMPLATES], trusted=True)
        return web.json_response([self._told(template) for template in templates])

    def _told(self, template: Workflow) -> dict[str, Any]:
        files = [
            {
                "folder": need.folder,
                "file": need.name,
                "url": need.urls[0] if need.urls else "",
                "workers": self._workers_with(need.folder, need.name),
            }
            for need in template.needs
        ]
        return {"name": template.name, "files": files, "missing": sum(not file["workers"] for file in files)}

    def _workers_with(self, folder: str, file: str) -> list[str]:
        return [
            worker.name
            for worker in self._nodes.workers
            for folders in (worker.catalogue.models,)
            if file in folders.get(folder, ()) or (not folder and any(file in files for files in folders.values()))
        ]
