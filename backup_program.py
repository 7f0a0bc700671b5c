"""Works on the backup in a process of its own, so that no request waits for it; run by path, see ``backup_runs.py``.

Its standard input brings a line of JSON: what to do, and with which settings. Its output is lines of JSON: how far a
snapshot has come, and in the last one what was asked for, or why it did not work. When who asked has gone, standard
input ends and so does this.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from comfyume.backups.snapshot import Progress
    from comfyume.backups.vault import Vault

#: Takes what others leave of the processor.
NICE = 10
ROOT = Path(__file__).resolve().parent
#: Seconds between two words about how far it has come.
TOLD_AFTER = 0.5
#: Snapshots that a list tells of, and things that are not in one.
MOST_LISTED, MOST_PROBLEMS = 20, 20
#: Beside those of the workshop: snapshots that workers took of their own files.
MOST_OF_MACHINES = 10


def _import_package() -> None:
    """Make the package importable under its name, whatever its folder is called."""
    spec = importlib.util.spec_from_file_location(
        "comfyume", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    if spec is None:
        raise ImportError(f"{ROOT} is no copy of comfyume")
    # Its own code is ComfyUI's business, so it is not run.
    sys.modules["comfyume"] = importlib.util.module_from_spec(spec)


def _say(told: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


class _Telling:
    """Says now and then how far a snapshot has come; its threads call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told = float("-inf")

    def __call__(self, progress: Progress) -> None:
        if time.monotonic() - self._told < TOLD_AFTER or not self._lock.acquire(blocking=False):
            return
        try:
            self._told = time.monotonic()
            _say({"progress": {"files": progress.files, "of": progress.of, "size": progress.size}})
        finally:
            self._lock.release()


def snapshot(asked: dict[str, Any]) -> dict[str, Any]:
    """Take one of the workshop."""
    # The package can be imported only once main has found it.
    from comfyume.backups.snapshot import Progress  # noqa: PLC0415
    from comfyume.settings import Settings  # noqa: PLC0415
    from comfyume.workshop_backup import Places, back_up, begun  # noqa: PLC0415

    settings = Settings.model_validate(asked["settings"])
    places = Places(**{name: Path(path) for name, path in asked["places"].items()})
    vault, key = begun(settings, places.system, is_new=asked["is_new"])
    summary = back_up(vault, settings, places, asked["url"], asked["reason"], Progress(told=_Telling()))
    return {"summary": asdict(summary), "made": str(key.made) if key.made is not None else ""}


def machine(asked: dict[str, Any]) -> dict[str, Any]:
    """Take one of a worker's own files."""
    from comfyume.settings import Settings  # noqa: PLC0415 - as above
    from comfyume.workshop_backup import back_up_machine  # noqa: PLC0415

    settings = Settings.model_validate(asked["settings"])
    return {"summary": asdict(back_up_machine(settings, Path(asked["system"]), asked["reason"]))}


def listing(asked: dict[str, Any]) -> dict[str, Any]:
    """The newest snapshots of the workshop and of machines, the newest first; none where no backup has begun."""
    from comfyume.backups.errors import NoBackup  # noqa: PLC0415 - as above
    from comfyume.settings import Settings  # noqa: PLC0415
    from comfyume.workshop_backup import KeyMissing, opened  # noqa: PLC0415

    try:
        vault = opened(Settings.model_validate(asked["settings"]), Path(asked["system"]))
    except (NoBackup, KeyMissing):
        if not asked["is_new"]:
            raise
        return {"snapshots": []}
    return {"snapshots": _newest(vault)}


def _newest(vault: Vault) -> list[dict[str, Any]]:
    from comfyume.backups.manifest import mark_of, moment_of  # noqa: PLC0415 - as above

    both = ([name for name in vault.snapshots() if bool(mark_of(name)) == is_machines] for is_machines in (False, True))
    workshops, machines = both
    found = vault.summaries(sorted(workshops[-MOST_LISTED:] + machines[-MOST_OF_MACHINES:]))
    told = []
    for name, summary in reversed(found.items()):
        each = {"id": name, "taken": moment_of(name), "is_damaged": summary is None}
        if summary is not None:
            parts = ("reason", "host", "machine", "files", "size", "new_files", "new_size", "seconds")
            each |= {part: getattr(summary, part) for part in parts}
        each["problems"] = list(summary.problems[:MOST_PROBLEMS]) if summary is not None else []
        each["more_problems"] = max(0, len(summary.problems) - MOST_PROBLEMS) if summary is not None else 0
        told.append(each)
    return told


WORKS = {"snapshot": snapshot, "machine": machine, "listing": listing}


def done(asked: dict[str, Any]) -> dict[str, Any]:
    """Do what is asked; returns what is told."""
    from comfyume.backups.errors import BackupError  # noqa: PLC0415 - as above
    from comfyume.blobs.errors import BlobError  # noqa: PLC0415
    from comfyume.job_queue.errors import QueueError  # noqa: PLC0415

    try:
        return WORKS[asked["work"]](asked)
    except (BackupError, BlobError, QueueError) as error:
        return {"error": str(error)}
    except OSError as error:
        return {"error": f"{error.filename or 'A file'}: {error.strerror or error}"}


def _end_with_who_asked() -> None:
    sys.stdin.read()
    os._exit(1)


def main() -> None:
    """Read what is asked for, and do it."""
    _import_package()
    asked = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_who_asked, daemon=True).start()
    with contextlib.suppress(OSError):
        os.nice(NICE)
    _say(done(asked))
    # The thread still reads.
    os._exit(0)


if __name__ == "__main__":
    main()
