"""What somebody may post as a prompt: no more than can be read without holding up everybody else.

Python reads and writes JSON in one piece, during which nothing else runs, not even in other threads. So what takes long
is refused before it is read: a body of too many bytes, or with too many values, of which counting bytes tells enough.
"""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from ..comfyui_seams.answers import Verdict
from .native_shapes import error_body

#: Bytes of a body. A workflow has some 100 kB; pictures belong in the input folder.
MOST_BYTES = 4 * 1024 * 1024
#: Bytes above which a body is large: what is done with it takes longer than a change of thread.
LARGE = 64 * 1024
#: Bytes of any other body that is read in one piece.
MOST_SMALL_BYTES = 512 * 1024
#: Bytes of a body that says a few things: a sign-in, or a change of limits.
MOST_BYTES_OF_A_FORM = 16 * 1024
#: Jobs that one body may name, and bytes of such a body: ids of 64 characters, and what stands between them.
MOST_IDS = 2_000
MOST_BYTES_OF_IDS = 160 * 1024
#: Values in a body, by the commas and brackets in it: the workflow and the graph of about 1,500 nodes.
MOST_VALUES = 120_000
#: Nodes of a graph, and how many of them are checked without a change of thread.
MOST_NODES = 5_000
FEW_NODES = 200


class PromptRefused(Exception):
    """What was posted is no prompt, or too large to be one or whatever else it should be."""

    def __init__(self, status: int, kind: str, message: str, details: str = "") -> None:
        super().__init__(message)
        self._status = status
        self._body = error_body(kind, message, details)

    def answer(self) -> web.Response:
        """ComfyUI's answer to a prompt that it does not take."""
        return web.json_response(self._body, status=self._status)


async def check_size(request: web.Request) -> bool:
    """Look at a body before it is read.

    Returns:
        Whether it is large.

    Raises:
        PromptRefused: it is too large.
    """
    if (request.content_length or 0) > MOST_BYTES:
        raise _too_large()
    body = await request.read()
    if len(body) > MOST_BYTES:
        raise _too_large()
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > MOST_VALUES:
        message = f"A prompt and its workflow may have {MOST_VALUES:,} values here, and this has more."
        raise PromptRefused(413, "prompt_too_large", message)
    return len(body) > LARGE


def check_small(request: web.Request) -> None:
    """Look at a body that is no prompt before it is read.

    Raises:
        PromptRefused: it is too large, or does not say how large it is.
    """
    if not request.can_read_body:
        return
    if request.content_length is None:
        raise PromptRefused(411, "length_required", "Say how long the body is: send a Content-Length.")
    if request.content_length > MOST_SMALL_BYTES:
        message = f"This may have {MOST_SMALL_BYTES // 1024} KiB here, and it is larger."
        raise PromptRefused(413, "body_too_large", message)


def is_small_json(request: web.Request) -> bool:
    """Whether a body is JSON that may say a few things."""
    length = request.content_length
    return length is not None and length <= MOST_BYTES_OF_A_FORM and request.content_type == "application/json"


def _too_large() -> PromptRefused:
    message = f"A prompt and its workflow may have {MOST_BYTES // 1024**2} MiB here, and this is larger."
    return PromptRefused(413, "prompt_too_large", message, "Upload pictures instead of writing them into the workflow.")


def no_prompt(error: Exception) -> PromptRefused:
    """What to answer when reading a body came to an error; ComfyUI looks at bodies without checking them."""
    return PromptRefused(400, "invalid_prompt", "This is no prompt that can be read.", _told(error))


def _told(error: Exception) -> str:
    return "It is nested too deep." if isinstance(error, RecursionError) else f"{type(error).__name__}: {error}"[:500]


def too_many_nodes(prompt: dict[str, Any]) -> dict[str, Any] | None:
    """ComfyUI's error for a graph with more nodes than can be checked; None for any other."""
    if len(prompt) <= MOST_NODES:
        return None
    message = f"A prompt may have {MOST_NODES:,} nodes here, and this has {len(prompt):,}."
    error: dict[str, Any] = error_body("too_many_nodes", message)["error"]
    return error


def readable(verdict: Verdict) -> Verdict:
    """A verdict that every browser reads: ComfyUI repeats a NaN that it was given, which is no JSON."""
    if verdict.valid and not verdict.node_errors:
        return verdict
    try:
        json.dumps([verdict.error, verdict.node_errors], allow_nan=False)
    except ValueError:
        error, node_errors = json.loads(json.dumps([verdict.error, verdict.node_errors]), parse_constant=str)
        return Verdict(verdict.valid, error, verdict.outputs, node_errors)
    return verdict
