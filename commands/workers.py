"""`comfyume workers`: a user of their own on the store for workers, who may do no more there than they need."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import redis.exceptions

from ..job_queue.connection import connect, store_errors
from ..job_queue.errors import QueueError
from ..job_queue.keys import Keys
from ..job_queue.rights import WorkerUser, hash_of, new_password
from ..settings import LOOPBACK_HOSTS, Settings
from .errors import CommandError
from .workshop_store import loaded_settings

#: Stands for an address that nobody has told.
SOMEWHERE = "redis://HOST:PORT"

IN_THE_CONSOLE = "Have whoever administers it, or its provider's console, take what `comfyume workers acl` prints."
NO_USERS = (
    "This store has no users (ACL): it is older than Redis 6.2, or its provider leaves them out. Use another one, or "
    "give workers the address that frontends have; then they may do everything there."
)
NOT_ALLOWED = f"The user in COMFYUME_REDIS_URL may not change who may use the store. {IN_THE_CONSOLE}"
REFUSED = f"The store does not take the user, as one older than Redis 6.2 would not. {IN_THE_CONSOLE}"
NO_STORE = (
    "COMFYUME_REDIS_URL names no store. The one that comfyume starts by itself is for this machine alone, and "
    "`comfyume workshop` lets its workers in by itself."
)
ABOUT_API_KEYS = (
    "API keys in prompts are encrypted with COMFYUME_SECRET, or else with the password of the store, which workers no "
    "longer share with frontends: set COMFYUME_SECRET to the same words on all of them."
)
OPEN_TO_ALL = (
    "Whoever reaches this store without a name may do everything there, workers as well: give it a password "
    "(requirepass)."
)


@dataclass(frozen=True)
class StoredUser:
    """What a store has of a user; passwords are hashes."""

    flags: list[str]
    passwords: list[str]
    keys: list[str]

    @classmethod
    def read(cls, client: Any, name: str) -> StoredUser | None:
        """Ask the store; None if there is no such user."""
        reply = client.execute_command("ACL", "GETUSER", name)
        if reply is None:
            return None
        fields = dict(zip(reply[::2], reply[1::2], strict=True))
        # Patterns come in one text, or before Redis 7 one by one.
        words = [
            field.split() if isinstance(field, bytes) else field
            for field in (fields[name] for name in (b"flags", b"passwords", b"keys"))
        ]
        return cls(*([word.decode() for word in each] for each in words))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions and their options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    acl = actions.add_parser("acl", help="print the command that makes such a user, for a store run by somebody else")
    _add_name(acl, "?")

    allow = actions.add_parser("allow", help="make such a user on the store, or bring its rights up to date")
    _add_name(allow, "?")
    allow.add_argument("--new-password", action="store_true", help="also end what was connected by the old one")

    disallow = actions.add_parser("disallow", help="remove such a user and end its connections")
    _add_name(disallow, None)


def _add_name(parser: argparse.ArgumentParser, count: str | None) -> None:
    parser.add_argument(
        "name", nargs=count, type=_label, metavar="NAME", help="tells worker-NAME from others (the workshop's name)"
    )


def _label(text: str) -> str:
    text = text.removeprefix("worker-")
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text):
        raise argparse.ArgumentTypeError("use 1 to 64 letters, digits, dots, dashes or underscores")
    return text


def run(options: argparse.Namespace) -> int:
    """Do what was asked for."""
    settings = loaded_settings()
    user = WorkerUser(options.name or settings.workshop, settings.workshop, _database(settings.redis_url))
    ACTIONS[options.action](options, settings, user)
    return 0


def _acl(_options: argparse.Namespace, settings: Settings, user: WorkerUser) -> None:
    password = new_password()
    print("ACL SETUSER", user.name, *user.rules(hash_of(password)))
    _tell_address(settings.redis_url or SOMEWHERE, user, password)
    print(ABOUT_API_KEYS, file=sys.stderr)


def _allow(options: argparse.Namespace, settings: Settings, user: WorkerUser) -> None:
    with _administering(settings) as (client, url):
        known = _known(client, user)
        kept = [] if known is None or options.new_password else known.passwords
        password = new_password()
        hashes = kept or [hash_of(password)]
        client.execute_command("ACL", "SETUSER", user.name, *user.rules(*hashes))
        if known is not None and not kept:
            client.execute_command("CLIENT", "KILL", "USER", user.name)
        is_saved = _save(client)
        anybody = StoredUser.read(client, "default")
    if kept:
        print(f"The rights of {user.name} are up to date; its password is what it was.")
    else:
        print(f"{user.name} may now do in the workshop {user.workshop} what workers do.")
        _tell_address(url, user, password)
    if not is_saved:
        print("The store forgets this user when it starts anew, unless this line is in its configuration:")
        print(user.line(*hashes))
    _tell_of_replicas(url)
    if anybody is not None and {"on", "nopass"} <= set(anybody.flags):
        print(OPEN_TO_ALL, file=sys.stderr)
    print(ABOUT_API_KEYS, file=sys.stderr)


def _disallow(_options: argparse.Namespace, settings: Settings, user: WorkerUser) -> None:
    with _administering(settings) as (client, url):
        if _known(client, user) is None:
            raise CommandError(f"The store has no user {user.name}.")
        # It ends the user's connections too.
        client.execute_command("ACL", "DELUSER", user.name)
        is_saved = _save(client)
    print(f"Removed {user.name}; its connections are closed. A job that it ran is another's when the lease is over.")
    if not is_saved:
        print("If a line of the store's configuration names this user, take it out.")
    _tell_of_replicas(url)


ACTIONS: dict[str, Callable[[argparse.Namespace, Settings, WorkerUser], None]] = {
    "acl": _acl,
    "allow": _allow,
    "disallow": _disallow,
}


def _database(url: str | None) -> int:
    """The number of the store's database in an address."""
    client: Any = connect(url or SOMEWHERE.replace("PORT", "6379"))
    return int(client.connection_pool.connection_kwargs.get("db") or 0)


