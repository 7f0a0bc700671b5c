"""The first look at every request: does it come from a page of ours, who sends it, and may they."""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from ..comfyui_seams import server
from ..job_queue.errors import QueueError
from ..settings import Settings
from .access import Rule, Who, who_may
from .identity import Identity, NotAllowed, NotSignedIn, Person
from .native_shapes import STORE_AWAY
from .own_files import is_plain
from .problems import refusal
from .traffic import TooMuch, Traffic

log = logging.getLogger("comfyume")

PERSON = "comfyume_person"
#: In a request to somebody's personal address: whose, and the address as it was sent.
OWNER, ADDRESS = "comfyume_owner", "comfyume_address"
#: In a request that a route of ours makes of another, whose answer it looks at before it is sent.
INNER = "comfyume_inner"
SIGN_IN = "/comfyume/sign-in"
SOCKETS = ("/ws", "/api/ws")
CHANGES = ("POST", "PUT", "PATCH", "DELETE")
#: What a page of another site may send without asking first (the Fetch standard's simple types), but for multipart.
SIMPLE_TYPES = ("text/plain", "application/x-www-form-urlencoded")
#: What a browser says of a request that a page of another site makes.
FOREIGN = ("cross-site", "same-site")
#: To who follows a link on another site: ComfyUI refuses that, so a page of ours goes on from here.
ARRIVAL = """<!doctype html><title>ComfyUI</title><script>
const here = new URL(location.href);
if (here.hash) here.searchParams.set("arrived", "1");
location.replace(here);
</script>"""
#: While the store does not answer; seconds until the browser asks again.
WAITING = """<!doctype html><meta http-equiv="refresh" content="3"><title>ComfyUI</title>
<p>This workshop's store does not answer. The page tries again by itself.</p>"""
#: Where a worker fetches and brings files.
WORKERS = re.compile("/comfyume/worker/files/[^/]+")
#: Answers that are each person's own at the same address, but no JSON, which nobody keeps.
PERSONS_FILES = re.compile(r"(?:/api)?/(?:view|userdata(?:/.*)?|user\.css)")
#: Refused routes that are told in the log, once each.
MOST_TOLD = 200


