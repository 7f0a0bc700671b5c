"""The users whom a command line names, by name or by range."""

from __future__ import annotations

from collections.abc import Iterable

from ..accounts.users import Users, names_of
from .errors import CommandError


async def known_names(texts: Iterable[str], users: Users) -> list[str]:
    """The names that these texts stand for.

    Raises:
        CommandError: one of them is no user's.
        NameRefused: one of them is no name.
    """
    names = [name for text in texts for name in names_of(text)]
    known = await users.all()
    unknown = [name for name in names if name not in known]
    if unknown:
        raise CommandError(f"Nothing was changed: there is no user {', '.join(unknown)}.")
    return names
