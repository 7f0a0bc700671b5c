"""A node that says which machine ran the graph."""

from __future__ import annotations

import os
from typing import Any

from ..settings import default_worker_id


class ComfyumeWorkerName:
    """Gives the name of the worker that runs the graph, and shows it on the node."""

    CATEGORY = "comfyume"
    DESCRIPTION = (
        "Tells which of the shared GPU machines ran your graph. "
        "The name appears on the node when it has run; connect the output where you want the name as text."
    )
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("worker_name",)
    OUTPUT_TOOLTIPS = ("Name of the machine that ran the graph.",)
    OUTPUT_NODE = True
    FUNCTION = "tell"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI asks for this name
        """Declare the inputs to ComfyUI: only the node's own id, which ComfyUI fills in."""
        return {"required": {}, "hidden": {"unique_id": "UNIQUE_ID"}}

    @classmethod
    def IS_CHANGED(cls, **_inputs: Any) -> float:  # noqa: N802 - ComfyUI asks for this name
        """Never equal to itself: the next run may be on another machine, so the answer is never taken from cache."""
        return float("nan")

    def tell(self, unique_id: str) -> dict[str, Any]:
        """Return the worker's name as ComfyUI's result of an output node."""
        # Only ComfyUI itself has this module; the rest of the package is importable without it.
        from server import PromptServer  # noqa: PLC0415

        name = os.environ.get("COMFYUME_WORKER_ID") or default_worker_id(os.environ)
        server = PromptServer.instance
        # The interface draws `ui.text` only on its own text node, a progress text on any. Without a client id the text
        # would go to every browser of the room.
        if server.client_id is not None:
            server.send_progress_text(name, unique_id, server.client_id)
        return {"ui": {"text": (name,)}, "result": (name,)}
