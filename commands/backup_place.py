"""What the commands about backups have in common: the folders of the workshop, the backup, and asking."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..backups.errors import BackupError
from ..backups.manifest import Summary
from ..backups.snapshot import Progress
from ..backups.vault import Vault
from ..blobs.errors import BlobError
from ..job_queue.errors import QueueError
from ..model_vault.shelves import FOLDER
from ..settings import Settings
from ..workshop_backup import Places, opened
from . import workshop_store
from .comfyui_install import find_folder
from .errors import CommandError
from .workshop import default_state

#: ComfyUI's own flags by which its folders are elsewhere.
FOLDERS = ("base", "input", "output", "user")
#: Seconds between two lines about how far it has come, where nobody sees them change.
TOLD_AFTER = 10.0


@dataclass(frozen=True)
class Workshop:
    """The workshop that a command is about."""

    settings: Settings
    places: Places


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how the workshop and its backup are found."""
    workshop_store.add_arguments(parser)
    parser.add_argument(
        "--backup", default="", metavar="PLACE", help="s3://NAME/PREFIX or a folder, instead of COMFYUME_BACKUP"
    )
    for name in FOLDERS:
        parser.add_argument(
            f"--{name}-directory", type=Path, metavar="FOLDER", help="as ComfyUI was started with it, if it was"
        )


def found_workshop(options: argparse.Namespace) -> Workshop:
    """The folders and settings of the workshop.

    Raises:
        CommandError: there is none, or a setting is wrong.
    """
    state: Path | None = options.state
    base: Path | None = options.base_directory
    shared: Path | None = None
    if base is None and (state is not None or _is_stood_up()):
        state = (state or default_state()).expanduser().absolute()
        base, shared = state / "frontend", state / "files"
    elif base is None:
        comfyui = find_folder()
        if comfyui is None and None in (options.input_directory, options.output_directory, options.user_directory):
            raise CommandError("There is no ComfyUI here. Set COMFYUI_PATH, or name its folders: --base-directory")
        base = comfyui.folder if comfyui is not None else Path()
    user = (options.user_directory or base / "user").expanduser().absolute()
    options.system_folder = user / workshop_store.SYSTEM_FOLDER.name
    settings = workshop_store.loaded_settings(options.system_folder)
    root = shared or settings.shared_folder or base
    places = Places(
        (options.input_directory or root / "input").expanduser().absolute(),
        (options.output_directory or root / "output").expanduser().absolute(),
        user,
        options.system_folder,
        Path.home(),
        (shared or settings.shared_folder or options.system_folder) / FOLDER,
    )
    return Workshop(settings, places)


def _is_stood_up() -> bool:
    """Whether `comfyume workshop` has been used here, and no other store is named."""
    return (default_state() / "store").is_dir() and workshop_store.loaded_settings().redis_url is None


@contextlib.contextmanager
def failures_told() -> Iterator[None]:
    """Turn what can go wrong into a sentence. Raises ``CommandError``."""
    try:
        yield
    except (BackupError, BlobError, QueueError) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{error.filename or 'A file'}: {error.strerror or error}") from error


def opened_backup(options: argparse.Namespace, workshop: Workshop) -> Vault:
    """The backup that there is. Raises as ``workshop_backup.opened``."""
    return opened(workshop.settings, workshop.places.system, options.backup)


def agreed(options: argparse.Namespace, question: str) -> bool:
    """Ask whether to go on.

    Raises:
        CommandError: there is nobody to ask.
    """
    if options.yes:
        return True
    if not sys.stdin.isatty():
        raise CommandError("Nothing was changed. Add --yes to do it without being asked.")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def progress(verb: str) -> Progress:
    """Tells on the terminal how far it has come."""
    told = time.monotonic()

    def tell(state: Progress) -> None:
        nonlocal told
        if sys.stderr.isatty() or time.monotonic() - told > TOLD_AFTER:
            told = time.monotonic()
            end = "\r" if sys.stderr.isatty() else "\n"
            print(f"{verb} {state.files} of {state.of} files, {size(state.size)}", end=end, file=sys.stderr, flush=True)

    return Progress(told=tell)


def size(count: int) -> str:
    """Bytes as people read them."""
    for unit, one in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= one:
            return f"{count / one:.3g} {unit}"
    return f"{count} bytes"


def moment(seconds: float) -> str:
    """A moment as people read it, by this machine's clock."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def described(summary: Summary) -> str:
    """What a snapshot holds, in one line."""
    told = f"{summary.files:,} files, {size(summary.size)}; new {summary.new_files:,}, {size(summary.new_size)}"
    if summary.facts:
        users, live, ended = (summary.facts.get(name, 0) for name in ("users", "live", "ended"))
        told += f"; {users} users, {live} jobs in the queue, {ended} ended"
    return told
