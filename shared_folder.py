"""How two machines find out whether they see the same folder."""

from __future__ import annotations

import os
from pathlib import Path

from .blobs.filing import write_once

#: Name of the file that holds a shared folder's random mark.
MARK = ".comfyume-folder"
#: Where a shared folder's workers run their jobs, so that a finished file only needs a new name.
JOBS = ".comfyume-jobs"

#: Where it is noted which files of jobs that have not ended lie at people's.
NOTES = ".comfyume-deliveries"


def read_mark(folder: Path) -> str:
    """The random mark of a shared folder; the first one who looks makes it."""
    path = folder / MARK
    write_once(path, os.urandom(16).hex())
    return path.read_text(encoding="ascii")
