"""A machine joins a running workshop by a link, from an empty folder, and does a job, though killed at each step."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import tomllib

from comfyume.commands.source_tree import ROOT
from comfyume.tests.acceptance.conftest import safetensors
from comfyume.tests.harness import discovery, graphs
from comfyume.tests.harness.client import Client, RequestRefused, wait_until
from comfyume.tests.harness.command_line import RUN_COMMANDS
from comfyume.tests.harness.processes import ComfyProcess, RedisServer, die_with_parent

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(300),
    pytest.mark.parametrize("comfyui", ["new"], indirect=True, scope="module"),
]
STEPS = ("workshop", "GPU", "disk", "ComfyUI", "node packs", "models", "worker")
MODEL = "vae/flux2-vae.safetensors"
NOT_COPIED = {".git", ".venv", "models", "custom_nodes", "tests", "tests-unit", "input", "output", "user"}


@dataclass(frozen=True)
class Workshop:
    """A frontend and its store; no worker yet."""

    frontend: ComfyProcess
    store: RedisServer

    def link(self) -> str:
        with Client(self.frontend.address, connect=False) as instructor:
            path = instructor.post("/comfyume/workers/links", {"minutes": 5})["path"]
        return f"{self.frontend.url}{path}"


@dataclass(frozen=True)
class Machine:
    """A machine with ComfyUI and nothing else."""

    comfyui: Path
    python: Path
    state: Path

    def run(self, *options: str) -> subprocess.Popen[str]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("COMFYUME_")}
        environ |= {"COMFYUI_PATH": str(self.comfyui), "COMFYUME_PYTHON": str(self.python)}
        return subprocess.Popen(
            [sys.executable, "-c", RUN_COMMANDS, str(ROOT), "worker", "--cpu", "--state", str(self.state), *options],
            env={**environ, "PYTHONUNBUFFERED": "1", "COMFYUME_DRAIN_NOTICE": "2"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl call, no lock taken
        )


def models_folder(folder: Path) -> Path:
    """A place that has one of the models that the templates need, or at least its name."""
    path = folder / "models" / MODEL
    path.parent.mkdir(parents=True)
    path.write_bytes(safetensors({}))
    return folder / "models"


@pytest.fixture(scope="module")
def workshop(
    comfyui: discovery.ComfyInstall, tmp_path_factory: pytest.TempPathFactory, short_folder: Path
) -> Iterator[Workshop]:
    folder = tmp_path_factory.mktemp("joining")
    with RedisServer(short_folder / "joining", port=0) as store:
        frontend = ComfyProcess(
            comfyui,
            folder / "frontend",
            mode="frontend",
            store_url=store.url,
            workshop="joined",
            env={
                "COMFYUME_WORKERS_REDIS_URL": store.worker_url("joined"),
                "COMFYUME_SECRET": "words of the workshop",
                "COMFYUME_MODELS": str(models_folder(folder)),
            },
        )
        with frontend:
            yield Workshop(frontend, store)


@pytest.fixture(scope="module")
def machine(comfyui: discovery.ComfyInstall, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    folder = tmp_path_factory.mktemp("machine")
    copy = folder / "ComfyUI"
    shutil.copytree(
        comfyui.path, copy, ignore=lambda where, _: NOT_COPIED if Path(where) == Path(comfyui.path) else set()
    )
    for name in ("models", "custom_nodes"):
        (copy / name).mkdir()
    return Machine(copy, comfyui.python, folder / "state")


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the tests' node pack, and a later commit that breaks it."""
    repository = tmp_path_factory.mktemp("repositories") / "cfm_pack"
    shutil.copytree(graphs.PACK, repository, ignore=shutil.ignore_patterns("__pycache__"))
    git(repository, "init", "--quiet")
    git(repository, "add", "-A")
    git(repository, "commit", "--quiet", "-m", "works")
    git(repository, "tag", "pinned")
    (repository / "__init__.py").write_text("raise RuntimeError('the latest does not work')\n")
    git(repository, "commit", "--quiet", "-a", "-m", "does not")
    return repository


