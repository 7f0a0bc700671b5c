"""A worker takes no prompts of its own; it says so to whoever posts one."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler


@web.middleware
async def refuse_prompts(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer ``POST /prompt`` with 409 in ComfyUI's shape of an error."""
    if request.method == "POST" and request.path.removeprefix("/api") == "/prompt":
        message = "This ComfyUI is a worker of a comfyume workshop. Queue prompts on the workshop's frontend."
        error = {"type": "worker", "message": message, "details": "", "extra_info": {}}
        return web.json_response({"error": error, "node_errors": {}}, status=409)
    return await handler(request)
