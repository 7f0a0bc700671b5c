"""Answers to which the workers have a part: definitions of nodes, devices, model headers, scripts of node packs."""

from __future__ import annotations

import mimetypes
from typing import Any
from urllib.parse import quote

from aiohttp import web
from aiohttp.typedefs import Handler

from ..comfyui_seams import extensions, server
from .native_shapes import json_of
from .workshop_nodes import WorkshopNodes

#: What of ``/system_stats`` nobody but this machine's owner needs.
PRIVATE_STATS = ("argv",)


class WorkersAnswers:
    """Adds to ComfyUI's answers what only the workers know."""

    def __init__(self, workshop: WorkshopNodes) -> None:
        self._workshop = workshop

    def middleware(self) -> Any:
        """The middleware, for aiohttp; inside the one that knows who asks."""

        @web.middleware
        async def serve(request: web.Request, handler: Handler) -> web.StreamResponse:
            path = request.path.removeprefix("/api")
            if request.method == "GET":
                if path.startswith("/extensions/"):
                    return await self._extension_file(request, path, handler)
                if path == "/object_info":
                    # ComfyUI asks each node, a quarter of a second for all: fifty pages that open at once would hold
                    # everybody up for as long as all of them take.
                    async with self._workshop.definitions:
                        return await server.answer_in_thread(request, handler)
                if path == "/extensions":
                    return self._with_extensions(await handler(request))
                if path == "/system_stats":
                    return self._with_devices(await handler(request))
                if path.startswith("/view_metadata/"):
                    return await self._metadata(request, handler)
            return await handler(request)

        return serve

    def _foreign_packs(self) -> set[str]:
        return set(self._workshop.extensions) - extensions.own_packs()

    async def _extension_file(self, request: web.Request, path: str, handler: Handler) -> web.StreamResponse:
        pack, _, name = path.removeprefix("/extensions/").partition("/")
        if pack not in self._foreign_packs():
            response = await handler(request)
            if name.endswith(".mjs"):
                # ComfyUI says so of .js alone, and an old module beside a new one breaks the page after an upgrade.
                response.headers.setdefault("Cache-Control", "no-cache")
            return response
        file = self._workshop.extensions[pack].get(name)
        if file is None:
            raise web.HTTPNotFound
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return web.FileResponse(file, headers={"Content-Type": kind, "Cache-Control": "no-cache"})

    def _with_extensions(self, response: web.StreamResponse) -> web.StreamResponse:
        foreign = [
            f"/extensions/{quote(pack)}/{quote(name)}"
            for pack in sorted(self._foreign_packs())
            for name in sorted(self._workshop.extensions[pack])
            if name.endswith(".js")
        ]
        body = json_of(response)
        return web.json_response([*body, *foreign]) if isinstance(body, list) else response

    def _with_devices(self, response: web.StreamResponse) -> web.StreamResponse:
        body = json_of(response)
        if not isinstance(body, dict):
            return response
        for name in PRIVATE_STATS:
            if name in body.get("system", {}):
                body["system"][name] = []
        devices = [
            {**device, "name": f"{worker.name}: {device['name']}", "index": index}
            for index, (worker, device) in enumerate(
                (worker, device) for worker in self._workshop.workers for device in worker.description["devices"]
            )
        ]
        return web.json_response({**body, "devices": devices or body.get("devices", [])})

    async def _metadata(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        file = request.query.get("filename")
        if response.status != 404 or file is None:
            return response
        answer = await self._workshop.metadata(request.match_info.get("folder_name", ""), file)
        return web.json_response(answer) if answer is not None else response
