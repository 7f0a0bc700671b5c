"""Takes one snapshot in a process of its own, so that no request waits for it; run by path.

Its standard input brings a line of JSON, see ``backups.py``; its output is a line too: the snapshot, or why there is
none. When the frontend has gone, standard input ends and so does this.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

#: Takes what others leave of the processor.
NICE = 10
ROOT = Path(__file__).resolve().parent.parent


def _import_package() -> None:
    """Make the package importable under its name, whatever its folder is called."""
    spec = importlib.util.spec_from_file_location(
        "comfyume", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    if spec is None:
        raise ImportError(f"{ROOT} is no copy of comfyume")
    # Its own code is ComfyUI's business, so it is not run.
    sys.modules["comfyume"] = importlib.util.module_from_spec(spec)


def snapshot(asked: dict[str, Any]) -> dict[str, Any]:
    """Take it; returns what is told."""
    # The package can be imported only once main has found it.
    from comfyume.backups.errors import BackupError  # noqa: PLC0415
    from comfyume.blobs.errors import BlobError  # noqa: PLC0415
    from comfyume.job_queue.errors import QueueError  # noqa: PLC0415
    from comfyume.settings import Settings  # noqa: PLC0415
    from comfyume.workshop_backup import Places, back_up, begun  # noqa: PLC0415

    settings = Settings.model_validate(asked["settings"])
    places = Places(**{name: Path(path) for name, path in asked["places"].items()})
    try:
        vault, key = begun(settings, places.system, is_new=asked["is_new"])
        summary = back_up(vault, settings, places, asked["url"], asked["reason"])
    except (BackupError, BlobError, QueueError) as error:
        return {"error": str(error)}
    except OSError as error:
        return {"error": f"{error.filename or 'A file'}: {error.strerror or error}"}
    return {"summary": asdict(summary), "made": str(key.made) if key.made is not None else ""}


def _end_with_the_frontend() -> None:
    sys.stdin.read()
    os._exit(1)


def main() -> None:
    """Read what is asked for, and do it."""
    _import_package()
    asked = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_frontend, daemon=True).start()
    with contextlib.suppress(OSError):
        os.nice(NICE)
    sys.stdout.write(json.dumps(snapshot(asked)) + "\n")
    sys.stdout.flush()
    # The thread still reads.
    os._exit(0)


if __name__ == "__main__":
    main()
