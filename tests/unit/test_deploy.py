"""What stands in deploy/ agrees with itself and with the commands; it is not run here, for want of a GPU machine."""

from __future__ import annotations

import re
import subprocess

import pytest

from comfyume.commands.main import COMMANDS
from comfyume.commands.source_tree import ROOT

SCRIPT = ROOT / "deploy" / "start-worker.sh"


def test_the_script_is_one_that_a_plain_shell_reads() -> None:
    subprocess.run(["sh", "-n", str(SCRIPT)], check=True)
    assert SCRIPT.stat().st_mode & 0o111


def test_cloud_init_carries_the_script_as_it_is() -> None:
    yaml = pytest.importorskip("yaml")
    text = (ROOT / "deploy" / "cloud-init.yaml").read_text(encoding="utf-8")
    assert text.startswith("#cloud-config\n")
    files = {file["path"]: file for file in yaml.safe_load(text)["write_files"]}
    assert files["/usr/local/bin/start-worker.sh"]["content"] == SCRIPT.read_text(encoding="utf-8")
    assert files["/etc/comfyume/join"]["permissions"] == "0600"
    assert "ExecStart=/usr/local/bin/start-worker.sh" in files["/etc/systemd/system/comfyume-worker.service"]["content"]


def test_the_commands_in_it_are_there() -> None:
    named = re.findall(r"comfyume/comfyume\" (\w+) --(\w+)", SCRIPT.read_text(encoding="utf-8"))
    assert named == [("worker", "join")]
    assert "worker" in COMMANDS
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    for copied in re.findall(r"^COPY (\S+) ", dockerfile, re.MULTILINE):
        assert (ROOT / copied).exists()
