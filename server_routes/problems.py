"""Errors of the routes below ``/comfyume/``: RFC 9457 problem details."""

from __future__ import annotations

import json
import math
from http import HTTPStatus
from typing import Any

from aiohttp import web

from .native_shapes import error_answer

#: What a problem's type begins with; the rest is a word for programs.
PREFIX = "urn:comfyume:"
OURS = "/comfyume/"


def problem(status: int, kind: str, detail: str, *, retry_after: float | None = None, **more: Any) -> web.Response:
    """An answer that is an error.

    Args:
        kind: a word for programs, with hyphens.
        detail: a sentence for people, which says what to do.
        retry_after: seconds until the same request may be sent again.
        more: further members, for programs.
    """
    body = {"type": f"{PREFIX}{kind}", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}
    headers = {} if retry_after is None else {"Retry-After": str(math.ceil(retry_after))}
    return web.Response(
        body=json.dumps(body).encode(), status=status, headers=headers, content_type="application/problem+json"
    )


def refusal(
    request: web.Request, status: int, kind: str, message: str, details: str = "", *, retry_after: float | None = None
) -> web.Response:
    """An error of any route: in ComfyUI's shape at its addresses, a problem at ours. ``kind`` has underscores."""
    if request.path.startswith(OURS):
        more = {"reason": details} if details else {}
        return problem(status, kind.replace("_", "-"), message, retry_after=retry_after, **more)
    return error_answer(status, kind, message, details, retry_after=retry_after)
