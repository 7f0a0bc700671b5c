"""Makes this repository importable as ``comfyume`` without an install.

The repository root is the package, whatever the checkout is called. Run by path, since it is needed
before anything can be imported from here: ``runpy.run_path(".../package.py")["register"]()``.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

NAME = "comfyume"
ROOT = Path(__file__).resolve().parents[2]


def register(root: Path = ROOT) -> None:
    """Put ``root`` into ``sys.modules`` as the package ``comfyume``, once."""
    if NAME in sys.modules:
        return
    init = root / "__init__.py"
    if init.is_file():
        spec = importlib.util.spec_from_file_location(NAME, init, submodule_search_locations=[str(root)])
    else:
        spec = ModuleSpec(NAME, None, is_package=True)
        spec.submodule_search_locations = [str(root)]
    if spec is None:
        raise ImportError(f"{init} cannot be loaded as {NAME}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    if spec.loader is not None:
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[NAME]
            raise
