"""Node packs come to a machine at the workshop's commits, from real repositories."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from comfyume.briefing import Pack
from comfyume.commands.comfyui_install import ComfyUI
from comfyume.commands.errors import CommandError
from comfyume.commands.node_packs import bring


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=ada", "-c", "user.email=ada@example.org"]
    return subprocess.run(
        ["git", "-C", str(folder), *who, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def commits(tmp_path: Path) -> list[str]:
    """Two of a pack that lets git ignore nothing."""
    source = tmp_path / "source"
    source.mkdir()
    git(source, "init", "--quiet")
    found = []
    for number in range(2):
        (source / "nodes.py").write_text(f"NUMBER = {number}\n")
        git(source, "add", ".")
        git(source, "commit", "--quiet", "-m", f"number {number}")
        found.append(git(source, "rev-parse", "HEAD"))
    return found


def test_a_pack_that_has_run_is_brought_to_a_newer_commit_and_a_changed_one_is_left_alone(
    tmp_path: Path, commits: list[str]
) -> None:
    comfyui = ComfyUI(tmp_path / "ComfyUI", "0.33.0", Path(sys.executable))
    (comfyui.folder / "custom_nodes").mkdir(parents=True)
    here = comfyui.folder / "custom_nodes" / "film"
    former, newer = (
        Pack.model_construct(name="film", url=str(tmp_path / "source"), commit=commit) for commit in commits
    )
    assert [bring(comfyui, [former]), bring(comfyui, [former])] == [1, 0]
    (here / "__pycache__").mkdir()
    (here / "__pycache__" / "nodes.pyc").write_bytes(b"compiled")
    assert bring(comfyui, [newer]) == 1
    assert (here / "nodes.py").read_text() == "NUMBER = 1\n"
    (here / "notes.txt").write_text("somebody's own")
    with pytest.raises(CommandError, match="was changed here"):
        bring(comfyui, [former])
    assert (here / "notes.txt").read_text() == "somebody's own"
