"""Finding the store of a workshop from the command line: the one that the settings name, else an embedded one."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import redis.asyncio

from .. import settings as settings_module
from ..accounts.errors import AccountError
from ..job_queue.connection import connect_async
from ..job_queue.errors import QueueError
from ..job_queue.keys import Keys
from ..settings import Settings, SettingsError
from .comfyui_install import find_folder
from .errors import CommandError
from .workshop import default_state, running_store

#: Where ComfyUI keeps what it serves to nobody, below its folder; the role's `system_folder` is the same.
SYSTEM_FOLDER = Path("user", "__comfyume")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how the store is found."""
    parser.add_argument(
        "--state",
        type=Path,
        help="folder of a workshop that `comfyume workshop` stood up (its default, if it is there)",
    )


@contextlib.contextmanager
def found_store(options: argparse.Namespace) -> Iterator[tuple[str, Settings]]:
    """The URL of the workshop's store, while it runs, and the settings.

    That is what COMFYUME_REDIS_URL or comfyume.toml name; else the store of ``--state``; else that of
    `comfyume workshop`, if it was ever used; else the one that ComfyUI starts by itself.

    Raises:
        CommandError: the settings are wrong, or there is no store.
    """
    settings = loaded_settings(getattr(options, "system_folder", None))
    state: Path | None = options.state
    if settings.redis_url is not None and state is None:
        yield settings.redis_url, settings
        return
    folder = (state or default_state()).expanduser().absolute() / "store"
    if not folder.is_dir():
        if state is not None:
            raise CommandError(f"There is no workshop in {state}.")
        system = system_folder()
        if system is None or not (system / "store").is_dir():
            raise CommandError(
                "There is no workshop yet: start ComfyUI with comfyume once, or name the store with COMFYUME_REDIS_URL."
            )
        folder = system / "store"
    print(f"The workshop in {folder.parent}", file=sys.stderr)
    with running_store(folder) as store:
        yield store.url, settings


def run_on_store(options: argparse.Namespace, work: Callable[[redis.asyncio.Redis, Keys], Awaitable[None]]) -> int:
    """Do something with the workshop's store, and end the connection to it.

    Raises:
        CommandError: there is no store, or it could not be done.
    """

    async def run(url: str, keys: Keys) -> None:
        client = connect_async(url)
        try:
            await work(client, keys)
        finally:
            await client.aclose()

    with found_store(options) as (url, settings):
        try:
            asyncio.run(run(url, Keys(settings.workshop)))
        except (AccountError, QueueError) as error:
            raise CommandError(str(error)) from error
    return 0


def loaded_settings(system: Path | None = None) -> Settings:
    """The settings as ComfyUI's processes here read them, whatever the role.

    Args:
        system: ComfyUI's system folder, if it is another than usual.

    Raises:
        CommandError: one of them is wrong.
    """
    system = system or system_folder()
    try:
        # Mode and roles are no matter here, so a store alone must do.
        return settings_module.load(
            {**os.environ, "COMFYUME_MODE": "off"}, system / settings_module.FILE_NAME if system is not None else None
        )
    except SettingsError as error:
        raise CommandError(str(error)) from error


def system_folder() -> Path | None:
    """Where comfyume keeps its own things, in the ComfyUI that is found; None where there is none."""
    comfyui = find_folder()
    return comfyui.folder / SYSTEM_FOLDER if comfyui is not None else None
