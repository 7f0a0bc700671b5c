"""`comfyume snapshots`: list the snapshots of the workshop, the oldest first."""

from __future__ import annotations

import argparse

from ..backups.manifest import moment_of
from . import backup_place


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    backup_place.add_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """List them."""
    workshop = backup_place.found_workshop(options)
    with backup_place.failures_told():
        vault = backup_place.opened_backup(options, workshop)
        found = vault.summaries(vault.snapshots())
    if not found:
        print("There is no snapshot yet. Make one: comfyume backup")
    for name, summary in found.items():
        when = backup_place.moment(moment_of(name))
        if summary is None:
            print(f"{name}  {when}  damaged: what it holds cannot be read")
            continue
        left = f"; {len(summary.problems)} things left out" if summary.problems else ""
        what = f"of the worker {summary.machine} alone: " if summary.machine else ""
        print(f"{name}  {when}  {what}{backup_place.described(summary)}{left}  ({summary.reason or 'no reason told'})")
    return 0