def read_steps(process: subprocess.Popen[str], until: str) -> list[str]:
    """The lines that a command prints, up to the one of a step."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if re.match(rf"\d/\d  {until}\s", line):
            return lines
    raise AssertionError("\n".join(lines))


def test_a_machine_joins_by_one_command_though_it_is_killed_at_each_step(
    workshop: Workshop, machine: Machine, pack: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system = workshop.frontend.base / "user" / "__comfyume"
    commit = git(pack, "rev-parse", "pinned")
    (system / "packs.toml").write_text(f'[[pack]]\nname = "cfm_pack"\nurl = "file://{pack}"\ncommit = "{commit}"\n')
    link = workshop.link()
    for step in STEPS[:-1]:
        killed = machine.run("--join", link)
        read_steps(killed, step)
        # In the middle of the step that comes then.
        time.sleep(0.3)
        killed.kill()
        killed.communicate()
    process = machine.run("--join", link)
    try:
        lines = read_steps(process, "worker")
        with capsys.disabled():
            print("", *lines, sep="\n    ")
        assert [re.match(r"(\d)/7  (.*?)  .*\((\d+\.\d) s\)$", line).group(2).strip() for line in lines] == list(STEPS)
        assert "1 of the lock file" in lines[4]
        assert git(machine.comfyui / "custom_nodes" / "cfm_pack", "rev-parse", "HEAD") == commit
        with Client(workshop.frontend.address) as client:
            # A node of the pack, which this worker alone has.
            assert wait_until(lambda: "CfmWriteFile" in client.get("/object_info"))
            entry = client.run(graphs.write_file(f"{graphs.name()}.bin", 1))
            assert entry["status"]["completed"]
        # A model of the templates came meanwhile, from where the workshop's settings say.
        assert wait_until((machine.comfyui / "models" / MODEL).is_file)
        # What it may do on the store is what workers may.
        kept = json.loads((machine.state / "joined.json").read_text())
        assert (machine.state / "joined.json").stat().st_mode & 0o077 == 0
        assert kept["briefing"]["environment"]["COMFYUME_REDIS_URL"].startswith("redis://worker-joined:")
        assert kept["briefing"]["environment"]["COMFYUME_SECRET"] == "words of the workshop"
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 130

    # Without a link it goes on with what it was told; with the link of another workshop, or a used one, it does not.
    again = machine.run()
    read_steps(again, "workshop")
    again.kill()
    again.communicate()
    other = Machine(machine.comfyui, machine.python, machine.state.with_name("other"))
    refused = other.run("--join", link)
    assert "used up, too old, or none" in refused.communicate(timeout=30)[0]
    assert refused.returncode == 1


def test_links_hold_for_one_machine_and_are_told_apart_from_anything_else(workshop: Workshop) -> None:
    link = workshop.link()
    path = link.removeprefix(workshop.frontend.url)
    with Client(workshop.frontend.address, connect=False) as client:
        assert link in client.request("GET", path).decode()
        first, second = "a" * 32, "b" * 32
        told = client.post(path, {"machine": first})
        assert client.post(path, {"machine": first}) == told
        for wrong, body in ((path, {"machine": second}), (path[:-1] + "x", {"machine": first})):
            with pytest.raises(RequestRefused) as refused:
                client.post(wrong, body)
            assert refused.value.status == 403
        for body in ({}, {"machine": "x"}, {"machine": first, "more": 1}):
            with pytest.raises(RequestRefused) as refused:
                client.post(path, body)
            assert refused.value.status == 400


def test_the_packs_of_a_comfyui_are_written_down_as_others_can_have_them(machine: Machine, pack: Path) -> None:
    folder = machine.comfyui / "custom_nodes"
    shutil.rmtree(folder / "cfm_pack", ignore_errors=True)
    git(folder, "clone", "--quiet", f"file://{pack}", "cfm_pack")
    (folder / "by_hand").mkdir()
    outcome = subprocess.run(
        [sys.executable, "-c", RUN_COMMANDS, str(ROOT), "packs", "--save"],
        env={**os.environ, "COMFYUI_PATH": str(machine.comfyui)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "by_hand is no clone" in outcome.stderr
    written = tomllib.loads((machine.comfyui / "user" / "__comfyume" / "packs.toml").read_text())
    latest = git(pack, "rev-parse", "HEAD")
    assert written == {"pack": [{"name": "cfm_pack", "url": f"file://{pack}", "commit": latest}]}
