"""A node that takes a given time, for comparisons in which the work itself should weigh the same."""

from __future__ import annotations

import time


class BenchmarkSleep:
    """Passes a picture on after some seconds."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "sleep"
    CATEGORY = "benchmark"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802 - ComfyUI's name
        """A picture and the seconds to wait."""
        return {"required": {"image": ("IMAGE",), "seconds": ("FLOAT", {"default": 2.0, "min": 0.0, "max": 60.0})}}

    def sleep(self, image, seconds):
        """Wait, then hand on."""
        time.sleep(seconds)
        return (image,)


NODE_CLASS_MAPPINGS = {"BenchmarkSleep": BenchmarkSleep}
