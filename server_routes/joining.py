"""``/comfyume/workers/links`` and ``/comfyume/join``: how a fresh GPU machine becomes a worker of this workshop.

An instructor makes a link. The machine that shows it first is told what a worker needs to know: the addresses of store
and frontend, passwords among them, and the node packs. The link holds for that machine alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from .. import workshop_secret
from ..accounts.invitations import Invitations
from ..briefing import LOCK_FILE, PATH, Briefing, LockRefused, Request, read_lock
from ..comfyui_seams import server
from ..job_queue.errors import SecretsUnreadable
from ..settings import LOOPBACK_HOSTS, PREFIX, Settings
from .activity_notes import ActivityNotes
from .bodies import body_of, guarded
from .gate import PERSON
from .problems import problem

log = logging.getLogger("comfyume")

LINKS = "/comfyume/workers/links"
#: Settings that a worker has as its frontend does, where they are set.
SHARED = (
    *("bucket", "bucket_endpoint", "bucket_region", "bucket_path_style", "bucket_key", "bucket_secret"),
    *("models", "models_hosts", "models_pickles", "hf_token"),
    *("job_timeout", "lease", "price_hour", "history_size", "history_days"),
)
ABOUT_LINKS = """This is a link for a GPU machine. There, with ComfyUI and comfyume, run

    comfyume worker --join {link}

It holds for one machine, for a while.
"""
NO_ADDRESS = (
    "The store is at an address of this machine, which no other reaches. Run `comfyume workers allow`, put the store's "
    f"name into the address that it prints, and set {PREFIX}WORKERS_REDIS_URL to it."
)
NO_SECRET = (
    "API keys in prompts are encrypted with the store's password, which workers must not know: set "
    f"{PREFIX}SECRET to words of your own, on this frontend and on all workers, and start it again."
)
#: Who joins shows a link, and no name. No user's name has a space.
LINK_USER = "worker link"


class LinkWish(BaseModel):
    """For how many minutes a link shall hold."""

    model_config = ConfigDict(extra="forbid", strict=True)

    minutes: Annotated[int, Field(ge=1, le=7 * 24 * 60)] = 60


class Joining:
    """Makes links, and answers who shows one.

    Args:
        system: ComfyUI's system user folder, with the lock file.
    """

    def __init__(self, invitations: Invitations, settings: Settings, notes: ActivityNotes, system: Path) -> None:
        self._invitations = invitations
        self._settings = settings
        self._notes = notes
        self._lock_file = system / LOCK_FILE

    def mount(self) -> None:
        """Add the routes."""
        server.add_route("POST", LINKS, guarded(self.make))
        server.add_route("GET", PATH + "{token}", self.tell)
        server.add_route("POST", PATH + "{token}", guarded(self.redeem))

    async def make(self, request: web.Request) -> web.Response:
        """Make a link; the address that comes before it is the one by which the instructor is here."""
        asked = await body_of(request, LinkWish)
        obstacle = self._obstacle()
        if obstacle is not None:
            return problem(409, "not-ready", obstacle)
        token = await self._invitations.make(asked.minutes * 60)
        self._notes.note(request[PERSON].name, "worker link", minutes=asked.minutes)
        told = {"path": PATH + token, "expires": round(time.time() + asked.minutes * 60)}
        return web.json_response(told, status=201, headers={"Cache-Control": "no-store"})

    async def tell(self, request: web.Request) -> web.Response:
        """Say what a link is for, to who opens it in a browser. It is not used up by that."""
        return web.Response(text=ABOUT_LINKS.format(link=request.url), headers={"Cache-Control": "no-store"})

    async def redeem(self, request: web.Request) -> web.Response:
        """Tell a machine what a worker needs to know."""
        asked = await body_of(request, Request)
        obstacle = self._obstacle()
        if obstacle is not None:
            return problem(409, "not-ready", obstacle)
        if not await self._invitations.redeem(request.match_info["token"], asked.machine):
            return problem(
                403, "link-used", "This link is used up, too old, or none. Ask the instructor for another one."
            )
        try:
            packs = await asyncio.to_thread(read_lock, self._lock_file)
            secret = await asyncio.to_thread(workshop_secret.find, self._settings)
        except (LockRefused, SecretsUnreadable) as error:
            log.warning("[comfyume] a worker cannot join: %s", error)
            return problem(503, "not-ready", str(error))
        settings = self._settings.model_dump(mode="json")
        shared = {name: settings[name] for name in SHARED if name in self._settings.model_fields_set}
        environment = {
            "MODE": "worker",
            "WORKSHOP": self._settings.workshop,
            "REDIS_URL": self._store,
            "SECRET": secret,
            **{name.upper(): _as_text(name, value) for name, value in shared.items() if value not in (None, "", [])},
        }
        briefing = Briefing(
            workshop=self._settings.workshop,
            environment={f"{PREFIX}{name}": value for name, value in environment.items()},
            packs=packs,
        )
        log.info("[comfyume] a machine joins as a worker")
        self._notes.note(LINK_USER, "worker joins", machine=asked.machine[:8])
        return web.json_response(briefing.model_dump(), headers={"Cache-Control": "no-store"})

    @property
    def _store(self) -> str:
        """The store's address for workers."""
        return self._settings.workers_redis_url or self._settings.redis_url or ""

    def _obstacle(self) -> str | None:
        """Why no machine could join now, if so."""
        own, theirs = self._settings.redis_url or "", self._settings.workers_redis_url
        if theirs is None and urlsplit(own).hostname in (None, *LOOPBACK_HOSTS):
            return NO_ADDRESS
        if theirs not in (None, own) and not self._settings.secret and urlsplit(own).password:
            return NO_SECRET
        return None


def _as_text(name: str, value: object) -> str:
    """A setting as its variable has it."""
    if isinstance(value, list):
        return (";" if name == "models" else ",").join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
