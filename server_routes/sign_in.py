"""``/comfyume/sign-in`` and its page, ``/comfyume/sign-out``, and ``/comfyume/me``: who this browser is."""

from __future__ import annotations

import logging
from pathlib import Path

from aiohttp import web
from pydantic import BaseModel, ValidationError

from ..accounts.activity import ActivityLog
from ..accounts.errors import Busy, SignInFailed, TooManyFailures, UserUnknown
from ..accounts.sessions import Session
from ..accounts.sign_in import WRONG
from ..accounts.users import User
from ..comfyui_seams import server
from ..job_queue.errors import QueueError
from .gate import PERSON, SIGN_IN
from .identity import Identity, Person
from .native_shapes import STORE_AWAY
from .problems import problem
from .prompt_limits import is_small_json

log = logging.getLogger("comfyume")

FOLDER = Path(__file__).parent.parent / "web" / "sign_in"
#: The files of the page: there are no others.
PAGE_FILES = {"page.css": "text/css", "page.mjs": "text/javascript"}
#: How long a browser keeps the cookie; how long it signs in is decided here.
COOKIE_SECONDS = 30 * 24 * 3600


class Credentials(BaseModel):
    """What a browser sends to sign in."""

    user: str
    password: str


class SignInRoutes:
    """Signs people in and out."""

    def __init__(self, identity: Identity, activity: ActivityLog) -> None:
        self._identity = identity
        self._activity = activity
        self._last_user_cookie = f"{identity.cookie}_last"

    def mount(self) -> None:
        """Add the routes."""
        server.add_route("GET", SIGN_IN, self.page)
        server.add_route("GET", f"{SIGN_IN}/{{file}}", self.page_file)
        server.add_route("POST", SIGN_IN, self.sign_in)
        server.add_route("POST", "/comfyume/sign-out", self.sign_out)
        server.add_route("POST", "/comfyume/sign-out/everywhere", self.sign_out_everywhere)
        server.add_route("GET", "/comfyume/me", self.me)

    async def page(self, _request: web.Request) -> web.StreamResponse:
        """The page with the form."""
        return web.FileResponse(FOLDER / "index.html", headers={"Cache-Control": "no-store"})

    async def page_file(self, request: web.Request) -> web.StreamResponse:
        """A file of that page."""
        name = request.match_info["file"]
        if name not in PAGE_FILES:
            raise web.HTTPNotFound
        return web.FileResponse(FOLDER / name, headers={"Content-Type": PAGE_FILES[name], "Cache-Control": "no-cache"})

    async def sign_in(self, request: web.Request) -> web.StreamResponse:
        """Check ``{"user", "password"}`` and begin a session; 401 if they are wrong, 429 after too many that were."""
        if not is_small_json(request):
            return problem(400, "invalid-sign-in", "Send a name and a password as JSON.")
        try:
            given = Credentials.model_validate_json(await request.read())
        except ValidationError:
            return problem(400, "invalid-sign-in", 'Send {"user": NAME, "password": PASSWORD}.')
        address = self._identity.address_of(request)
        try:
            user = await self._identity.sign_in.check(given.user, given.password, address)
            token = await self._begin(user, _label(request, address))
            await self._end_former(request)
        except (SignInFailed, UserUnknown) as error:
            return problem(401, "sign-in-failed", str(error))
        except Busy as error:
            return problem(429, "busy", str(error))
        except TooManyFailures as error:
            return problem(429, "too-many-failures", str(error), retry_after=error.seconds)
        except QueueError as error:
            log.warning("[comfyume] nobody can sign in: %s", error)
            return problem(503, "store-unavailable", STORE_AWAY)
        # A tab of this browser may still hold the last person's work.
        former = request.cookies.get(self._last_user_cookie)
        response = web.json_response({"user": user.name, "role": user.role, "former_user": former})
        is_secure = self._identity.is_secure(request)
        for cookie, value in ((self._identity.cookie, token), (self._last_user_cookie, user.name)):
            response.set_cookie(
                cookie, value, max_age=COOKIE_SECONDS, path="/", httponly=True, secure=is_secure, samesite="Lax"
            )
        return response

    async def _begin(self, user: User, label: str) -> str:
        token = await self._identity.sessions.begin(user.name, label)
        # The password may have been changed while it was looked at: then the sessions of the old one have ended before.
        if (await self._identity.users.get(user.name)).password != user.password:
            await self._identity.sessions.end_of(token)
            raise SignInFailed(WRONG)
        return token

    async def _end_former(self, request: web.Request) -> Session | None:
        """End the session that this browser had, and return it: it forgets it now."""
        token = request.cookies.get(self._identity.cookie)
        return await self._identity.sessions.end_of(token) if token else None

    async def sign_out(self, request: web.Request) -> web.StreamResponse:
        """End this browser's session."""
        try:
            session = await self._end_former(request)
        except QueueError:
            return problem(503, "store-unavailable", STORE_AWAY)
        if session is not None:
            self._activity.note(session.user, "sign-out")
        self._identity.refresh()
        return self._signed_out()

    async def sign_out_everywhere(self, request: web.Request) -> web.StreamResponse:
        """End all sessions and tokens of this user."""
        person: Person = request[PERSON]
        try:
            await self._identity.sessions.end_all(person.name)
            self._activity.note(person.name, "sign-out everywhere")
        except QueueError:
            return problem(503, "store-unavailable", STORE_AWAY)
        self._identity.refresh()
        return self._signed_out()

    def _signed_out(self) -> web.Response:
        response = web.json_response({})
        response.del_cookie(self._identity.cookie, path="/")
        return response

    async def me(self, request: web.Request) -> web.StreamResponse:
        """Who sends this: ``user``, ``role``, and whether they ``can_sign_out``."""
        person: Person = request[PERSON]
        role = "instructor" if person.is_instructor else "participant"
        return web.json_response({"user": person.name, "role": role, "can_sign_out": person.by == "cookie"})


def _label(request: web.Request, address: str) -> str:
    """What an instructor reads of a session: the browser and where it is."""
    return f"{request.headers.get('User-Agent', 'a browser')[:200]} at {address}"
