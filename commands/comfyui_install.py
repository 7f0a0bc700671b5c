"""Find ComfyUI on this machine, or have comfy-cli install it."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import CommandError
from .source_tree import REQUIREMENTS, is_comfyume

#: Where comfy-cli installs ComfyUI when it is told nothing else.
DEFAULT_FOLDER = Path("comfy") / "ComfyUI"
OLDEST_VERSION = (0, 11, 0)
HOW_TO_SAY_WHERE = (
    "Set COMFYUI_PATH to the folder that holds ComfyUI's main.py, "
    "or install it with `pip install comfy-cli` and `comfy install`."
)

#: Prints, as JSON, the lines of a requirements file (its path is the argument) that this Python does not meet.
MISSING_REQUIREMENTS = """
import json, sys
from importlib import metadata
try:
    from packaging.requirements import Requirement
except ImportError:
    from pip._vendor.packaging.requirements import Requirement

def met(requirement, extra=""):
    if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
        return True
    try:
        found = metadata.distribution(requirement.name)
    except metadata.PackageNotFoundError:
        return False
    if not requirement.specifier.contains(found.version, prereleases=True):
        return False
    lines = [Requirement(line) for line in found.requires or [] if "extra" in line]
    return all(met(line, name) for name in requirement.extras for line in lines)

lines = [line.strip() for line in open(sys.argv[1], encoding="utf-8")]
print(json.dumps([line for line in lines if line and not line.startswith("#") and not met(Requirement(line))]))
"""


@dataclass(frozen=True)
class ComfyUIFolder:
    """A checkout of ComfyUI."""

    folder: Path
    version: str


@dataclass(frozen=True)
class ComfyUI:
    """A checkout of ComfyUI and the Python that runs it."""

    folder: Path
    version: str
    python: Path


def find_folder(environ: Mapping[str, str] = os.environ) -> ComfyUIFolder | None:
    """Find ComfyUI: `COMFYUI_PATH`, else comfy-cli's workspace, else None.

    Raises:
        CommandError: `COMFYUI_PATH` names a folder that is no ComfyUI.
    """
    told = environ.get("COMFYUI_PATH")
    if told:
        folder = Path(told).expanduser().absolute()
        if not is_comfyui(folder):
            raise CommandError(f"COMFYUI_PATH is {told}, but there is no ComfyUI: set it to the folder with main.py.")
        return ComfyUIFolder(folder, read_version(folder))
    for folder in comfy_cli_workspaces(Path(environ.get("HOME", "/"))):
        if is_comfyui(folder):
            return ComfyUIFolder(folder, read_version(folder))
    return None


def find(environ: Mapping[str, str] = os.environ) -> ComfyUI | None:
    """Find ComfyUI and its Python; None when there is no ComfyUI.

    Raises:
        CommandError: what was found cannot be used.
    """
    found = find_folder(environ)
    if found is None:
        return None
    numbers = tuple(int(number) for number in re.findall(r"\d+", found.version)[:3])
    if numbers and numbers < OLDEST_VERSION:
        oldest = ".".join(map(str, OLDEST_VERSION))
        raise CommandError(f"{found.folder} is ComfyUI {found.version}; comfyume needs {oldest} or newer: update it.")
    return ComfyUI(found.folder, found.version, find_python(found.folder, environ))


def is_comfyui(folder: Path) -> bool:
    """Tell whether a folder is a checkout of ComfyUI."""
    return all((folder / name).is_file() for name in ("main.py", "execution.py", "folder_paths.py"))


def read_version(folder: Path) -> str:
    """Return ComfyUI's version, or `unknown`."""
    try:
        text = (folder / "comfyui_version.py").read_text(encoding="utf-8")
    except OSError:
        return "unknown"
    found = re.search(r'__version__\s*=\s*"([^"]+)"', text)
    return found[1] if found else "unknown"


