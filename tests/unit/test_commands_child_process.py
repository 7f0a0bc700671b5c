"""Children of the launcher: their logs, their end, and that none outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from comfyume.commands.child_process import ChildProcess, stop_all
from comfyume.commands.errors import CommandError
from comfyume.commands.source_tree import ROOT

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"


@pytest.fixture
def start(tmp_path):
    children = []

    def start_child(code: str, name: str = "worker") -> ChildProcess:
        log = tmp_path / "logs" / f"{len(children)}.log"
        children.append(ChildProcess(name, [sys.executable, "-c", code], log, os.environ, tmp_path))
        return children[-1]

    yield start_child
    stop_all(children, grace=0)


def wait_for(condition: Callable[[], object], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def test_a_child_that_ends_by_itself_is_named_with_the_end_of_its_log(start):
    child = start("print('out of memory'); raise SystemExit(3)", "worker 2")
    wait_for(lambda: child.process.poll() is not None)
    with pytest.raises(CommandError) as raised:
        child.raise_if_dead()
    assert "The worker 2 ended with exit status 3" in str(raised.value)
    assert "out of memory" in str(raised.value)
    assert str(child.log) in str(raised.value)


def test_a_child_that_was_killed_is_named_with_the_signal(start):
    child = start("import time; time.sleep(60)")
    child.process.kill()
    wait_for(lambda: child.process.poll() is not None)
    with pytest.raises(CommandError, match="by SIGKILL"):
        child.raise_if_dead()


def test_a_living_child_raises_nothing(start):
    start("import time; time.sleep(60)").raise_if_dead()


def test_children_are_asked_to_end_before_they_are_killed(start):
    child = start(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('tidied', flush=True), sys.exit(0)))\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    wait_for(lambda: "ready" in child.log.read_text())
    stop_all([child])
    assert child.process.returncode == 0
    assert "tidied" in child.log.read_text()


def test_a_child_that_does_not_listen_is_killed_when_its_time_is_over(start):
    children = [start(DEAF), start(DEAF)]
    for child in children:
        wait_for(lambda child=child: "ready" in child.log.read_text())
    began = time.monotonic()
    stop_all(children, grace=0.5)
    assert [child.process.returncode for child in children] == [-signal.SIGKILL, -signal.SIGKILL]
    assert 0.5 <= time.monotonic() - began < 5, "the grace is shared, not one after the other"


def test_what_a_child_started_ends_with_it(start):
    child = start(f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {DEAF!r} + '; print(0)'])")
    wait_for(lambda: "ready" in child.log.read_text())
    (grandchild,) = Path(f"/proc/{child.process.pid}/task/{child.process.pid}/children").read_text().split()
    stop_all([child])
    wait_for(lambda: not is_running(int(grandchild)))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PR_SET_PDEATHSIG is Linux's")
def test_children_die_with_a_launcher_that_is_killed(tmp_path):
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(ROOT), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    child = int(launcher.stdout.readline())
    assert is_running(child)
    launcher.kill()
    launcher.wait()
    launcher.stdout.close()
    wait_for(lambda: not is_running(child))


LAUNCHER = f"""
import importlib.util, os, sys, time
from pathlib import Path
root, folder = sys.argv[1], Path(sys.argv[2])
spec = importlib.util.spec_from_file_location("comfyume", root + "/__init__.py", submodule_search_locations=[root])
sys.modules["comfyume"] = importlib.util.module_from_spec(spec)
from comfyume.commands.child_process import ChildProcess
child = ChildProcess("worker", [sys.executable, "-c", {DEAF!r}], folder / "log", os.environ, folder)
while "ready" not in child.log.read_text():
    time.sleep(0.02)
print(child.process.pid, flush=True)
time.sleep(60)
"""
