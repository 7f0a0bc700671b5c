"""A node pack with routes of its own, that tells which routes the running application has."""

from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS = {}
routes = PromptServer.instance.routes


@routes.get("/cfm/routes")
async def all_routes(request):
    """Every method and path that the application answers."""
    found = {(route.method, route.resource.canonical) for route in request.app.router.routes() if route.resource}
    return web.json_response(sorted(found))


@routes.get("/cfm/unclassified/{name}")
async def unclassified(_request):
    """Nobody has said who may use this."""
    return web.json_response({"secret": "told"})
