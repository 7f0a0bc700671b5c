"""What NVIDIA's driver tells of a CUDA device, whoever uses it; nothing where there is none."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import torch

log = logging.getLogger("comfyume")

T = TypeVar("T")

_handles: dict[int, Any] = {}


def memory(device: torch.device) -> tuple[int, int] | None:
    """Total and free bytes."""

    def ask(pynvml: Any, handle: Any) -> tuple[int, int]:
        told = pynvml.nvmlDeviceGetMemoryInfo(handle)
        return int(told.total), int(told.free)

    return _ask(device, ask)


def activity(device: torch.device) -> tuple[int, int] | None:
    """In percent for how much of the last moment it was busy, and its temperature in degrees Celsius."""

    def ask(pynvml: Any, handle: Any) -> tuple[int, int]:
        use = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu
        return int(use), int(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))

    return _ask(device, ask)


def _ask(device: torch.device, question: Callable[[Any, Any], T]) -> T | None:
    if device.type != "cuda" or torch.version.cuda is None:
        return None
    import pynvml  # noqa: PLC0415 - a machine without NVIDIA's driver needs none of it

    index = device.index or 0
    try:
        if index not in _handles:
            pynvml.nvmlInit()
            # The order in which the driver counts is not torch's when CUDA_VISIBLE_DEVICES is set.
            uuid = f"GPU-{torch.cuda.get_device_properties(index).uuid}"
            _handles[index] = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        return question(pynvml, _handles[index])
    except (AttributeError, pynvml.NVMLError) as error:
        log.debug("NVML does not tell: %s", error)
        return None
