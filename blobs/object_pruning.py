"""Removing old objects. Blocking."""

from __future__ import annotations

import time
from collections.abc import Collection

from .object_store import ObjectStore


def prune(
    objects: ObjectStore,
    prefix: str,
    *,
    older_than: float,
    most_bytes: int | None = None,
    keep: Collection[str] = (),
) -> int:
    """Remove what was written more than ``older_than`` seconds ago, then the oldest until the rest is small enough.

    Args:
        most_bytes: that may remain; None for no limit.
        keep: keys that stay whatever their age. They count, but are not removed.

    Returns:
        How many bytes were removed.
    """
    now = time.time()
    found = sorted(objects.listing(prefix), key=lambda each: each.written)
    total = sum(each.size for each in found)
    removed = 0
    for each in found:
        is_old = now - each.written > older_than
        is_too_much = most_bytes is not None and total - removed > most_bytes
        if (is_old or is_too_much) and each.key not in keep:
            objects.delete(each.key)
            removed += each.size
    return removed
