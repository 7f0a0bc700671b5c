"""Mounts the role that the settings choose in the ComfyUI that loads this extension."""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Awaitable, Callable

from . import settings as settings_module
from .comfyui_seams import folders, prompt_queue, server
from .settings import Settings, SettingsError

log = logging.getLogger("comfyume")


def mount() -> bool:
    """Read the settings and become what they say.

    Returns:
        Whether people use this process, so that browsers need the extension's scripts.

    Raises:
        SettingsError, QueueError: with a sentence for the person who starts ComfyUI.
    """
    settings = settings_module.load(os.environ, folders.system_folder() / settings_module.FILE_NAME)
    if settings.mode == "off":
        log.info("[comfyume] is off")
        return False
    # A process that is off loads no more than it needs.
    from .job_queue.connection import check  # noqa: PLC0415
    from .job_queue.errors import StoreRefused  # noqa: PLC0415

    url = settings.redis_url or _embedded_store()
    try:
        check(url)
    except StoreRefused as error:
        raise SettingsError(f"{error}. Check the user and the password in COMFYUME_REDIS_URL.") from error
    folders.install()
    log.info("[comfyume] mode %s, workshop %s", settings.mode, settings.workshop)
    ends: list[Callable[[], Awaitable[None]]] = []
    executing = None
    if settings.mode in ("standalone", "worker"):
        from .worker_mode import role as worker_role  # noqa: PLC0415 - as above

        worker = worker_role.mount(settings, url, alone=settings.mode == "worker")
        executing = worker.executor
        ends.append(worker.stop)
    if settings.mode in ("standalone", "frontend"):
        from .server_routes.role import Frontend  # noqa: PLC0415 - as above

        Frontend(settings, url).mount()
    else:
        from .worker_mode.refusing import refuse_prompts  # noqa: PLC0415 - as above

        server.add_outermost_middleware(refuse_prompts)
    prompt_queue.install(prompt_queue.WorkshopQueue(serves_people=settings.mode != "worker", executing=executing))
    _end_well(settings, ends)
    return settings.mode != "worker"


def _embedded_store() -> str:
    from .job_queue.embedded import EmbeddedStore  # noqa: PLC0415 - only a process without a store needs one

    store = EmbeddedStore(folders.system_folder() / "store")
    url = store.start()
    atexit.register(store.stop)
    return url


def _end_well(settings: Settings, ends: list[Callable[[], Awaitable[None]]]) -> None:
    async def stop() -> None:
        for end in ends:
            await end()

    server.end_in_good_order(stop, settings.drain_notice + 10)
    log.debug("mode %s ends in good order on SIGTERM", settings.mode)
