"""`comfyume packs`: write down which node packs ComfyUI has here, so that workers that join get the same."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..blobs.filing import write_whole
from ..briefing import LOCK_FILE
from .comfyui_install import HOW_TO_SAY_WHERE, find_folder
from .errors import CommandError
from .node_packs import as_lock, installed_packs
from .workshop_store import SYSTEM_FOLDER


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--save", nargs="?", type=Path, const=Path(), metavar="FILE", help=f"write {LOCK_FILE} here, or to FILE"
    )


def run(options: argparse.Namespace) -> int:
    """Print the lock file, or write it where a frontend on this machine finds it."""
    comfyui = find_folder()
    if comfyui is None:
        raise CommandError(f"No ComfyUI was found. {HOW_TO_SAY_WHERE}")
    packs, problems = installed_packs(comfyui.folder)
    for problem in problems:
        print(problem, file=sys.stderr)
    if options.save is None:
        print(as_lock(packs), end="")
        return 0
    file: Path = options.save if options.save.name else comfyui.folder / SYSTEM_FOLDER / LOCK_FILE
    write_whole(file, as_lock(packs).encode())
    print(f"{len(packs)} node packs are in {file}. A frontend reads it from its user/__comfyume folder.")
    return 0
