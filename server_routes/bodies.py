"""Small JSON bodies of requests, parsed at the edge."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import BaseModel, ValidationError

from ..accounts.errors import UserUnknown
from .problems import problem
from .prompt_limits import MOST_BYTES_OF_A_FORM

Model = TypeVar("Model", bound=BaseModel)


class BodyRefused(Exception):
    """The body of a request is not what was asked for; the message says what is wrong."""


class BodyTooLarge(Exception):
    """The body of a request is larger than ``most`` bytes, and was not read."""

    def __init__(self, most: int) -> None:
        super().__init__(f"This may have {most // 1024} KiB here, and it is larger. Send it in parts.")


async def body_of(request: web.Request, model: type[Model], most: int = MOST_BYTES_OF_A_FORM) -> Model:
    """A request's body, of so many bytes at most.

    Raises:
        BodyRefused: it is none of this kind.
        BodyTooLarge: it has more bytes.
    """
    if request.content_type != "application/json":
        raise BodyRefused("Send this as application/json.")
    if request.content_length is None:
        raise BodyRefused("Say how long the body is: send a Content-Length.")
    if request.content_length > most:
        raise BodyTooLarge(most)
    try:
        return model.model_validate_json(await request.read())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][:1])
        raise BodyRefused(f"{place}: {first['msg']}.".lstrip(": ")) from error


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
        except BodyTooLarge as error:
            return problem(413, "body-too-large", str(error))
        except UserUnknown as error:
            return problem(404, "user-unknown", str(error))

    return answer
