"""`comfyume activity`: who did what in a workshop."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import redis.asyncio

from ..accounts.activity import MOST_READ, ActivityLog, Entry
from ..job_queue.keys import Keys
from . import workshop_store
from .errors import CommandError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    workshop_store.add_arguments(parser)
    parser.add_argument("--user", help="of this user alone")
    parser.add_argument("--last", type=int, default=50, metavar="N", help="so many entries (%(default)s)")


def run(options: argparse.Namespace) -> int:
    """Print the log, the latest entry last."""
    if not 1 <= options.last <= MOST_READ:
        raise CommandError(f"--last must be 1 to {MOST_READ}.")

    async def work(client: redis.asyncio.Redis, keys: Keys) -> None:
        _print(await ActivityLog(client, keys).read(most=options.last, who=options.user))

    return workshop_store.run_on_store(options, work)


def _print(entries: Sequence[Entry]) -> None:
    if not entries:
        print("Nothing is in the log.")
    for entry in reversed(entries):
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.at))
        details = "  ".join(f"{name}: {_shown(value)}" for name, value in entry.details.items())
        print(f"{moment}  {entry.who or '(nobody)':<20} {entry.what:<20} {details}".rstrip())


def _shown(value: object) -> str:
    # A prompt's text can have anything in it; a terminal shall show it and not obey it.
    return "".join(char if char.isprintable() else " " for char in str(value))
