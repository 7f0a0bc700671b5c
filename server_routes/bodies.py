"""Small JSON bodies of requests, parsed at the edge."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import BaseModel, ValidationError

from ..accounts.errors import UserUnknown
from .problems import problem
from .prompt_limits import is_small_json

Model = TypeVar("Model", bound=BaseModel)


class BodyRefused(Exception):
    """The body of a request is not what was asked for; the message says what is wrong."""


async def body_of(request: web.Request, model: type[Model]) -> Model:
    """A request's body.

    Raises:
        BodyRefused: it is none of this kind.
    """
    if not is_small_json(request):
        raise BodyRefused("Send a small body as application/json.")
    try:
        return model.model_validate_json(await request.read())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][:1])
        raise BodyRefused(f"{place}: {first['msg']}".lstrip(": ")) from error


def changes_in(body: BaseModel) -> dict[str, Any]:
    """What a body names, without what it leaves alone."""
    return body.model_dump(include=body.model_fields_set)


def guarded(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Handler:
    """Say as a problem what a handler comes to."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except BodyRefused as error:
            return problem(400, "invalid-request", str(error))
        except UserUnknown as error:
            return problem(404, "user-unknown", str(error))

    return answer
