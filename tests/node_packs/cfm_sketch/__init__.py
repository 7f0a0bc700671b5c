"""A node for a room of people: all that it sends and makes says whose it is."""
# ruff: noqa: N802 - INPUT_TYPES and the like are ComfyUI's names

from __future__ import annotations

import time

import comfy.utils
import torch
from PIL import Image
from server import PromptServer

#: A number that ComfyUI gives to none of its binary events.
BINARY_EVENT = 78


class Sketch:
    """Takes a while, with progress, previews, text and events of its own; a picture in one colour comes out.

    The colour, and the word in text and events, are given, so that they can be told from another person's.
    """

    CATEGORY = "comfyume tests"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        number = ("INT", {"default": 0, "min": 0, "max": 2**31})
        return {
            "required": {
                "word": ("STRING", {"default": ""}),
                "color": number,
                "steps": ("INT", {"default": 4}),
                "pause": ("FLOAT", {"default": 0.03}),
                "number": number,
            },
            "hidden": {"unique_id": "UNIQUE_ID"},
        }

    def run(self, word, color, steps, pause, number, unique_id):
        server = PromptServer.instance
        progress = comfy.utils.ProgressBar(steps)
        red, green, blue = color >> 16, color >> 8 & 255, color & 255
        for step in range(steps):
            preview = ("JPEG", Image.new("RGB", (128, 128), (red, green, blue)), 512)
            progress.update_absolute(step + 1, steps, preview)
            server.send_progress_text(f"{word} {step}", unique_id)
            server.send_sync("cfm.sketched", {"word": word, "step": step}, server.client_id)
            server.send_sync(BINARY_EVENT, f"{word} {step}".encode(), server.client_id)
            time.sleep(pause)
        pixel = torch.tensor([red, green, blue], dtype=torch.float32) / 255.0
        return (pixel.expand(1, 64, 64, 3).clone(),)


NODE_CLASS_MAPPINGS = {"CfmSketch": Sketch}
