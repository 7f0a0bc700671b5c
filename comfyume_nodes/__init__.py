"""Nodes that a person in a workshop can put in a graph."""

from __future__ import annotations

from .memory_need import ComfyumeMemoryNeed
from .testcard import ComfyumeTestCard
from .worker_name import ComfyumeWorkerName

NODE_CLASS_MAPPINGS = {
    "ComfyumeMemoryNeed": ComfyumeMemoryNeed,
    "ComfyumeTestCard": ComfyumeTestCard,
    "ComfyumeWorkerName": ComfyumeWorkerName,
}

NODE_DISPLAY_NAME_MAPPINGS = {
    "ComfyumeMemoryNeed": "Memory Need",
    "ComfyumeTestCard": "Test Card (no model)",
    "ComfyumeWorkerName": "Worker Name",
}

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
