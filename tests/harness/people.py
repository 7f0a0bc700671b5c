"""Users of a workshop under test, and the headers by which they are known."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from comfyume.accounts import passwords
from comfyume.accounts.sessions import Sessions
from comfyume.accounts.users import Role, Users
from comfyume.job_queue.connection import connect_async
from comfyume.job_queue.keys import Keys

from .client import Client, RequestRefused
from .pair import Pair


def password_of(name: str) -> str:
    """The password that ``add_users`` gives."""
    return f"{name}'s pässwörd: %2F#&?"


def basic(name: str, password: str | None = None) -> dict[str, str]:
    """The header of HTTP Basic with which a script signs in."""
    words = f"{name}:{password_of(name) if password is None else password}".encode()
    return {"Authorization": f"Basic {base64.b64encode(words).decode()}"}


def cookie_of(address: str, name: str) -> dict[str, str]:
    """Sign in as a page does; returns the header by which the browser is known from then on."""
    body = json.dumps({"user": name, "password": password_of(name)}).encode()
    request = urllib.request.Request(f"http://{address}/comfyume/sign-in", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as response:
        cookies = response.headers.get_all("Set-Cookie")
    return {"Cookie": "; ".join(cookie.partition(";")[0] for cookie in cookies)}


def add_users(room: Pair, roles: Mapping[str, Role]) -> None:
    """Add users to a workshop, as the command line does, and wait until its frontend asks people to sign in."""
    add_users_to_store(room.store.url, room.workshop, roles)
    wait_until_known(room.frontend.address)


def wait_until_known(address: str) -> None:
    """Wait until a frontend asks people to sign in."""
    nobody = Client(address, connect=False)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            nobody.get("/queue")
        except RequestRefused as error:
            if error.status == 401:
                return
        time.sleep(0.05)
    raise TimeoutError("the frontend does not know of the workshop's users")


def add_users_to_store(store_url: str, workshop: str, roles: Mapping[str, Role]) -> None:
    """Add users to a workshop's store."""

    async def add(users: Users, _sessions: Sessions) -> None:
        for name, role in roles.items():
            await users.add(name, role, passwords.hashed(password_of(name)))

    _run(store_url, workshop, add)


def end_sessions(store_url: str, workshop: str, name: str) -> None:
    """End all sessions of a user, as when they expire."""
    _run(store_url, workshop, lambda _users, sessions: sessions.end_all(name))


def _run(store_url: str, workshop: str, work: Callable[[Users, Sessions], Awaitable[None]]) -> None:
    async def run() -> None:
        client = connect_async(store_url)
        try:
            await work(Users(client, Keys(workshop)), Sessions(client, Keys(workshop)))
        finally:
            await client.aclose()

    # Playwright's loop may be the running one of this thread.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(run())).result()
