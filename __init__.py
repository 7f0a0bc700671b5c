"""comfyume: ComfyUI shared by a room of people, with its GPUs elsewhere.

ComfyUI loads this file from ``custom_nodes``. It mounts the role that the settings choose, and ends the process with a
sentence when that fails: a frontend that only half loaded would execute prompts itself.
"""

from __future__ import annotations

import os
import sys

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]

#: Folder of the scripts for browsers; none where no person works.
WEB_DIRECTORY: str | None = None
NODE_CLASS_MAPPINGS: dict[str, type] = {}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {}


def _loaded_by_comfyui() -> bool:
    """Whether this is ComfyUI's process: its server exists before custom nodes load. Tests and commands have none."""
    return getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None) is not None


def _end(reason: object) -> None:
    """End the process: ComfyUI catches every error of an extension and goes on without it, but not this."""
    mode = os.environ.get("COMFYUME_MODE") or "standalone"
    sys.stderr.flush()
    raise SystemExit(f"\n[comfyume] ComfyUI was not started as {mode}: {reason}\n")


if _loaded_by_comfyui():
    try:
        from .comfyume_nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
        from .roles import mount

        if mount():
            WEB_DIRECTORY = "./web/js"
    except Exception as _error:  # noqa: BLE001 - whatever it is, ComfyUI must not go on as if nothing had happened
        import traceback

        if type(_error).__module__.startswith(__name__):
            _end(_error)
        traceback.print_exc()
        _end(f"{type(_error).__name__}: {_error}")
