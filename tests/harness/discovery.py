"""Finds the ComfyUI checkouts that the tests run against."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Label = Literal["new", "old"]
LABELS: tuple[Label, ...] = ("new", "old")

NEW_DEFAULT = "~/comfy/ComfyUI"
OLD_DEFAULT = "~/comfy/ComfyUI-0.11.0"
OLD_FRONTEND_DEFAULT = "~/comfy/frontend-1.37.11/comfyui_frontend_package/static"


class ComfyMissingError(Exception):
    """No ComfyUI where the settings point; the message says what to set."""


@dataclass(frozen=True)
class ComfyInstall:
    """One ComfyUI checkout and the Python that runs it."""

    label: str
    path: Path
    python: Path
    frontend_root: Path | None = None

    @property
    def version(self) -> str:
        """ComfyUI's own version, for example ``0.33.0``."""
        text = (self.path / "comfyui_version.py").read_text(encoding="utf-8")
        found = re.search(r'__version__\s*=\s*"([^"]+)"', text)
        return found.group(1) if found else "unknown"

    @property
    def main_args(self) -> list[str]:
        """Arguments that every start of this checkout's ``main.py`` needs."""
        return ["--front-end-root", str(self.frontend_root)] if self.frontend_root else []


def find(label: Label, environ: Mapping[str, str] | None = None) -> ComfyInstall:
    """Find the new or the old ComfyUI.

    Raises:
        ComfyMissingError: there is none; its message names the variable to set.
    """
    environ = os.environ if environ is None else environ
    if label == "new":
        variable = "COMFYUI_PATH"
        given = environ.get(variable) or environ.get("COMFYUME_TEST_COMFYUI") or NEW_DEFAULT
    else:
        variable = "COMFYUME_TEST_COMFYUI_OLD"
        given = environ.get(variable) or OLD_DEFAULT
    path = Path(given).expanduser()
    if not (path / "main.py").is_file():
        raise ComfyMissingError(f"no ComfyUI ({label}) at {path}: set {variable} to a checkout")
    return at(path, environ, label=label)


def at(path: Path, environ: Mapping[str, str] | None = None, label: str = "given") -> ComfyInstall:
    """Describe the checkout at ``path``; the interface that v0.11 needs is added by its version."""
    environ = os.environ if environ is None else environ
    install = ComfyInstall(label, path.expanduser().resolve(), _python(path.expanduser(), environ))
    if re.match(r"0\.(\d|1\d|2\d)\.", install.version):
        frontend = Path(environ.get("COMFYUME_TEST_FRONTEND_OLD") or OLD_FRONTEND_DEFAULT).expanduser()
        if frontend.is_dir():
            return ComfyInstall(install.label, install.path, install.python, frontend)
    return install


def _python(path: Path, environ: Mapping[str, str]) -> Path:
    given = environ.get("COMFYUME_PYTHON")
    # not resolved: a virtual environment is known by the path its interpreter is called by
    candidates = [path / ".venv/bin/python", path / "venv/bin/python", *([Path(given)] if given else [])]
    return next((candidate.absolute() for candidate in candidates if candidate.is_file()), Path(sys.executable))
