"""A node by which a person says how much GPU memory a graph takes."""

from __future__ import annotations

from typing import Any


class ComfyumeMemoryNeed:
    """States a graph's need of GPU memory; what goes in comes out."""

    CATEGORY = "comfyume"
    DESCRIPTION = (
        "Says how many GiB of GPU memory this graph takes, so that it waits for a GPU that has them. Without it the "
        "need is learned from earlier runs. Put it between any two nodes; it changes nothing."
    )
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_TOOLTIPS = ("The same pictures.",)
    FUNCTION = "state"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI asks for this name
        """Declare the inputs to ComfyUI."""
        options = {"default": 24.0, "min": 0.0, "max": 1024.0, "step": 0.5}
        tooltip = "GiB of GPU memory that this graph takes; 0 to have it learned."
        return {
            "required": {
                "images": ("IMAGE", {"tooltip": "Pictures on their way."}),
                "gib": ("FLOAT", {**options, "tooltip": tooltip}),
            }
        }

    def state(self, images: Any, gib: float) -> tuple[Any]:
        """Hand on what came in."""
        return (images,)
