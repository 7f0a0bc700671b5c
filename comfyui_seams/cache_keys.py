"""Seam: by what ComfyUI's cache knows the result of a node, so that nobody is answered with another person's file.

Everything upstream stays shared: only a node that writes files for people has a result for each of them, and only a
node that names a file of a job has one for each content of that file.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any

import nodes
from comfy_execution.caching import CacheKeySetInputSignature

from .context import job_marks

_signature_by_inputs = CacheKeySetInputSignature.get_immediate_node_signature


async def _signature(self: Any, dynprompt: Any, node_id: str, *given: Any) -> list[Any]:
    signature: list[Any] = await _signature_by_inputs(self, dynprompt, node_id, *given)
    marks = job_marks.get()
    if marks is None or not dynprompt.has_node(node_id):
        return signature
    node = dynprompt.get_node(node_id)
    kind = nodes.NODE_CLASS_MAPPINGS[node["class_type"]]
    if getattr(kind, "OUTPUT_NODE", False) or getattr(kind, "HAS_INTERMEDIATE_OUTPUT", False):
        signature.append(("comfyume: for", marks.user))
    if marks.files:
        named = {posixpath.normpath(text) for text in _strings(node["inputs"])} & marks.files.keys()
        signature += [("comfyume: content of", name, marks.files[name]) for name in sorted(named)]
    return signature


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def install() -> None:
    """Let the cache look at whose job it is."""
    CacheKeySetInputSignature.get_immediate_node_signature = _signature
