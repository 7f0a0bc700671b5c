"""Node packs at the commits of a lock file: reading what a ComfyUI has, and bringing another one to the same."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ..briefing import Pack
from .comfyui_install import ComfyUI
from .errors import CommandError
from .source_tree import is_comfyume

#: Beside the packs; ComfyUI leaves folders with this end alone.
_STAGED = ".disabled"


def installed_packs(comfyui_folder: Path) -> tuple[list[Pack], list[str]]:
    """What lies in ``custom_nodes``: the packs that came from a repository, and sentences about all others."""
    packs, problems = [], []
    for folder in sorted((comfyui_folder / "custom_nodes").iterdir()):
        if not folder.is_dir() or folder.name.startswith((".", "_")) or folder.suffix == _STAGED or is_comfyume(folder):
            continue
        commit, url = _git(folder, "rev-parse", "HEAD"), _git(folder, "config", "--get", "remote.origin.url")
        if not (folder / ".git").exists() or not commit or not url:
            problems.append(f"{folder.name} is no clone of a repository, so workers cannot get it by themselves.")
            continue
        if _git(folder, "status", "--porcelain", "--untracked-files=no"):
            problems.append(f"{folder.name} was changed here; workers get it without the changes.")
        try:
            packs.append(Pack(name=folder.name, url=url, commit=commit))
        except ValueError:
            problems.append(f"{folder.name} comes from {url}, which is no address that other machines can use.")
    return packs, problems


def bring(comfyui: ComfyUI, packs: Sequence[Pack]) -> int:
    """Have the packs at their commits in ComfyUI, with what they require; returns how many had to be brought.

    A pack is there with its requirements, or not at all: it gets its name last.

    Raises:
        CommandError: one cannot be had, or is there with changes of somebody's own.
    """
    if packs and shutil.which("git") is None:
        raise CommandError("Node packs come by git, which is not here: install it, as with `apt install git`.")
    return sum(_bring_one(comfyui, pack) for pack in packs)


def _bring_one(comfyui: ComfyUI, pack: Pack) -> bool:
    final = comfyui.folder / "custom_nodes" / pack.name
    if _git(final, "rev-parse", "HEAD") == pack.commit and (final / ".git").exists():
        return False
    # Whoever has run a pack has its compiled modules, which not every pack lets git ignore.
    changes = ("status", "--porcelain", "--", ".", ":(exclude,glob)**/__pycache__/**")
    if final.exists() and (not (final / ".git").exists() or _git(final, *changes)):
        raise CommandError(
            f"{final} is another node pack than the workshop's, or was changed here. Move it away, then run this again."
        )
    staged = final.with_name(f"{pack.name}{_STAGED}")
    shutil.rmtree(staged, ignore_errors=True)
    _run(pack, ["git", "clone", "--quiet", "--no-checkout", "--", pack.url, str(staged)])
    _run(pack, ["git", "-C", str(staged), "checkout", "--quiet", pack.commit])
    requirements = staged / "requirements.txt"
    if requirements.is_file():
        pip = [str(comfyui.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run(pack, [*pip, "-r", str(requirements)])
    shutil.rmtree(final, ignore_errors=True)
    staged.rename(final)
    return True


def _run(pack: Pack, command: list[str]) -> None:
    try:
        outcome = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
    except OSError as error:
        raise CommandError(f"The node pack {pack.name} could not be brought: {error}.") from error
    if outcome.returncode != 0:
        said = "\n".join(f"    {line}" for line in outcome.stdout.strip().splitlines()[-10:])
        raise CommandError(f"The node pack {pack.name} could not be brought ({' '.join(command[:3])} ...):\n{said}")


def _git(folder: Path, *words: str) -> str:
    """What git says of a folder; nothing where it says nothing."""
    if not folder.is_dir():
        return ""
    command = ["git", "-C", str(folder), *words]
    try:
        outcome = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    except OSError:
        return ""
    return outcome.stdout.strip() if outcome.returncode == 0 else ""


def as_lock(packs: Sequence[Pack]) -> str:
    """The text of a lock file."""
    head = "# Node packs that every worker has, at these commits. Written by `comfyume packs --save`.\n\n"
    return head + "\n".join(pack.line() for pack in packs)
