"""`comfyume backup`: take a snapshot of the workshop now, also while it runs."""

from __future__ import annotations

import argparse
import sys

from ..workshop_backup import Key, back_up, begun
from . import backup_place, workshop_store

LOUD = """
    A key was made up for this backup:

        {words}

    It is in {file} on this machine. COPY IT TO ANOTHER PLACE NOW, such as a
    password manager or a sheet of paper: should this machine be lost, nothing can be restored
    without it, by nobody. On a new machine, set COMFYUME_BACKUP_KEY to it.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    backup_place.add_arguments(parser)
    parser.add_argument("--reason", default="by hand", help="what `comfyume snapshots` tells of it (%(default)s)")


def run(options: argparse.Namespace) -> int:
    """Take a snapshot."""
    workshop = backup_place.found_workshop(options)
    with backup_place.failures_told():
        vault, key = begun(workshop.settings, workshop.places.system, options.backup)
        tell_of_key(key)
        with workshop_store.found_store(options) as (url, _):
            summary = back_up(
                vault, workshop.settings, workshop.places, url, options.reason, backup_place.progress("Stored")
            )
    print(f"Snapshot {summary.id} in {vault.objects.name}, in {summary.seconds:.1f} s")
    print(f"  {backup_place.described(summary)}")
    for problem in summary.problems:
        print(f"  left out: {problem}")
    return 0


def tell_of_key(key: Key) -> None:
    """Have the person keep a key that was made up just now."""
    if key.made is not None:
        print(LOUD.format(words=key.words, file=key.made), file=sys.stderr, flush=True)
