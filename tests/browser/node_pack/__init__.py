"""Nodes that only the worker of the browser tests has."""

from __future__ import annotations

import threading
import time
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
import torch
from aiohttp import web
from PIL import Image
from server import PromptServer

_let_go = threading.Event()


@PromptServer.instance.routes.post("/browser-tests/let-go")
async def _hurry(request: web.Request) -> web.Response:
    """The slow picture that is being made takes no more time: a test goes on when it has seen what it waited for."""
    _let_go.set()
    return web.json_response({})


class SlowPicture:
    """Makes a grey picture in the given time or until it is let go; four steps and previews a second."""

    CATEGORY = "browser tests"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI asks for this name
        return {
            "required": {
                "seconds": ("FLOAT", {"default": 10.0, "min": 0.0, "max": 600.0}),
                "shade": ("INT", {"default": 128, "min": 0, "max": 255}),
            }
        }

    def make(self, seconds: float, shade: int) -> tuple[torch.Tensor]:
        _let_go.clear()
        steps = max(int(seconds * 4), 1)
        progress = comfy.utils.ProgressBar(steps)
        for step in range(steps):
            end = time.monotonic() + seconds / steps
            while time.monotonic() < end and not _let_go.is_set():
                comfy.model_management.throw_exception_if_processing_interrupted()
                time.sleep(0.02)
            preview = Image.new("RGB", (256, 256), (255 * step // steps, 120, 200))
            progress.update_absolute(step + 1, steps, ("JPEG", preview, 256))
        return (torch.full((1, 256, 256, 3), shade / 255),)


class SlowLook:
    """Hands a picture on after half a second, so that its outline is seen."""

    CATEGORY = "browser tests"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "look"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - as above
        return {"required": {"image": ("IMAGE",)}}

    def look(self, image: torch.Tensor) -> tuple[torch.Tensor]:
        time.sleep(0.5)
        return (image,)


class FailingPicture:
    """Raises an error with the given text."""

    CATEGORY = "browser tests"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - as above
        return {"required": {"text": ("STRING", {"default": "the lens is dirty"})}}

    def make(self, text: str) -> tuple[torch.Tensor]:
        raise RuntimeError(text)


class Announcement:
    """Shows a picture in its node at once: an output that is there before slow nodes have ended."""

    CATEGORY = "browser tests"
    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION = "show"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - as above
        return {"required": {"text": ("STRING", {"default": ""})}}

    @classmethod
    def IS_CHANGED(cls, text: str) -> float:  # noqa: N802 - as above
        return time.time()

    def show(self, text: str) -> dict[str, Any]:
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            "announcement", folder_paths.get_temp_directory(), 64, 64
        )
        file = f"{name}_{counter:05}_.png"
        Image.new("RGB", (64, 64), (40, 160, 90)).save(f"{folder}/{file}")
        return {"ui": {"images": [{"filename": file, "subfolder": subfolder, "type": "temp"}], "text": [text]}}


NODE_CLASS_MAPPINGS = {
    "BrowserSlowPicture": SlowPicture,
    "BrowserSlowLook": SlowLook,
    "BrowserFailingPicture": FailingPicture,
    "BrowserAnnouncement": Announcement,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "BrowserSlowPicture": "Slow Picture",
    "BrowserSlowLook": "Slow Look",
    "BrowserFailingPicture": "Failing Picture",
    "BrowserAnnouncement": "Announcement",
}
