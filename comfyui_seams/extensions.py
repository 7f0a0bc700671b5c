"""Seam: ``nodes.EXTENSION_WEB_DIRS``, the browser files of this process's own node packs."""

from __future__ import annotations

import nodes


def own_packs() -> set[str]:
    """Names of the node packs whose browser files ComfyUI serves itself."""
    return set(nodes.EXTENSION_WEB_DIRS)
