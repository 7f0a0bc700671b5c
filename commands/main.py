"""Parse the command line and run one subcommand."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from .errors import CommandError

#: Subcommand and its line in the help. Each is a module of this package, imported only when it is used.
COMMANDS = {
    "workshop": "start a store, a frontend and a worker on this machine and run a first prompt",
    "users": "add, list and remove the people of a workshop, and change their passwords",
    "workers": "give the workers a user of their own on the store, with no more rights than they need",
    "worker": "make this machine a worker of a workshop, by a link from its instructor",
    "packs": "write down which node packs ComfyUI has here, so that workers that join get the same",
    "limits": "set what people may use, see what they have used, and grant credits",
    "models": "tell which models the workshop needs, bring them here, keep them in a bucket, and check them",
    "cost": "tell what the workshop costs so far, and by its end",
    "activity": "tell who did what",
    "backup": "take a snapshot of the workshop: files, settings, people and queue",
    "snapshots": "list the snapshots",
    "restore": "bring back what a snapshot holds, all of it or a part",
    "prune": "remove old snapshots",
    "test": "pass the tests; further arguments go to pytest",
    "version": "print the versions of comfyume, Python and ComfyUI",
}
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="comfyume",
        description="Share GPUs in ComfyUI: one frontend for many people, workers that run their prompts.",
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, summary in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary, description=summary.capitalize() + ".")
        # pytest's options are not ours to parse.
        if given[:1] == [name]:
            importlib.import_module(f".{name}", __package__).add_arguments(subparser)
    if given[:1] == ["test"] and not {"-h", "--help"} & set(given[1:2]):
        options = argparse.Namespace(command="test", pytest_arguments=given[1:])
    else:
        options = parser.parse_args(given)
    if options.command is None:
        parser.print_help()
        return 0
    for number in STOP_SIGNALS:
        signal.signal(number, _stop)
    try:
        return int(importlib.import_module(f".{options.command}", __package__).run(options))
    except CommandError as error:
        print(f"comfyume: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _stop(number: int, _frame: FrameType | None) -> None:
    """Let every way of asking for an end (Ctrl-C, kill, a closed terminal) take the same path through `finally`."""
    raise KeyboardInterrupt(signal.Signals(number).name)


if __name__ == "__main__":
    sys.exit(main())
