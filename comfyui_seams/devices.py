"""Seam: what ComfyUI knows of the machine it runs on."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfyui_version


def describe() -> dict[str, Any]:
    """ComfyUI's version and the device that prompts run on; memory in bytes."""
    management = comfy.model_management
    device = management.get_torch_device()
    total, torch_total = management.get_total_memory(device, torch_total_too=True)
    free, torch_free = management.get_free_memory(device, torch_free_too=True)
    return {
        "comfyui": comfyui_version.__version__,
        "devices": [
            {
                "name": management.get_torch_device_name(device),
                "type": device.type,
                "index": device.index,
                "vram_total": total,
                "vram_free": free,
                "torch_vram_total": torch_total,
                "torch_vram_free": torch_free,
            }
        ],
    }
