"""`comfyume test`: install what the tests need, then run ruff and pytest."""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

from . import comfyui_install
from .errors import CommandError
from .source_tree import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: Programs that some tests need, and what installs them on Debian.
PROGRAMS = (
    ("a store", ("redis-server", "valkey-server"), "redis-server"),
    ("a browser", ("chromium", "chromium-browser", "google-chrome"), "chromium"),
    # Debian keeps it where only root's PATH leads.
    ("nginx", ("nginx", "/usr/sbin/nginx"), "nginx-light"),
    ("Caddy", ("caddy",), "caddy"),
)


#: Halves of the whole suite that run side by side. What measures times is marked ``alone``: it would measure the other
#: half too.
ONE_HALF = ["tests/acceptance", "tests/api", "tests/harness"]
OTHER_HALF = ["tests/integration", "tests/unit", "tests/browser"]
#: With the older ComfyUI only what hangs on its seams; `./comfyume test tests` runs everything with both.
WITH_BOTH = "(seams or not old)"
BESIDE = ["-m", f"not alone and {WITH_BOTH}", "--durations", "25"]
ALONE = ["-m", f"alone and {WITH_BOTH}"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what goes to pytest."""
    parser.add_argument("pytest_arguments", nargs="*", metavar="PYTEST_ARGUMENT", help="as in `comfyume test -k queue`")


def run(options: argparse.Namespace) -> int:
    """Run ruff and, whatever it finds, the tests; the exit status is that of the first that fails."""
    if not (ROOT / "tests" / "pytest.ini").is_file():
        raise CommandError("The tests are not installed with comfyume: clone its repository and run `./comfyume test`.")
    ensure_test_requirements()
    environment = {**os.environ, **comfyui_environment()}
    # ComfyUI is started more than a hundred times: without compiled modules each start takes a fifth longer.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    for line in missing_programs():
        print(line)
    print("ruff check", flush=True)
    checked = subprocess.run([sys.executable, "-m", "ruff", "check", "."], cwd=ROOT, check=False).returncode
    arguments: list[str] = options.pytest_arguments
    tested = _pytest(_with_paths(arguments), environment) if arguments else _whole_suite(environment)
    if checked != 0:
        print("ruff check failed; its findings are above the tests' output.", flush=True)
    return checked or tested


def _with_paths(arguments: list[str]) -> list[str]:
    """A path among the arguments, as seen from the repository root, replaces the whole of the tests."""
    has_path = any((ROOT / argument.split("::")[0]).exists() for argument in arguments)
    return arguments if has_path else ["tests", *arguments]


def _whole_suite(environment: dict[str, str]) -> int:
    """Run the two halves side by side, then what measures, alone."""
    with tempfile.TemporaryFile("w+") as output:
        beside = _start([*OTHER_HALF, *BESIDE], environment, output)
        try:
            first = _pytest([*ONE_HALF, *BESIDE], environment)
        except BaseException:
            beside.kill()
            raise
        second = beside.wait()
        output.seek(0)
        shutil.copyfileobj(output, sys.stdout)
    sys.stdout.flush()
    third = _pytest([*ONE_HALF, *OTHER_HALF, *ALONE], environment)
    fourth = _pytest(["tests/chaos"], environment)
    return first or second or third or fourth


def _pytest(arguments: list[str], environment: dict[str, str]) -> int:
    return _start(arguments, environment).wait()


def _start(arguments: list[str], environment: dict[str, str], output: IO[str] | None = None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pytest", "-c", "tests/pytest.ini", *arguments]
    print(" ".join(command[1:]), flush=True)
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output and subprocess.STDOUT)


def test_requirements() -> list[str]:
    """Return pyproject's extra `test`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [str(line) for line in project["optional-dependencies"]["test"]]


def ensure_test_requirements() -> None:
    """Install the extra `test` into this environment, unless that was done for just this list.

    Raises:
        CommandError: pip failed, or this Python is not in an environment of its own.
    """
    requirements = test_requirements()
    stamp = Path(sys.prefix) / ".comfyume-test-requirements"
    wanted = hashlib.sha256("\n".join(requirements).encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    if sys.prefix == sys.base_prefix:
        raise CommandError(
            "The tests install packages, so they need an environment of their own: run `./comfyume test`."
        )
    print("Installing what the tests need (once, some minutes).", flush=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
    if subprocess.run(command, check=False).returncode != 0:
        raise CommandError("What the tests need could not be installed; check the network and try again.")
    stamp.write_text(wanted)


def comfyui_environment() -> dict[str, str]:
    """Tell the tests where ComfyUI is, and make sure that it can load comfyume. Without one, say what will happen."""
    try:
        comfyui = comfyui_install.find()
        if comfyui is not None:
            comfyui_install.ensure_requirements(comfyui)
    except CommandError as error:
        print(f"The tests that need ComfyUI are skipped. {error}")
        return {}
    if comfyui is None:
        print(f"No ComfyUI was found: the tests that need one are skipped. {comfyui_install.HOW_TO_SAY_WHERE}")
        return {}
    print(f"ComfyUI {comfyui.version} in {comfyui.folder}, run by {comfyui.python}")
    return {"COMFYUI_PATH": str(comfyui.folder), "COMFYUME_PYTHON": str(comfyui.python)}


def missing_programs() -> list[str]:
    """Return a sentence for each program that is missing here."""
    return [
        f"Tests that need {what} are skipped, because there is none: install it with `apt install {package}`."
        for what, names, package in PROGRAMS
        if not any(shutil.which(name) for name in names)
    ]
