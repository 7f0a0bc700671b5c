"""What a graph tells of the GPU memory that it takes, before anything of its kind has run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from ..job_queue.jobs import GIB, MemoryNeed

#: The node by which a person states what a graph takes.
STATING_NODE = "ComfyumeMemoryNeed"
#: Inputs whose numbers decide how much memory a run takes, by a part of their names.
SIZE_NAMES = re.compile(r"width|height|length|frames|batch|size|duration|seconds|resolution|megapixels|scale|upscale")
#: An estimate is the largest model with so much beside it: ComfyUI moves models out of the way of each other.
SHARE_BESIDE = 1.1


def memory_need(prompt: Mapping[str, Any], model_sizes: Iterable[int]) -> MemoryNeed:
    """What a checked graph tells.

    Args:
        model_sizes: bytes of each model file that it names.
    """
    largest = max(model_sizes, default=0)
    estimate = int(largest * SHARE_BESIDE) if largest else None
    return MemoryNeed(_stated(prompt), estimate, _sizes(prompt))


def _stated(prompt: Mapping[str, Any]) -> int | None:
    values = [node.get("inputs", {}).get("gib") for node in prompt.values() if node.get("class_type") == STATING_NODE]
    numbers = [float(value) for value in values if isinstance(value, (int, float)) and value > 0]
    return int(max(numbers) * GIB) if numbers else None


def _sizes(prompt: Mapping[str, Any]) -> str:
    """The sizes in a graph, each rounded up by a quarter at most, so that similar graphs are of one kind."""
    found = set()
    for node in prompt.values():
        inputs = node.get("inputs")
        for name, value in inputs.items() if isinstance(inputs, dict) else ():
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if is_number and 0 < value < 10**9 and _is_size(name):
                found.add(f"{node.get('class_type')}.{name}={_rounded_up(float(value)):g}")
    return " ".join(sorted(found))


@lru_cache(maxsize=1_000)
def _is_size(name: str) -> bool:
    return SIZE_NAMES.search(name) is not None


@lru_cache(maxsize=1_000)
def _rounded_up(value: float) -> float:
    """The next of 4, 5, 6 and 7 times a power of two: 1024, 1280, 1536, 1792, 2048."""
    step = 1.0
    while value > step * 8:
        step *= 2
    while value <= step * 4:
        step /= 2
    return -(-value // step) * step
