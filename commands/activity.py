"""`comfyume activity`: who did what in a workshop."""

from __future__ import annotations

import argparse
import asyncio
import time

from ..accounts.activity import MOST_READ, ActivityLog
from ..job_queue.connection import connect_async
from ..job_queue.errors import QueueError
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
    with workshop_store.found_store(options) as (url, settings):
        try:
            asyncio.run(_print(options, url, Keys(settings.workshop)))
        except QueueError as error:
            raise CommandError(str(error)) from error
    return 0


async def _print(options: argparse.Namespace, url: str, keys: Keys) -> None:
    client = connect_async(url)
    try:
        entries = await ActivityLog(client, keys).read(most=options.last, who=options.user)
    finally:
        await client.aclose()
    if not entries:
        print("Nothing is in the log.")
    for entry in reversed(entries):
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.at))
        details = "  ".join(f"{name}: {_shown(value)}" for name, value in entry.details.items())
        print(f"{moment}  {entry.who or '(nobody)':<20} {entry.what:<20} {details}".rstrip())


def _shown(value: object) -> str:
    # A prompt's text can have anything in it; a terminal shall show it and not obey it.
    return "".join(char if char.isprintable() else " " for char in str(value))
