"""`comfyume version`: what is installed, for a bug report."""

from __future__ import annotations

import argparse
import platform

from .comfyui_install import find_folder
from .errors import CommandError
from .source_tree import ROOT, version


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take none."""


def run(_options: argparse.Namespace) -> int:
    """Print the versions."""
    print(f"comfyume {version()} in {ROOT}")
    print(f"Python {platform.python_version()}")
    try:
        found = find_folder()
    except CommandError as error:
        print(f"ComfyUI: {error}")
    else:
        print(f"ComfyUI {found.version} in {found.folder}" if found else "ComfyUI: not found")
    return 0
