"""`comfyume prune`: remove old snapshots, and what no snapshot needs any more."""

from __future__ import annotations

import argparse
import time

from ..backups import pruning
from ..backups.manifest import moment_of
from ..backups.retention import rules_of
from . import backup_place


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    backup_place.add_arguments(parser)
    parser.add_argument(
        "--keep",
        default="24h=24,7d=7,52w=52",
        metavar="RULES",
        help="24h=24,7d=7 keeps of the last 24 hours 24 snapshots and of the last 7 days 7; the newest always stays "
        "(%(default)s)",
    )
    parser.add_argument("--damaged", action="store_true", help="remove snapshots that cannot be read, too")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(options: argparse.Namespace) -> int:
    """Say what goes, ask, and remove it."""
    workshop = backup_place.found_workshop(options)
    with backup_place.failures_told():
        rules = rules_of(options.keep)
        vault = backup_place.opened_backup(options, workshop)
        planned = pruning.plan(vault, rules, time.time(), damaged=options.damaged)
        print(f"Of {len(planned.goes) + len(planned.stays)} snapshots {len(planned.stays)} stay and these go:")
        for name in planned.goes:
            print(f"  {name}  {backup_place.moment(moment_of(name))}")
        if not planned.goes:
            print("  none; only contents that no snapshot needs are looked for")
        if not backup_place.agreed(options, "Remove them for ever?"):
            print("Nothing was removed.")
            return 0
        done = pruning.prune(vault, planned)
    print(f"Removed {done.snapshots} snapshots and {done.contents} contents, {backup_place.size(done.size)}.")
    return 0
