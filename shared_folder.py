"""How two machines find out whether they see the same folder."""

from __future__ import annotations

import os
from pathlib import Path

#: Name of the file that holds a shared folder's random mark.
MARK = ".comfyume-folder"
#: Where a shared folder's workers run their jobs, so that a finished file only needs a new name.
JOBS = ".comfyume-jobs"

#: Where it is noted which files of jobs that have not ended lie at people's.
NOTES = ".comfyume-deliveries"


def read_mark(folder: Path) -> str:
    """The random mark of a shared folder; the first one who looks makes it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MARK
    new = folder / f"{MARK}.{os.getpid()}"
    if not path.exists():
        new.write_text(os.urandom(16).hex(), encoding="ascii")
        try:
            # A link is never half there, and fails if somebody else was first.
            os.link(new, path)
        except FileExistsError:
            pass
        finally:
            new.unlink()
    return path.read_text(encoding="ascii")