def _tell_address(url: str, user: WorkerUser, password: str) -> None:
    print(f"COMFYUME_REDIS_URL={user.url(url, password)}")
    print("That is a worker's address of the store. The password is told this once.", file=sys.stderr)
    if urlsplit(url).hostname in LOOPBACK_HOSTS:
        print("On another machine, put the store's name there in place of this machine's.", file=sys.stderr)


def _tell_of_replicas(url: str) -> None:
    if urlsplit(url).scheme == "redis+sentinel":
        print("Replicas are not told of users: do the same on each server, or a failover locks the workers out.")


@contextlib.contextmanager
def _administering(settings: Settings) -> Iterator[tuple[Any, str]]:
    """A client of the workshop's store, and the address that it has.

    Raises:
        CommandError: there is no store, or it does not do what it is asked for; the message says why.
    """
    if settings.redis_url is None:
        raise CommandError(NO_STORE)
    client: Any = connect(settings.redis_url)
    try:
        with store_errors(), _refusals():
            yield client, settings.redis_url
    except QueueError as error:
        raise CommandError(str(error)) from error
    except redis.exceptions.ResponseError as error:
        raise CommandError(f"{REFUSED} It said: {error}") from error
    finally:
        client.close()


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except redis.exceptions.NoPermissionError as error:
        raise CommandError(NOT_ALLOWED) from error
    except redis.exceptions.ResponseError as error:
        if "unknown command" in str(error).lower():
            raise CommandError(NO_USERS) from error
        raise


def _known(client: Any, user: WorkerUser) -> StoredUser | None:
    """What the store has of this user; None if there is no such user.

    Raises:
        CommandError: the user is another workshop's.
    """
    known = StoredUser.read(client, user.name)
    prefix = Keys(user.workshop).prefix
    if known is not None and any(prefix not in pattern for pattern in known.keys):
        raise CommandError(
            f"{user.name} is no user of the workshop {user.workshop}: it may use other keys of this store. "
            "Give this one another NAME."
        )
    return known


def _save(client: Any) -> bool:
    """Write the store's users into its file of them, if it has one."""
    try:
        client.execute_command("ACL", "SAVE")
    except redis.exceptions.ResponseError:
        # No such file, or somebody else's to write.
        return False
    return True
