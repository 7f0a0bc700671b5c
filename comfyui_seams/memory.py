"""Seam: ``comfy.model_management``, which knows what of a GPU's memory ComfyUI holds and can give back."""

from __future__ import annotations

import gc
from functools import cache
from typing import Any

import comfy.model_management as management
import torch

from . import driver
from .answers import Memory

#: Bytes by which people are told of memory.
GRAIN = 32 * 1024**2
#: The models that the running prompt uses, by the id of each.
_used: set[int] = set()


def look() -> Memory:
    """The device's memory: by NVIDIA's driver where there is one, else by ComfyUI's own figures."""
    device = management.get_torch_device()
    total = int(management.get_total_memory(device))
    free, torch_free = (int(value) for value in management.get_free_memory(device, torch_free_too=True))
    reclaimable = sum(size for _, size in _loaded_here(device))
    seen = driver.memory(device)
    if seen is None:
        return Memory(total, free, reclaimable, f"ComfyUI ({device})")
    # What torch keeps for its next allocation is in use for the driver.
    return Memory(seen[0], seen[1] + torch_free, reclaimable, "NVML")


def _loaded_here(device: torch.device) -> list[tuple[int, int]]:
    """The models that are kept on a device: the id of each and its bytes there."""
    return [
        (id(loaded.model.model), int(loaded.model_loaded_memory()))
        for loaded in list(management.current_loaded_models)
        if loaded.model is not None and loaded.device == device
    ]


def measure() -> dict[str, Any]:
    """What the device that prompts run on does now; see ``Engine.measure``."""
    device = management.get_torch_device()
    seen = look()
    use, temperature = driver.activity(device) or (None, None)
    told = {
        "name": management.get_torch_device_name(device),
        "vram_total": seen.total,
        # To the nearest few megabytes, so that not every breath is news.
        "vram_free": seen.free // GRAIN * GRAIN,
        "use": use,
        "temperature": temperature,
    }
    kept = list(management.current_loaded_models)
    loaded = {type(each.model.model).__name__ for each in kept if each.model is not None and each.device == device}
    return {"devices": [told], "loaded": sorted(loaded)}


def unload() -> None:
    """Give back every model that is kept, and what torch keeps for later."""
    management.unload_all_models()
    gc.collect()
    management.soft_empty_cache()


def install() -> None:
    """Note which models prompts use."""
    load_models_gpu = management.load_models_gpu

    def load_and_note(models: Any, *arguments: Any, **options: Any) -> Any:
        models = list(models)
        _used.update(id(patcher.model) for patcher in models if hasattr(patcher, "model"))
        return load_models_gpu(models, *arguments, **options)

    management.load_models_gpu = load_and_note


@cache
def _cuda_device() -> torch.device | None:
    """The device that prompts run on, if it is one of CUDA's; it never changes."""
    device: torch.device = management.get_torch_device()
    return device if device.type == "cuda" else None


def begin_measuring() -> None:
    """A prompt begins: forget the last one's peak and models."""
    _used.clear()
    device = _cuda_device()
    if device is not None:
        torch.cuda.reset_peak_memory_stats(device)


def peak() -> int | None:
    """The most bytes that the prompt held, without the models that it did not use; None without CUDA."""
    device = _cuda_device()
    if device is None:
        return None
    unused = sum(size for model, size in _loaded_here(device) if model not in _used)
    return max(int(torch.cuda.max_memory_allocated(device)) - unused, 0)