class Gate:
    """Lets requests through to those whom they are from, and refuses all others."""

    def __init__(self, identity: Identity, settings: Settings) -> None:
        self._identity = identity
        self._hosts = {"localhost", *settings.hosts, *_own_names()}
        self._rules = tuple(Rule.parse(text) for text in settings.routes)
        self._owner = settings.user
        self._told: set[tuple[str, str]] = set()
        self._traffic = Traffic()

    def middleware(self) -> Any:
        """The middleware, for aiohttp; ``request[PERSON]`` is who sends it, where a route is not for anybody."""

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            if not is_plain(request.path):
                return refusal(request, 404, "not_found", "There is nothing at this address.")
            if WORKERS.fullmatch(request.path):
                # Workers are no browsers, and come with a claim, which their routes check.
                return await handler(request)
            try:
                let_in = await self._let_in(request)
            except NotSignedIn as error:
                return _sign_in_first(request, str(error))
            except NotAllowed as error:
                return refusal(request, 403, "not_allowed", str(error))
            except TooMuch as error:
                return refusal(request, 429, "too_much", str(error), retry_after=1)
            except QueueError as error:
                log.debug("who asks is not known: %s", error)
                return _store_away(request)
            if isinstance(let_in, web.StreamResponse):
                return self._guarded(request, let_in)
            with let_in:
                return self._guarded(request, await handler(request))

        return guard

    async def _let_in(self, request: web.Request) -> web.StreamResponse | AbstractContextManager[None]:
        """What is answered here already, else what counts the request while it is answered.

        Raises:
            NotSignedIn, NotAllowed, TooMuch, QueueError: it is not let in.
        """
        if self._check_origin(request):
            return web.Response(text=ARRIVAL, content_type="text/html")
        who = who_may(request.method, request.path, self._rules)
        if who is Who.ANYBODY:
            if self._identity.has_users:
                await self._traffic.admit_address(self._identity.address_of(request))
            return nullcontext()
        person = await self._identity.who(request)
        if who is None and OWNER not in request:
            personal = await self._at_personal_address(request)
            if personal is not None:
                return personal
        is_socket = request.path in SOCKETS
        # One person on their own machine is let in, as without this extension.
        counted = await self._traffic.admit(person.name, is_socket=is_socket) if person.by != "local" else nullcontext()
        self._check_may(request, who, person)
        request[PERSON] = person
        return counted

    def _guarded(self, request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
        if not response.prepared and self._identity.has_users:
            _guard_answer(request, response)
        return response

    async def _at_personal_address(self, request: web.Request) -> web.StreamResponse | None:
        """``/user007/...`` is the ComfyUI of user007: the same as ``/...``, but for nobody else."""
        path, mark, query = request.raw_path.partition("?")
        first, slash, rest = path[1:].partition("/")
        name = unquote(first).lower()
        if not self._identity.is_user(name):
            return None
        if not slash:
            # What the page asks for stands relative to the address of a folder.
            return web.Response(status=302, headers={"Location": f"/{first}/{mark}{query}"})
        address = f"/{rest.lstrip('/')}{mark}{query}"
        return await server.serve_at(request, address, {OWNER: name, ADDRESS: request.path_qs})

    def _check_origin(self, request: web.Request) -> bool:
        """Look where a request comes from.

        Returns:
            Whether somebody followed a link on another site to a page of ours.

        Raises:
            NotAllowed: a page of another site sends it, or it is for a name that nobody gave to this workshop.
        """
        host = _place(f"//{request.headers.get('Host', '')}")
        name = host[0]
        if name not in self._hosts and not _is_address(name) and not name.endswith(".localhost"):
            raise NotAllowed(
                f"This workshop is not known as {name}. Whoever runs it can allow it: COMFYUME_HOSTS={name}"
            )
        if server.allows_other_origins() and not self._identity.has_users:
            # One person on their own machine, who told ComfyUI so.
            return False
        origin = request.headers.get("Origin")
        if origin is not None:
            if not origin.startswith(("http://", "https://")) or _place(origin) != host:
                raise NotAllowed("This request comes from a page of another site.")
            return False
        if request.headers.get("Sec-Fetch-Site") not in FOREIGN:
            return False
        # A link may lead to a page, and to nothing that an instructor's click would do.
        is_link = request.method == "GET" and request.headers.get("Sec-Fetch-Dest") == "document"
        first = request.path[1:].removesuffix("/").lower()
        if not is_link or not (request.path in ("/", SIGN_IN) or self._identity.is_user(first)):
            raise NotAllowed("This request comes from a page of another site.")
        return True

    def _check_may(self, request: web.Request, who: Who | None, person: Person) -> None:
        if person.by == "local":
            # One person on their own machine, as without this extension.
            return
        for owner in (self._owner, request.get(OWNER)):
            if owner and owner != person.name:
                raise NotAllowed(f"This is the ComfyUI of {owner}, and you are signed in as {person.name}.")
        if who is None:
            self._tell(request)
            raise NotAllowed("This address is not open to the people of this workshop.")
        if who is Who.INSTRUCTOR and not person.is_instructor:
            raise NotAllowed("This is for the instructor.")
        is_proven = person.by in ("token", "password") or "Origin" in request.headers
        if (
            request.method in CHANGES
            and request.can_read_body
            and not is_proven
            and request.content_type in SIMPLE_TYPES
        ):
            raise NotAllowed("Send this as application/json or multipart/form-data.")

    def _tell(self, request: web.Request) -> None:
        """A node pack's route that nobody has classified: whoever runs the workshop wants to know."""
        resource = request.match_info.route.resource
        path = resource.canonical.removeprefix("/api") if resource is not None else ""
        # As it has to be written: a regular expression.
        route = (request.method, re.sub(r"\\?\{[^}]*\}", "[^/]+", path))
        if path and route not in self._told and len(self._told) < MOST_TOLD:
            self._told.add(route)
            log.warning(
                "[comfyume] %s %s is refused, since nobody has said who may use it. If all may: "
                'COMFYUME_ROUTES="participant %s %s"',
                *route,
                *route,
            )


def _sign_in_first(request: web.Request, message: str) -> web.Response:
    """To a browser that opens a page: the page to sign in, and back from there. To all others: 401."""
    if _opens_page(request):
        here = quote(request.get(ADDRESS, request.path_qs), safe="")
        return web.Response(status=302, headers={"Location": f"{SIGN_IN}?next={here}"})
    return refusal(request, 401, "not_signed_in", message)


def _guard_answer(request: web.Request, response: web.StreamResponse) -> None:
    """What browsers and caches on the way must know of an answer to one of several people."""
    # No page of another site shows this one in a frame, to have its buttons clicked.
    response.headers.setdefault("X-Frame-Options", "SAMEORIGIN")
    if PERSONS_FILES.fullmatch(request.path):
        # Another person's file may have the same address, also in the same browser.
        response.headers["Cache-Control"] = "private, no-cache"
        response.headers["Vary"] = "Cookie, Authorization"


def _store_away(request: web.Request) -> web.Response:
    """Nobody knows who asks: the page that a browser opens tries again until somebody does."""
    if _opens_page(request):
        return web.Response(text=WAITING, content_type="text/html", status=503)
    return refusal(request, 503, "store_unavailable", STORE_AWAY)


def _opens_page(request: web.Request) -> bool:
    return request.method == "GET" and "text/html" in request.headers.get("Accept", "")


def _place(address: str) -> tuple[str, int | None]:
    """Host and port, without the ports that browsers leave out; no host where it is no address."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
        if "@" in parts.netloc:
            return ("", None)
    except ValueError:
        return ("", None)
    return (host, None if port in (80, 443) else port)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _own_names() -> set[str]:
    name = socket.gethostname().lower()
    return {name, f"{name.partition('.')[0]}.local"}
