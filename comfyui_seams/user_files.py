"""Seam: ``PromptServer.user_manager``, so that workflows, settings and other data are those of the person who asks."""

from __future__ import annotations

from typing import Any

import folder_paths
from aiohttp import web
from comfy.cli_args import args
from server import PromptServer

from ..blobs.filing import is_below
from .context import current_visit

#: The user whose data ComfyUI serves where nobody signs in.
OWN_USER = "default"


class OtherUsers(Exception):
    """ComfyUI was started with ``--multi-user``, which lets everybody say who they are; leave it out."""


def folder_of(user: str) -> str | None:
    """The folder of a person's data."""
    folder: str | None = folder_paths.get_public_user_directory(user)
    return folder


def root() -> str:
    """The folder in which each person's data has a folder of its own."""
    folder: str = folder_paths.get_user_directory()
    return folder


def install() -> None:
    """Let the user manager look at whose request it is, whatever header came with it.

    Raises:
        OtherUsers: ComfyUI has users of its own.
    """
    if args.multi_user:
        raise OtherUsers("comfyume has users of its own: start ComfyUI without --multi-user.")
    manager = PromptServer.instance.user_manager
    get_request_user_filepath = manager.get_request_user_filepath

    def get_request_user_id(_request: web.Request) -> str:
        visit = current_visit.get()
        return visit.data_user if visit is not None else OWN_USER

    def get_own_filepath(request: web.Request, file: Any, *given: Any, **named: Any) -> Any:
        if isinstance(file, str) and "\0" in file.replace("%00", "\0"):
            return None
        path = get_request_user_filepath(request, file, *given, **named)
        root = folder_of(get_request_user_id(request))
        # ComfyUI compares what is written; a link in it may lead elsewhere.
        if path is None or root is None or not is_below(path, root):
            return None
        return path

    manager.get_request_user_id = get_request_user_id
    manager.get_request_user_filepath = get_own_filepath
