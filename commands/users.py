"""`comfyume users`: add, list, remove and import the people of a workshop, and change their passwords."""

from __future__ import annotations

import argparse
import getpass
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import redis.asyncio

from ..accounts import htpasswd, passwords
from ..accounts.activity import COMMAND_LINE, ActivityLog
from ..accounts.sessions import Sessions
from ..accounts.users import Role, Users, names_of, without
from ..job_queue.keys import Keys
from . import workshop_store
from .credentials import write_sheet
from .errors import CommandError
from .names import known_names

SHEET = "credentials.csv"
ADDRESS = "http://127.0.0.1:8188"
NO_INSTRUCTOR = "Nobody is an instructor yet: comfyume users add NAME --instructor"


@dataclass(frozen=True)
class Accounts:
    """What the actions work on."""

    users: Users
    sessions: Sessions
    activity: ActivityLog


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions and their options."""
    workshop_store.add_arguments(parser)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    add = actions.add_parser("add", help="add users; a range such as user001..user020 adds twenty")
    add.add_argument("names", nargs="+", metavar="NAME")
    add.add_argument("--instructor", action="store_true", help="they administer the workshop")
    _add_password_arguments(add)

    actions.add_parser("list", help="list users, their roles and where they are signed in")

    remove = actions.add_parser("remove", help="remove users and sign them out; their files stay")
    remove.add_argument("names", nargs="+", metavar="NAME")

    passwd = actions.add_parser("passwd", help="give users new passwords and sign them out")
    passwd.add_argument("names", nargs="+", metavar="NAME")
    _add_password_arguments(passwd)

    importing = actions.add_parser("import", help="add the users of a file that `htpasswd -B` wrote")
    importing.add_argument("file", type=Path)
    importing.add_argument("--instructor", action="store_true", help="they administer the workshop")

    token = actions.add_parser("token", help="print a token with which a script signs in as a user")
    token.add_argument("name")
    token.add_argument("--label", default="a script", help="what the token is for (%(default)s)")


def _add_password_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--generate", action="store_true", help="make passwords up and write them into a sheet")
    parser.add_argument("--sheet", type=Path, default=Path(SHEET), help="file for made up passwords (%(default)s)")
    parser.add_argument("--address", default=ADDRESS, help="where people reach ComfyUI, for links (%(default)s)")


def run(options: argparse.Namespace) -> int:
    """Do what was asked for."""

    async def work(client: redis.asyncio.Redis, keys: Keys) -> None:
        accounts = Accounts(Users(client, keys), Sessions(client, keys), ActivityLog(client, keys))
        await ACTIONS[options.action](options, accounts)
        await accounts.activity.flush()

    return workshop_store.run_on_store(options, work)


async def _add(options: argparse.Namespace, accounts: Accounts) -> None:
    names = [name for text in options.names for name in names_of(text)]
    known = await accounts.users.all()
    taken = [name for name in names if name in known]
    if taken:
        raise CommandError(f"Nobody was added: there are users {', '.join(taken)} already.")
    if len(set(names)) != len(names):
        raise CommandError("Nobody was added: a name is there twice.")
    role: Role = "instructor" if options.instructor else "participant"
    for name, kept in _new_passwords(options, names):
        await accounts.users.add(name, role, kept)
        accounts.activity.note(COMMAND_LINE, "user added", user=name, role=role)
    print(f"Added {_counted(names)} as {role}{'s' if len(names) > 1 else ''}.")
    await _tell_if_nobody_instructs(accounts)


async def _list(_options: argparse.Namespace, accounts: Accounts) -> None:
    users = await accounts.users.all()
    if not users:
        print("No users: the workshop is open to its own machine alone.")
    for user in users.values():
        sessions = await accounts.sessions.of_user(user.name)
        tokens = sum(not session.ends for session in sessions)
        signed_in = len(sessions) - tokens
        added = time.strftime("%Y-%m-%d", time.localtime(user.created))
        told = [f"signed in {signed_in} times"] * (signed_in > 0) + [f"{tokens} tokens"] * (tokens > 0)
        print(f"{user.name:<24} {user.role:<12} added {added}  {', '.join(told)}".rstrip())


async def _remove(options: argparse.Namespace, accounts: Accounts) -> None:
    names = await known_names(options.names, accounts.users)
    for name in names:
        await accounts.users.remove(name)
        accounts.activity.note(COMMAND_LINE, "user removed", user=name)
    print(f"Removed {_counted(names)}. Their files stay where they are.")
    if not await accounts.users.all():
        print("There are no users left, so the workshop is open to its own machine alone.")
    else:
        await _tell_if_nobody_instructs(accounts)


async def _passwd(options: argparse.Namespace, accounts: Accounts) -> None:
    names = await known_names(options.names, accounts.users)
    for name, kept in _new_passwords(options, names):
        await accounts.users.set_password(name, kept)
        accounts.activity.note(COMMAND_LINE, "password changed", user=name)
    print(f"Changed the password of {_counted(names)}, who must sign in anew.")


async def _import(options: argparse.Namespace, accounts: Accounts) -> None:
    try:
        text = options.file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{options.file} cannot be read: {error}") from error
    rows = htpasswd.parse(text)
    known = await accounts.users.all()
    role: Role = "instructor" if options.instructor else "participant"
    new = [(name, kept) for name, kept in rows if name not in known]
    for name, kept in new:
        await accounts.users.add(name, role, kept)
        accounts.activity.note(COMMAND_LINE, "user added", user=name, role=role)
    print(f"Added {_counted([name for name, _ in new])} as {role}{'s' if len(new) != 1 else ''}.")
    if len(new) < len(rows):
        print(f"Left alone, since they are users already: {', '.join(name for name, _ in rows if name in known)}.")
    await _tell_if_nobody_instructs(accounts)


async def _token(options: argparse.Namespace, accounts: Accounts) -> None:
    user = await accounts.users.get(options.name)
    token = await accounts.sessions.begin(user.name, options.label, ends=False)
    accounts.activity.note(COMMAND_LINE, "token made", user=user.name, label=options.label)
    print(token)
    print(f"Send it as `Authorization: Bearer ...`. `comfyume users passwd {user.name}` ends it.", file=sys.stderr)


ACTIONS: dict[str, Callable[[argparse.Namespace, Accounts], Awaitable[None]]] = {
    "add": _add,
    "list": _list,
    "remove": _remove,
    "passwd": _passwd,
    "import": _import,
    "token": _token,
}


def _new_passwords(options: argparse.Namespace, names: Sequence[str]) -> list[tuple[str, str]]:
    """A hash of a new password for each name; made up ones are written down before anything is kept."""
    if options.generate:
        chosen = [passwords.generated() for _ in names]
        write_sheet(options.sheet, list(zip(names, chosen, strict=True)), options.address)
        print(f"Names, passwords and links are in {options.sheet}; they are kept nowhere else.")
    elif len(names) > 1:
        raise CommandError("Passwords for several users are made up: add --generate.")
    else:
        chosen = [_asked_password(names[0])]
    with ThreadPoolExecutor() as pool:
        return list(zip(names, pool.map(passwords.hashed, chosen), strict=True))


def _asked_password(name: str) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass.getpass(f"Password for {name}: ")
    if getpass.getpass("Again: ") != password:
        raise CommandError("The two are not the same; nothing was changed.")
    return password


async def _tell_if_nobody_instructs(accounts: Accounts) -> None:
    users = await accounts.users.all()
    if users and without(users.values(), "instructor"):
        print(NO_INSTRUCTOR)


def _counted(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} users"
