"""Users of a workshop under test, and the headers by which they are known."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping

from comfyume.accounts import passwords
from comfyume.accounts.users import Role, Users
from comfyume.job_queue.connection import connect_async
from comfyume.job_queue.keys import Keys


def password_of(name: str) -> str:
    """The password that ``add_users`` gives."""
    return f"{name}'s pässwörd: %2F#&?"


def basic(name: str, password: str | None = None) -> dict[str, str]:
    """The header of HTTP Basic with which a script signs in."""
    words = f"{name}:{password_of(name) if password is None else password}".encode()
    return {"Authorization": f"Basic {base64.b64encode(words).decode()}"}


def add_users(store_url: str, workshop: str, roles: Mapping[str, Role]) -> None:
    """Add users to a workshop's store, as the command line does."""

    async def add() -> None:
        client = connect_async(store_url)
        try:
            users = Users(client, Keys(workshop))
            for name, role in roles.items():
                await users.add(name, role, passwords.hashed(password_of(name)))
        finally:
            await client.aclose()

    asyncio.run(add())
