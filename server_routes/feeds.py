"""What pages and scripts are told as it changes: over ComfyUI's own socket, or as server-sent events.

A page asks with the client id of its socket for a topic, is answered what is so now, and is sent each change from then
on: ``jobs``, one's own jobs, or ``workshop``, everything, for instructors.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

from aiohttp import web

from ..accounts.users import User
from ..comfyui_seams import server, sockets
from ..job_queue.events import Batch, Notice
from ..job_queue.messages import INSTRUCTORS
from .board_rows import Row, Rows
from .gate import PERSON
from .identity import LOCAL_USER
from .live_board import Attention, LiveBoard
from .problems import problem

Topic = Literal["jobs", "workshop"]
TOPICS: tuple[Topic, ...] = get_args(Topic)
PATH = "/comfyume/feeds"
#: Messages that wait for a script; one that reads more slowly is told no more.
MOST_WAITING = 1_000
#: Seconds without a message after which a script is told that there is none.
ALIVE = 15.0


@dataclass
class _Feed:
    """Somebody who is told of a topic.

    Attributes:
        tell: sends a message.
        is_open: whether it can still be sent.
        last: what was told last of one's own jobs.
    """

    user: str
    tell: Callable[[bytes], None]
    is_open: Callable[[], bool]
    last: Row | None = None


class Feeds:
    """Who is told of what.

    Args:
        tell: sends a text to a socket by its client id, in its turn.
        arrived: hears that somebody's page has opened.
        warning: what an instructor is told who begins to look at the workshop; None for nothing.
    """

    def __init__(
        self,
        board: LiveBoard,
        tell: Callable[[str, bytes], None],
        arrived: Callable[[], None],
        warning: Callable[[], Row | None] = lambda: None,
    ) -> None:
        self._warning = warning
        self._board = board
        self._arrived = arrived
        board.attach(self.changed, self.attention)
        self._tell = tell
        self._feeds: dict[Topic, dict[str, _Feed]] = {"jobs": {}, "workshop": {}}
        self._rows = Rows()
        self._revision = 0
        self._users: dict[str, User] = {}

    def mount(self) -> None:
        """Add the routes."""
        for topic in TOPICS:
            for method, handler in (("PUT", self.begin), ("DELETE", self.end), ("GET", self.stream)):
                server.add_route(method, f"{PATH}/{topic}", handler)

    def attention(self) -> Attention:
        """Who looks."""
        self._forget_closed()
        return next((topic for topic in ("workshop", "jobs") if self._feeds[topic]), "")

    async def begin(self, request: web.Request) -> web.Response:
        """Tell a page of a topic from now on; answers what is so now."""
        user, client = request[PERSON].name, request.query.get("client", "")
        if sockets.user_of(client) != user:
            return problem(409, "no-socket", "This page has no socket under your name yet. Open one at /ws first.")
        self._arrived()
        feed = _Feed(user, partial(self._tell, client), lambda: sockets.user_of(client) == user)
        return web.json_response(await self._begin(_topic(request), client, feed))

    async def end(self, request: web.Request) -> web.Response:
        """Tell a page no more of a topic."""
        feeds, client = self._feeds[_topic(request)], request.query.get("client", "")
        if client in feeds and feeds[client].user == request[PERSON].name:
            del feeds[client]
        return web.Response(status=204)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """The same for scripts without a socket: server-sent events, the first with what is so now."""
        waiting: asyncio.Queue[bytes] = asyncio.Queue(MOST_WAITING)
        name = uuid.uuid4().hex
        feeds = self._feeds[_topic(request)]
        feed = _Feed(request[PERSON].name, waiting.put_nowait, lambda: not waiting.full())
        first = _message(f"comfyume.{_topic(request)}", await self._begin(_topic(request), name, feed))
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        response = web.StreamResponse(headers=headers)
        try:
            await response.prepare(request)
            await response.write(b"data: " + first + b"\n\n")
            while name in feeds or not waiting.empty():
                try:
                    await response.write(b"data: " + await asyncio.wait_for(waiting.get(), ALIVE) + b"\n\n")
                except asyncio.TimeoutError:
                    # So that a reader that has gone is noticed, and one that waits knows that somebody is here.
                    await response.write(b":\n\n")
        except ConnectionResetError:
            # The reader has gone.
            return response
        finally:
            feeds.pop(name, None)
        return response

    async def _begin(self, topic: Topic, name: str, feed: _Feed) -> Row:
        rows = await self._board.look()
        self._feeds[topic][name] = feed
        if topic == "workshop":
            if (warning := self._warning()) is not None:
                feed.tell(_message("comfyume.message", warning))
            return rows.for_instructor(self._revision)
        own = rows.for_person(feed.user)
        feed.last = _timeless(own)
        return own

    def observe(self, message: Batch | Notice) -> None:
        """Take note of a message of the events' channel."""
        if isinstance(message, Notice) and message.kind == "message":
            told = dict(message.data["message"])
            is_for_instructors = told.pop("to", "") == INSTRUCTORS
            self._say("comfyume.message", told, may=self._is_instructor if is_for_instructors else None)
        elif isinstance(message, Notice) and message.kind == "cancelled":
            told = dict(message.data["cancelled"])
            self._say("comfyume.cancelled", told, may=told.pop("user").__eq__)
        else:
            self._board.observe(message)

    def changed(self, rows: Rows) -> None:
        """The board has changed: tell whoever looks."""
        self._forget_closed()
        former, self._rows = self._rows, rows
        self._revision += 1
        if self._feeds["workshop"]:
            message = _message("comfyume.workshop", rows.change_since(former, self._revision))
            for feed in self._feeds["workshop"].values():
                feed.tell(message)
        told: dict[str, Row] = {}
        for feed in self._feeds["jobs"].values():
            if feed.user not in told:
                told[feed.user] = rows.for_person(feed.user)
            own = told[feed.user]
            if feed.last != (last := _timeless(own)):
                feed.last = last
                feed.tell(_message("comfyume.jobs", own))

    def _say(self, event: str, data: Row, may: Callable[[str], bool] | None = None) -> None:
        """Bring what an instructor says or has done to every page, or to those of the people who may hear it."""
        message = _message(event, data)
        for client in sockets.connected():
            user = sockets.user_of(client)
            if may is None or (user is not None and may(user)):
                self._tell(client, message)

    def _is_instructor(self, user: str) -> bool:
        return user == LOCAL_USER if not self._users else user in self._users and self._users[user].is_instructor

    def look_who_may(self, users: dict[str, User]) -> None:
        """Users have changed: who is no instructor any more is told no more of the workshop."""
        self._users = users
        for name, feed in list(self._feeds["workshop"].items()):
            is_local = feed.user == LOCAL_USER and not users
            if not is_local and not (feed.user in users and users[feed.user].is_instructor):
                del self._feeds["workshop"][name]

    def _forget_closed(self) -> None:
        for feeds in self._feeds.values():
            for name in [name for name, feed in feeds.items() if not feed.is_open()]:
                del feeds[name]


def _topic(request: web.Request) -> Topic:
    return next(topic for topic in TOPICS if request.path == f"{PATH}/{topic}")


def _timeless(row: Row) -> Row:
    return {key: value for key, value in row.items() if key not in ("now", "queued")}


def _message(kind: str, data: Any) -> bytes:
    return json.dumps({"type": kind, "data": data}).encode()
