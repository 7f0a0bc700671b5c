"""What an instructor reads and sets: people, their limits and credits, and the activity log."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, create_model

from ..accounts import passwords
from ..accounts.activity import ActivityLog
from ..accounts.errors import NameRefused, UserExists
from ..accounts.users import Role, Users, without
from ..comfyui_seams import server
from ..job_queue.allowances import COUNTED, LIMIT_NAMES, Allowances
from .activity_notes import ActivityNotes
from .allowance import told
from .bodies import BodyRefused, body_of, changes_in, guarded
from .gate import PERSON
from .presence import Presence, is_here
from .problems import problem

Amount = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
CONFIG = ConfigDict(extra="forbid", strict=True)


def _limits_model(name: str, word: Any = None) -> type[BaseModel]:
    """A body with any of the limits: an amount, or null to take one away, or this word."""
    kinds = {limit: Count if limit in COUNTED else Amount for limit in LIMIT_NAMES}
    fields: dict[str, Any] = {limit: (kind | word | None, None) for limit, kind in kinds.items()}
    return create_model(name, __config__=CONFIG, **fields)


LimitsOfAll = _limits_model("LimitsOfAll")
#: ``"usual"`` gives back the limit of all.
LimitsOfOne = _limits_model("LimitsOfOne", Literal["usual"])


class Grant(BaseModel):
    """Credits to give, or to take back; the same ``grant`` again changes nothing."""

    model_config = CONFIG

    credits: Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
    grant: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")] | None = None


class NewPerson(BaseModel):
    """Somebody to add. Their name is checked where all names are."""

    model_config = CONFIG

    user: Annotated[str, Field(max_length=64)]
    role: Role = "participant"


class Administration:
    """Answers instructors; the gate lets nobody else through."""

    def __init__(
        self, users: Users, allowances: Allowances, activity: ActivityLog, notes: ActivityNotes, presence: Presence
    ) -> None:
        self._users = users
        self._allowances = allowances
        self._activity = activity
        self._notes = notes
        self._presence = presence

    def mount(self) -> None:
        """Add the routes."""
        for method, path, handler in (
            ("GET", "/comfyume/people", self.people),
            ("POST", "/comfyume/people", self.add),
            ("DELETE", "/comfyume/people/{name}", self.remove),
            ("POST", "/comfyume/people/{name}/password", self.new_password),
            ("GET", "/comfyume/limits", self.limits),
            ("PUT", "/comfyume/limits", self.set_limits),
            ("PUT", "/comfyume/people/{name}/limits", self.set_own_limits),
            ("POST", "/comfyume/people/{name}/credits", self.grant),
            ("GET", "/comfyume/activity", self.activity),
        ):
            server.add_route(method, path, guarded(handler))

    async def people(self, _request: web.Request) -> web.Response:
        """Everybody: their role, whether they are here, their limits, and what they have used of them."""
        users = await self._users.all()
        allowances = await self._allowances.of(list(users))
        seen = await self._presence.all()
        return web.json_response(
            [
                {
                    "user": user.name,
                    "role": user.role,
                    "here": is_here(seen.get(user.name)),
                    "last_seen": seen.get(user.name),
                    **told(allowances[user.name], None),
                }
                for user in users.values()
            ]
        )

    async def add(self, request: web.Request) -> web.Response:
        """Add a person, whose password is told this once."""
        asked = await body_of(request, NewPerson)
        if asked.role != "instructor" and without((await self._users.all()).values(), "instructor"):
            return problem(409, "no-instructor", "Nobody is an instructor yet, so add one first.")
        password = passwords.generated()
        kept = await asyncio.to_thread(passwords.hashed, password)
        try:
            user = await self._users.add(asked.user, asked.role, kept)
        except NameRefused as error:
            raise BodyRefused(str(error)) from error
        except UserExists as error:
            return problem(409, "user-exists", str(error))
        self._note(request, "user added", user=user.name, role=user.role)
        told_once = {"user": user.name, "role": user.role, "password": password}
        return web.json_response(told_once, status=201, headers={"Cache-Control": "no-store"})

    async def remove(self, request: web.Request) -> web.Response:
        """Remove a person, and sign them out; their files stay, and their jobs run on."""
        user = await self._users.get(request.match_info["name"])
        if user.name == request[PERSON].name:
            return problem(409, "yourself", "You cannot remove yourself here: comfyume users remove can.")
        await self._users.remove(user.name)
        self._note(request, "user removed", user=user.name)
        return web.Response(status=204)

    async def new_password(self, request: web.Request) -> web.Response:
        """Give a person a new password, which is told this once; the sessions of the old one end."""
        user = await self._users.get(request.match_info["name"])
        password = passwords.generated()
        await self._users.set_password(user.name, await asyncio.to_thread(passwords.hashed, password))
        self._note(request, "password changed", user=user.name)
        return web.json_response({"user": user.name, "password": password}, headers={"Cache-Control": "no-store"})

    async def limits(self, _request: web.Request) -> web.Response:
        """The limits of all who have none of their own."""
        return web.json_response(asdict(await self._allowances.limits()))

    async def set_limits(self, request: web.Request) -> web.Response:
        """Change limits of all: those that are named."""
        changes = changes_in(await body_of(request, LimitsOfAll))
        await self._allowances.set_limits(changes)
        self._note(request, "limits", limits=changes)
        return await self.limits(request)

    async def set_own_limits(self, request: web.Request) -> web.Response:
        """Change limits of one person: those that are named."""
        changes = changes_in(await body_of(request, LimitsOfOne))
        user = await self._users.get(request.match_info["name"])
        await self._allowances.set_own_limits(user.name, changes)
        self._note(request, "limits", user=user.name, limits=changes)
        return await self._told_of(user.name)

    async def grant(self, request: web.Request) -> web.Response:
        """Give a person credits."""
        grant = await body_of(request, Grant)
        user = await self._users.get(request.match_info["name"])
        await self._allowances.grant(user.name, grant.credits, grant.grant)
        self._note(request, "grant", user=user.name, credits=grant.credits)
        return await self._told_of(user.name)

    async def activity(self, request: web.Request) -> web.Response:
        """Who did what, the newest first: ``limit`` entries ``before`` an id, of one ``user`` or of all."""
        query = request.query
        limit, before = query.get("limit", "100"), query.get("before")
        if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit[:9]) <= 1000:
            raise BodyRefused("limit must be a number from 1 to 1000.")
        if before is not None and not _is_entry(before):
            raise BodyRefused("before must be the id of an entry.")
        entries = await self._activity.read(most=int(limit), before=before, who=query.get("user"))
        return web.json_response([asdict(entry) for entry in entries])

    async def _told_of(self, name: str) -> web.Response:
        return web.json_response({"user": name, **told((await self._allowances.of([name]))[name], None)})

    def _note(self, request: web.Request, what: str, **details: Any) -> None:
        self._notes.note(request[PERSON].name, what, **details)


def _is_entry(text: str) -> bool:
    parts = text.split("-")
    return len(parts) == 2 and all(part.isascii() and part.isdigit() and len(part) < 19 for part in parts)
