"""The launcher and the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from comfyume.commands import main as command_line
from comfyume.commands import source_tree
from comfyume.commands.test import test_requirements as read_test_requirements

LAUNCHER = source_tree.ROOT / "comfyume"


def launch(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if name != "COMFYUI_PATH"}
    return subprocess.run(
        [sys.executable, str(LAUNCHER), *arguments],
        cwd=home,
        env={**environ, "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_launcher_can_be_executed():
    assert os.access(LAUNCHER, os.X_OK)
    assert LAUNCHER.read_text(encoding="utf-8").startswith("#!/usr/bin/env python3\n")


@pytest.mark.parametrize("arguments", [["--help"], []])
def test_help_names_the_commands(arguments, tmp_path):
    outcome = launch(*arguments, home=tmp_path)
    assert outcome.returncode == 0, outcome.stderr
    for name in command_line.COMMANDS:
        assert name in outcome.stdout


@pytest.mark.parametrize("command", list(command_line.COMMANDS))
def test_each_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as raised:
        command_line.main([command, "--help"])
    assert raised.value.code == 0
    assert f"comfyume {command}" in capsys.readouterr().out


def test_the_version_is_told_without_comfyui(tmp_path):
    outcome = launch("version", home=tmp_path)
    assert outcome.returncode == 0, outcome.stderr
    assert f"comfyume {source_tree.version()}" in outcome.stdout
    assert "ComfyUI: not found" in outcome.stdout


def test_help_works_on_a_python_that_has_nothing_installed(tmp_path):
    # -S leaves site-packages out
    command = [sys.executable, "-S", str(LAUNCHER), "--help"]
    outcome = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr


def test_an_unknown_command_is_refused(capsys):
    with pytest.raises(SystemExit) as raised:
        command_line.main(["worksop"])
    assert raised.value.code == 2
    assert "worksop" in capsys.readouterr().err


def test_the_tests_extra_is_read_from_pyproject():
    assert any(line.startswith("pytest>=") for line in read_test_requirements())
