"""Reading a file of names and bcrypt hashes, as Apache's ``htpasswd -B`` writes it."""

from __future__ import annotations

from .errors import AccountError, NameRefused
from .passwords import is_bcrypt
from .users import checked_name


class HtpasswdRefused(AccountError):
    """A file of passwords cannot be imported; nothing of it was."""


def parse(text: str) -> list[tuple[str, str]]:
    """Names and bcrypt hashes, in the order of the file.

    Raises:
        HtpasswdRefused: naming every line that cannot be taken, and why.
    """
    found: dict[str, str] = {}
    problems = []
    for number, line in enumerate(text.splitlines(), 1):
        name, _, kept = line.strip().partition(":")
        if not name or name.startswith("#"):
            continue
        try:
            name = checked_name(name)
        except NameRefused as error:
            problems.append(f"line {number}: {error}")
            continue
        if name in found:
            problems.append(f"line {number}: {name!r} is there twice.")
        elif not is_bcrypt(kept):
            problems.append(f"line {number}: the password of {name!r} is not hashed with bcrypt (htpasswd -B).")
        found[name] = kept
    if problems:
        raise HtpasswdRefused("Nothing was imported. " + " ".join(problems))
    return list(found.items())
