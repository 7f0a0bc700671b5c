"""The folder that comfyume itself lies in, and what its pyproject.toml says."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements.txt"


def version() -> str:
    """Return the version in pyproject.toml, read without a TOML parser: this must work before anything is installed."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r'^version\s*=\s*"([^"]+)"', text, re.MULTILINE)
    return found[1] if found else "unknown"


def is_comfyume(folder: Path) -> bool:
    """Tell whether a folder is a copy of comfyume, by the name in its pyproject.toml."""
    try:
        text = (folder / "pyproject.toml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return re.search(r'^name\s*=\s*"comfyume"', text, re.MULTILINE) is not None
