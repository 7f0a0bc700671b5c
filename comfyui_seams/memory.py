"""Seam: ``comfy.model_management``, which knows what of a GPU's memory ComfyUI holds and can give back."""

from __future__ import annotations

import gc
import logging
from functools import cache
from typing import Any

import comfy.model_management as management
import torch

from .answers import Memory

log = logging.getLogger("comfyume")

_nvml_handles: dict[int, Any] = {}
#: The models that the running prompt uses, by the id of each.
_used: set[int] = set()


def look() -> Memory:
    """The device's memory: by NVIDIA's driver where there is one, else by ComfyUI's own figures."""
    device = management.get_torch_device()
    total = int(management.get_total_memory(device))
    free, torch_free = (int(value) for value in management.get_free_memory(device, torch_free_too=True))
    reclaimable = sum(size for _, size in _loaded_here(device))
    seen = _ask_driver(device)
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


def _ask_driver(device: torch.device) -> tuple[int, int] | None:
    """Total and free bytes of a CUDA device, whoever uses it; None without an NVIDIA driver."""
    if device.type != "cuda" or torch.version.cuda is None:
        return None
    index = device.index or 0
    try:
        import pynvml  # noqa: PLC0415 - a machine without NVIDIA's driver needs none of it

        if index not in _nvml_handles:
            pynvml.nvmlInit()
            # The order in which the driver counts is not torch's when CUDA_VISIBLE_DEVICES is set.
            uuid = f"GPU-{torch.cuda.get_device_properties(index).uuid}"
            _nvml_handles[index] = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        memory = pynvml.nvmlDeviceGetMemoryInfo(_nvml_handles[index])
    except (ImportError, AttributeError, pynvml.NVMLError) as error:
        log.debug("NVML does not tell: %s", error)
        return None
    return int(memory.total), int(memory.free)


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
