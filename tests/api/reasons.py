"""Why a frontend answers otherwise than a plain ComfyUI: each reason that is meant. What has none is a finding."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote

from comfyume.server_routes.access import Who, who_may

from .exchanges import Exchange

#: What a form on a page of another site may send without asking first.
SIMPLE_TYPES = ("text/plain", "application/x-www-form-urlencoded")
#: What no address of a file may have in it, once it is decoded.
NOT_PLAIN = re.compile(r"[\0\\]|//|(?:^|/)\.\.?(?:/|$)")
#: Files by the content of all people's.
BY_CONTENT = re.compile(r"(?:/api)?/(?:assets|tags)(?:/.*)?", re.DOTALL)
#: Why a file of a person's may be on one of the two alone.
FOLLOWS = "names a file that one of the requests above made, moved or deleted on one of the two alone"


@dataclass(frozen=True)
class Reason:
    """A reason, in words, and whether it holds for a request."""

    words: str
    holds: Callable[[Exchange], bool]


def reason_of(it: Exchange) -> str | None:
    """The first reason that holds for a request; None if there is none."""
    return next((reason.words for reason in REASONS if reason.holds(it)), None)


def userdata_of(it: Exchange) -> set[str]:
    """The files of a person's that a request names in its address."""
    found = re.fullmatch(r"(?:/api)?/userdata/([^/]+)(?:/move/([^/]+))?", it.target.partition("?")[0])
    return {unquote(name) for name in found.groups() if name} if found else set()


def _status(it: Exchange) -> int | None:
    return it.answers["frontend"].status


def _why(it: Exchange) -> str:
    return it.answers["frontend"].why()


def _path(it: Exchange) -> str:
    return unquote(it.target.partition("?")[0])


def _who(it: Exchange) -> Who | None:
    return who_may(it.method, _path(it))


def _content_type(it: Exchange) -> str:
    found = re.search(rb"(?im)^content-type:\s*([^;\r\n]*)", it.head)
    # As aiohttp has it, which is what decides.
    return found[1].decode("latin-1").strip().lower() if found else "application/octet-stream"


def _is_refused(it: Exchange) -> bool:
    # An answer to HEAD has no body that says why.
    return _status(it) == 403 and (_why(it) == "not_allowed" or it.method == "HEAD")


REASONS = (
    Reason(
        "is for the instructor",
        lambda it: _is_refused(it) and _who(it) is Who.INSTRUCTOR,
    ),
    Reason(
        "would open files by their content, whosever they are",
        lambda it: _is_refused(it) and _who(it) is None and BY_CONTENT.fullmatch(_path(it)) is not None,
    ),
    Reason(
        "has a line break in its address, which the table of routes does not expect",
        lambda it: _is_refused(it) and _who(it) is None and "\n" in _path(it),
    ),
    Reason(
        "nobody has said who may use the method or the address",
        lambda it: _is_refused(it) and _who(it) is None,
    ),
    Reason(
        "has a content type that a form on another site can send",
        lambda it: _is_refused(it) and bool(it.body) and _content_type(it) in SIMPLE_TYPES,
    ),
    Reason(
        "is no prompt that can be read, over which ComfyUI stumbles",
        lambda it: _status(it) == 400 and _why(it) == "invalid_prompt" and it.answers["vanilla"].status == 500,
    ),
    Reason(
        "has the id of another prompt, which a plain ComfyUI takes twice",
        lambda it: _status(it) == 409 and _why(it) == "prompt_id_taken",
    ),
    Reason(
        "has a backslash, a NUL or an empty part in its address",
        lambda it: _status(it) == 404 and NOT_PLAIN.search(_path(it)) is not None,
    ),
)
