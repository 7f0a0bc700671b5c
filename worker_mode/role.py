"""Mounts a worker in ComfyUI."""

from __future__ import annotations

from aiohttp import web

from ..comfyui_seams import event_tap, folders, model_lists, server
from ..settings import Settings
from .comfyui_engine import ComfyUIEngine
from .worker import Worker


def mount(settings: Settings, url: str, *, alone: bool) -> Worker:
    """Make this ComfyUI process a worker, while custom nodes load.

    Args:
        url: of the store.
        alone: whether this process is nothing but a worker, so that its folders are the jobs'.
    """
    worker = Worker(
        settings,
        url,
        ComfyUIEngine(),
        system=folders.system_folder(),
        loop=server.loop(),
        end=server.end,
        models=folders.models_folder(),
    )
    worker.make_ready()
    model_lists.install_for_jobs()
    if alone:
        folders.use_always(worker.job_folders)
    event_tap.install(worker.courier.take_json, worker.courier.take_bytes)

    async def start(_app: web.Application) -> None:
        await worker.start()

    server.on_startup(start)
    return worker
