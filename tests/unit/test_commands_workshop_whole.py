"""`comfyume workshop` as a person runs it: real store, real ComfyUI processes, real signals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from comfyume.commands.comfyui_process import free_port
from comfyume.commands.source_tree import ROOT
from comfyume.tests.harness.command_line import RUN_COMMANDS

if TYPE_CHECKING:
    from comfyume.tests.harness.discovery import ComfyInstall

PNG = b"\x89PNG\r\n\x1a\n"
READY_SECONDS = 100

pytestmark = pytest.mark.acceptance


class Launched:
    """A running `comfyume workshop`."""

    def __init__(self, comfyui: ComfyInstall, state: Path, *options: str) -> None:
        self.state = state
        self.output = state.with_suffix(".txt")
        # Not through the launcher: the environment that runs the tests has all it would install.
        command = [sys.executable, "-c", RUN_COMMANDS, str(ROOT), "workshop", "--state", str(state)]
        environ = {**os.environ, "COMFYUI_PATH": str(comfyui.path), "COMFYUME_PYTHON": str(comfyui.python)}
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, "--port", str(free_port()), *options],
                env={**environ, "PYTHONUNBUFFERED": "1"},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def url(self) -> str:
        """Wait until it tells where to point the browser, and return that."""
        deadline = time.monotonic() + READY_SECONDS
        while not (found := re.search(r"Point your browser to (\S+)", self.output.read_text())):
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.1)
        return found[1]

    def processes(self) -> list[int]:
        """List the processes whose command line or environment names the state folder."""
        found = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit() or int(folder.name) in (os.getpid(), self.process.pid):
                continue
            try:
                text = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            except OSError:
                continue
            if os.fsencode(self.state) in text:
                found.append(int(folder.name))
        return found

    def wait_until_nothing_runs(self) -> None:
        deadline = time.monotonic() + 20
        while left := self.processes():
            assert time.monotonic() < deadline, left
            time.sleep(0.1)


@pytest.fixture(scope="module")
def once(comfyui: ComfyInstall, short_folder: Path) -> Launched:
    """A workshop that has run its first prompt and has ended."""
    ran = Launched(comfyui, short_folder / f"once-{comfyui.label}", "--once")
    assert ran.process.wait(READY_SECONDS) == 0, ran.output.read_text()
    return ran


@pytest.fixture(scope="module")
def launches(comfyui: ComfyInstall) -> Iterator[list[Launched]]:
    """The workshops that were started; each takes a while, so tests go on with one that still runs."""
    started: list[Launched] = []
    yield started
    for running in started:
        if running.process.poll() is None:
            running.process.terminate()
            running.process.wait(30)


@pytest.fixture
def launched(comfyui: ComfyInstall, short_folder: Path, launches: list[Launched]) -> Launched:
    """A workshop that runs; a test may end it."""
    if not launches or launches[-1].process.poll() is not None:
        launches.append(Launched(comfyui, short_folder / f"workshop-{comfyui.label}-{time.monotonic_ns()}"))
    return launches[-1]


def test_one_run_leaves_a_picture_and_no_process(once):
    picture = once.state / "first-picture.png"
    assert picture.read_bytes().startswith(PNG)
    assert str(picture) in once.output.read_text()
    once.wait_until_nothing_runs()


@pytest.mark.parametrize("comfyui", ["new"], indirect=True, scope="session")
def test_a_workshop_with_users_runs_its_first_prompt_as_one_of_them(comfyui, once):
    state = once.state
    sheet = state / "credentials.csv"
    command = [sys.executable, "-c", RUN_COMMANDS, str(ROOT), "users", "--state", str(state)]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COMFYUME_")}
    adding = [*command, "add", "ines", "--instructor", "--generate", "--sheet", str(sheet)]
    added = subprocess.run(adding, env=environ, capture_output=True, text=True, check=False)
    assert (added.returncode, added.stderr) == (0, f"The workshop in {state}\n")
    (state / "first-picture.png").unlink()
    again = Launched(comfyui, state, "--once")
    assert again.process.wait(READY_SECONDS) == 0, again.output.read_text()
    assert (state / "first-picture.png").read_bytes().startswith(PNG)
    assert list((state / "files" / "output" / "ines").glob("first-picture_00001_.png"))
    listed = subprocess.run([*command, "list"], env=environ, capture_output=True, text=True, check=True).stdout
    assert "ines" in listed
    assert "signed in" not in listed, "the command's own session has ended"


def test_the_worker_reaches_the_store_as_a_user_of_its_own(launched):
    launched.url()
    environments = {}
    for pid in launched.processes():
        words = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
        variables = dict(word.split("=", 1) for word in words if word.startswith("COMFYUME_"))
        environments[variables.get("COMFYUME_MODE")] = variables
    frontend, worker = environments["frontend"], environments["worker"]
    assert frontend["COMFYUME_REDIS_URL"] == f"unix://{launched.state}/store/store.sock"
    assert worker["COMFYUME_REDIS_URL"].startswith("unix://worker-default:")
    assert worker["COMFYUME_REDIS_URL"].endswith(f"@{launched.state}/store/store.sock")
    assert frontend["COMFYUME_SECRET"] == worker["COMFYUME_SECRET"] != ""


def test_ctrl_c_stops_everything(launched):
    with urllib.request.urlopen(f"{launched.url()}/comfyume/health", timeout=10) as response:
        assert response.status == 200
    launched.process.send_signal(signal.SIGINT)
    launched.process.wait(30)
    launched.wait_until_nothing_runs()


def test_nothing_outlives_a_launcher_that_is_killed(launched):
    launched.url()
    launched.process.kill()
    launched.process.wait()
    launched.wait_until_nothing_runs()


def test_a_worker_that_dies_is_named(launched):
    launched.url()
    (worker,) = [pid for pid in launched.processes() if is_worker(pid)]
    os.kill(worker, signal.SIGKILL)
    assert launched.process.wait(30) == 1
    assert "The worker ended by SIGKILL" in launched.output.read_text()
    launched.wait_until_nothing_runs()


def is_worker(pid: int) -> bool:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return any(word.endswith(b"main.py") for word in words) and b"COMFYUME_MODE=worker" in variables
