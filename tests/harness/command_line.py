"""The command line as a program for `python -c`; its first argument is the repository."""

from __future__ import annotations

RUN_COMMANDS = """
import importlib.util, sys
root = sys.argv.pop(1)
spec = importlib.util.spec_from_file_location("comfyume", root + "/__init__.py", submodule_search_locations=[root])
sys.modules["comfyume"] = importlib.util.module_from_spec(spec)
from comfyume.commands.main import main
sys.exit(main())
"""
