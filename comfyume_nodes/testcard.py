"""A node that makes a picture without any model, and behaves like a sampler while it does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from .testcard_drawing import draw_card, unfinished

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

MAX_SEED = 0xFFFFFFFFFFFFFFFF
#: Longest sleep in seconds between two looks at whether the person pressed Cancel.
SLEEP_SLICE = 0.02


class ComfyumeTestCard:
    """Makes a television test card in the time, with the progress and with the previews of a real sampler."""

    CATEGORY = "comfyume"
    DESCRIPTION = (
        "Makes a test picture without any model, so that you can try the queue, the previews and the Cancel button. "
        "It gets sharper from step to step like a picture that is being sampled. Each seed gives its own colours."
    )
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_TOOLTIPS = ("The finished test cards, one for each picture of the batch.",)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI asks for this name
        """Declare the inputs to ComfyUI."""
        size = {"min": 64, "max": 4096, "step": 8}
        return {
            "required": {
                "width": ("INT", {"default": 768, **size, "tooltip": "Width of the picture in pixels."}),
                "height": ("INT", {"default": 512, **size, "tooltip": "Height of the picture in pixels."}),
                "batch_size": (
                    "INT",
                    {
                        "default": 1,
                        "min": 1,
                        "max": 16,
                        "tooltip": "How many pictures; each next one takes the next seed.",
                    },
                ),
                "seed": (
                    "INT",
                    {
                        "default": 0,
                        "min": 0,
                        "max": MAX_SEED,
                        "control_after_generate": True,
                        "tooltip": "Picks the colours and the pattern. The same seed gives the same picture.",
                    },
                ),
                "steps": (
                    "INT",
                    {
                        "default": 20,
                        "min": 1,
                        "max": 1000,
                        "tooltip": "Steps until the picture is sharp. The finished picture is always the same.",
                    },
                ),
                "seconds_per_step": (
                    "FLOAT",
                    {
                        "default": 0.2,
                        "min": 0.0,
                        "max": 60.0,
                        "step": 0.01,
                        "tooltip": "How long each step takes, to imitate a fast or a slow model.",
                    },
                ),
                "label": (
                    "STRING",
                    {"default": "comfyume", "tooltip": "Text on the picture, such as your name; Latin letters only."},
                ),
            }
        }

    def make(
        self,
        width: int,
        height: int,
        batch_size: int,
        seed: int,
        steps: int,
        seconds_per_step: float,
        label: str,
    ) -> tuple[torch.Tensor]:
        """Draw the cards, then wait out the steps with a sharper preview after each.

        Returns:
            One tensor [batch, height, width, 3], float32 from 0 to 1, as ComfyUI's IMAGE.
        """
        # Only ComfyUI itself has these modules; the rest of the package is importable without them.
        import comfy.utils  # noqa: PLC0415
        import torch  # noqa: PLC0415
        from comfy.model_management import throw_exception_if_processing_interrupted  # noqa: PLC0415
        from latent_preview import MAX_PREVIEW_RESOLUTION  # noqa: PLC0415

        cards = []
        for index in range(batch_size):
            throw_exception_if_processing_interrupted()
            cards.append(draw_card(width, height, (seed + index) & MAX_SEED, label))

        thumbnail = cards[0].copy()
        thumbnail.thumbnail((MAX_PREVIEW_RESOLUTION, MAX_PREVIEW_RESOLUTION))
        progress = comfy.utils.ProgressBar(steps)
        deadline = time.monotonic()
        for step in range(1, steps + 1):
            deadline += seconds_per_step
            sleep_until(deadline, throw_exception_if_processing_interrupted)
            preview = unfinished(thumbnail, step / steps, seed)
            progress.update_absolute(step, steps, ("JPEG", preview, MAX_PREVIEW_RESOLUTION))

        pictures = torch.empty((batch_size, height, width, 3), dtype=torch.float32)
        for index, card in enumerate(cards):
            throw_exception_if_processing_interrupted()
            pictures[index] = torch.from_numpy(np.array(card)).to(torch.float32).div_(255)
        return (pictures,)


def sleep_until(deadline: float, raise_if_interrupted: Callable[[], None]) -> None:
    """Sleep until ``time.monotonic()`` reaches the deadline; look for an interrupt at least once, and every 20 ms."""
    raise_if_interrupted()
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(left, SLEEP_SLICE))
        raise_if_interrupted()