def comfy_cli_workspaces(home: Path) -> list[Path]:
    """List the folders where comfy-cli would look, in its order, from its config file alone."""
    config = configparser.ConfigParser(interpolation=None)
    try:
        config.read(home / ".config" / "comfy-cli" / "config.ini", encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        config = configparser.ConfigParser()
    named = [config.defaults().get(key) for key in ("default_workspace", "recent_workspace")]
    return [Path(path).expanduser() for path in named if path] + [home / DEFAULT_FOLDER]


def find_python(folder: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Find the Python that runs this ComfyUI: `COMFYUME_PYTHON`, its own environment, or the current one.

    Raises:
        CommandError: none of them can run it.
    """
    told = environ.get("COMFYUME_PYTHON")
    if told:
        return _checked_python(Path(told), f"COMFYUME_PYTHON is {told}")
    for name in (".venv", "venv"):
        python = folder / name / "bin" / "python"
        if python.is_file():
            return _checked_python(python, f"ComfyUI's own Python is {python}")
    try:
        return _checked_python(Path(sys.executable), f"the only Python found is {sys.executable}")
    except CommandError as error:
        raise CommandError(
            f"No Python was found that can run {folder}: set COMFYUME_PYTHON to the one that you start ComfyUI with."
        ) from error


def _checked_python(python: Path, what: str) -> Path:
    try:
        outcome = subprocess.run([python, "-c", "import torch, aiohttp"], capture_output=True, text=True, check=False)
    except OSError as error:
        raise CommandError(f"{what}, which cannot be started ({error.strerror}).") from error
    if outcome.returncode != 0:
        reason = (outcome.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise CommandError(f"{what}, which cannot run ComfyUI ({reason}): install ComfyUI's requirements with it.")
    return python


def gpu_count() -> int:
    """Return how many NVIDIA GPUs this machine has; 0 where there is no driver."""
    if shutil.which("nvidia-smi") is None:
        return 0
    outcome = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in outcome.stdout.splitlines()) if outcome.returncode == 0 else 0


def install(environ: Mapping[str, str] = os.environ) -> ComfyUI:
    """Have comfy-cli install ComfyUI in its default folder, telling what is done.

    Raises:
        CommandError: it could not; the message says how to do it by hand.
    """
    folder = Path(environ.get("HOME", "/")) / DEFAULT_FOLDER
    hardware = "--nvidia" if gpu_count() else "--cpu"
    print(f"No ComfyUI was found. Installing it in {folder} with comfy-cli ({hardware}); this takes some minutes.")
    comfy = Path(sys.executable).with_name("comfy")
    if not comfy.is_file():
        _run_aloud([sys.executable, "-m", "pip", "install", "--quiet", "comfy-cli"], environ)
    _run_aloud([str(comfy), "--skip-prompt", "--workspace", str(folder), "install", hardware], environ)
    found = find({**environ, "COMFYUI_PATH": str(folder)})
    if found is None:
        raise CommandError(f"comfy-cli left no ComfyUI in {folder}. {HOW_TO_SAY_WHERE}")
    return found


def _run_aloud(command: list[str], environ: Mapping[str, str]) -> None:
    print(f"  $ {' '.join(command)}", flush=True)
    # comfy-cli gives ComfyUI an environment of its own only when it is not told that it runs in one.
    kept = {name: value for name, value in environ.items() if name not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    try:
        outcome = subprocess.run(command, env={**kept, "DO_NOT_TRACK": "1"}, stdin=subprocess.DEVNULL, check=False)
    except OSError as error:
        raise CommandError(f"ComfyUI could not be installed ({error}). {HOW_TO_SAY_WHERE}") from error
    if outcome.returncode != 0:
        raise CommandError(f"ComfyUI could not be installed (exit status {outcome.returncode}). {HOW_TO_SAY_WHERE}")


def missing_requirements(python: Path) -> list[str]:
    """List our requirements that a Python does not meet."""
    command = [str(python), "-c", MISSING_REQUIREMENTS, str(REQUIREMENTS)]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    if outcome.returncode != 0:
        reason = (outcome.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise CommandError(f"{python} could not be asked what it has installed ({reason}).")
    return [str(line) for line in json.loads(outcome.stdout)]


def ensure_requirements(comfyui: ComfyUI) -> None:
    """Install what comfyume needs into ComfyUI's environment, if something is missing there, and say so.

    Raises:
        CommandError: pip could not.
    """
    missing = missing_requirements(comfyui.python)
    if not missing:
        return
    print(f"Installing into ComfyUI's environment: {', '.join(missing)}.", flush=True)
    command = [str(comfyui.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    status = subprocess.run([*command, "-r", str(REQUIREMENTS)], stdin=subprocess.DEVNULL, check=False).returncode
    if status != 0:
        raise CommandError(
            f"What comfyume needs could not be installed into ComfyUI's environment: "
            f"run `{comfyui.python} -m pip install -r {REQUIREMENTS}` and look at its messages."
        )


def installed_extension(folder: Path) -> Path | None:
    """Return the copy of comfyume in ComfyUI's own custom_nodes folder, if there is one that is not disabled."""
    try:
        entries = sorted((folder / "custom_nodes").iterdir())
    except OSError:
        return None
    return next((entry for entry in entries if entry.suffix != ".disabled" and is_comfyume(entry)), None)
