"""The sheet of names, passwords and links that an instructor hands out; written once, since only hashes are kept."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from .errors import CommandError


def personal_link(address: str, name: str, password: str) -> str:
    """A link that signs in. What is behind `#` stays in the browser: it reaches no server and no log."""
    return f"{address.rstrip('/')}/comfyume/sign-in#user={quote(name, safe='')}&password={quote(password, safe='')}"


def write_sheet(path: Path, rows: Sequence[tuple[str, str]], address: str) -> None:
    """Write names, passwords and links as CSV, readable for this account alone.

    Raises:
        CommandError: there is such a file already, or it cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise CommandError(f"{path} exists already: move it away, or name another file with --sheet.") from error
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}. Name another file with --sheet.") from error
    with open(descriptor, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("name", "password", "link"))
        writer.writerows((name, password, personal_link(address, name, password)) for name, password in rows)
        file.flush()
        os.fsync(file.fileno())
