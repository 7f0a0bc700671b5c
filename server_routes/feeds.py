"""What pages and scripts are told as it changes: over ComfyUI's own socket, or as server-sent events.

A page asks with the client id of its socket for a topic, is answered what is so now, and is sent each change from then
on: ``jobs``, one's own jobs, or ``workshop``, everything, for instructors.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from ..accounts.users import User
from ..comfyui_seams import server, sockets
from ..job_queue.events import Batch, Notice
from .board_rows import Row, Rows
from .gate import PERSON
from .identity import LOCAL_USER, Person
from .live_board import Attention, LiveBoard
from .problems import problem

TOPICS = ("jobs", "workshop")


@dataclass
class _Feed:
    """A page that is told of a topic."""

    user: str
    last: Row | None = None


class Feeds:
    """Who is told of what.

    Args:
        tell: sends a text to a socket by its client id, in its turn.
    """

    def __init__(self, board: LiveBoard, tell: Callable[[str, bytes], None]) -> None:
        self._board = board
        board.attach(self.changed, self.attention)
        self._tell = tell
        self._jobs: dict[str, _Feed] = {}
        self._workshop: dict[str, _Feed] = {}
        self._rows = Rows()
        self._revision = 0

    def mount(self) -> None:
        """Add the routes."""
        for topic in TOPICS:
            server.add_route("PUT", f"/comfyume/feeds/{{topic:{topic}}}", self.begin)
            server.add_route("DELETE", f"/comfyume/feeds/{{topic:{topic}}}", self.end)

    def attention(self) -> Attention:
        """Who looks."""
        self._forget_closed()
        return "workshop" if self._workshop else "jobs" if self._jobs else ""

    async def begin(self, request: web.Request) -> web.Response:
        """Tell a page of a topic from now on; answers what is so now."""
        person: Person = request[PERSON]
        client, topic = request.query.get("client", ""), request.match_info["topic"]
        if sockets.user_of(client) != person.name:
            return problem(409, "no-socket", "This page has no socket under your name yet. Open one at /ws first.")
        rows = await self._board.look()
        feeds = self._feeds(topic)
        if topic == "workshop":
            feeds[client] = _Feed(person.name)
            return web.json_response(rows.for_instructor(self._revision))
        own = rows.for_person(person.name)
        feeds[client] = _Feed(person.name, _timeless(own))
        return web.json_response(own)

    async def end(self, request: web.Request) -> web.Response:
        """Tell a page no more of a topic."""
        feeds, client = self._feeds(request.match_info["topic"]), request.query.get("client", "")
        if client in feeds and feeds[client].user == request[PERSON].name:
            del feeds[client]
        return web.Response(status=204)

    def observe(self, message: Batch | Notice) -> None:
        """Take note of a message of the events' channel."""
        if isinstance(message, Notice) and message.kind == "message":
            self._say_to_all(message.data["message"])
        else:
            self._board.observe(message)

    def changed(self, rows: Rows) -> None:
        """The board has changed: tell whoever looks."""
        self._forget_closed()
        former, self._rows = self._rows, rows
        self._revision += 1
        if self._workshop:
            message = _message("comfyume.workshop", rows.change_since(former, self._revision))
            for client in self._workshop:
                self._tell(client, message)
        told: dict[str, Row] = {}
        for client, feed in self._jobs.items():
            if feed.user not in told:
                told[feed.user] = rows.for_person(feed.user)
            own = told[feed.user]
            if feed.last != (last := _timeless(own)):
                feed.last = last
                self._tell(client, _message("comfyume.jobs", own))

    def _say_to_all(self, data: Row) -> None:
        """Bring an instructor's message to every page."""
        message = _message("comfyume.message", data)
        for client in sockets.connected():
            self._tell(client, message)

    def look_who_may(self, users: dict[str, User]) -> None:
        """Users have changed: who is no instructor any more is told no more of the workshop."""
        for client, feed in list(self._workshop.items()):
            is_local = feed.user == LOCAL_USER and not users
            if not is_local and not (feed.user in users and users[feed.user].is_instructor):
                del self._workshop[client]

    def _feeds(self, topic: str) -> dict[str, _Feed]:
        return self._workshop if topic == "workshop" else self._jobs

    def _forget_closed(self) -> None:
        for feeds in (self._jobs, self._workshop):
            for client in [client for client, feed in feeds.items() if sockets.user_of(client) != feed.user]:
                del feeds[client]


def _timeless(row: Row) -> Row:
    return {key: value for key, value in row.items() if key not in ("now", "queued")}


def _message(kind: str, data: Any) -> bytes:
    return json.dumps({"type": kind, "data": data}).encode()
