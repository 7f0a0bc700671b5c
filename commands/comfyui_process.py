"""Folders, arguments and environment of the ComfyUI processes of a workshop on one machine.

Everything that a process writes lies in the workshop's state folder. The flags used here exist since ComfyUI 0.11.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .comfyui_install import ComfyUI, installed_extension
from .errors import CommandError
from .source_tree import ROOT

LOOPBACK = "127.0.0.1"
#: Settings that a workshop decides by itself, whatever the person's environment says.
DECIDED_HERE = (
    "COMFYUME_MODE",
    "COMFYUME_REDIS_URL",
    "COMFYUME_SHARED_FOLDER",
    "COMFYUME_FRONTEND_URL",
    "COMFYUME_WORKER_ID",
)
#: Ports tried after the one that was asked for.
PORTS_TRIED = 50


@dataclass(frozen=True)
class Workshop:
    """What the processes of one workshop share."""

    comfyui: ComfyUI
    state: Path
    store_url: str
    frontend_port: int

    @property
    def frontend_url(self) -> str:
        """The address of the frontend, for browsers on this machine."""
        return f"http://{LOOPBACK}:{self.frontend_port}"

    @property
    def files(self) -> Path:
        """The folder that frontend and workers share."""
        return self.state / "files"


def frontend_command(workshop: Workshop) -> list[str]:
    """Make the frontend's folders and return its command line. It has no models and no GPU."""
    base = workshop.state / "frontend"
    for name in ("models", "custom_nodes", "input", "output", "temp", "user"):
        (base / name).mkdir(parents=True, exist_ok=True)
    link_extension(base / "custom_nodes", extension_folder(workshop.comfyui))
    return [
        *_common(workshop, workshop.frontend_port, base / "user"),
        "--base-directory",
        str(base),
        "--cpu",
    ]


def worker_command(workshop: Workshop, index: int, port: int, gpus: int) -> list[str]:
    """Make a worker's folders and return its command line. It uses ComfyUI's own models and node packs."""
    base = workshop.state / f"worker-{index}"
    for name in ("input", "output", "user"):
        (base / name).mkdir(parents=True, exist_ok=True)
    command = [
        *_common(workshop, port, base / "user"),
        "--input-directory",
        str(base / "input"),
        "--output-directory",
        str(base / "output"),
        "--temp-directory",
        str(base),
    ]
    if installed_extension(workshop.comfyui.folder) is None:
        extension = workshop.state / "extension"
        extension.mkdir(parents=True, exist_ok=True)
        link_extension(extension, ROOT)
        paths = workshop.state / "extra_model_paths.yaml"
        paths.write_text(f"comfyume:\n  custom_nodes: {json.dumps(str(extension))}\n", encoding="utf-8")
        command += ["--extra-model-paths-config", str(paths)]
    return command if gpus else [*command, "--cpu"]


def _common(workshop: Workshop, port: int, user: Path) -> list[str]:
    return [
        str(workshop.comfyui.python),
        str(workshop.comfyui.folder / "main.py"),
        "--listen",
        LOOPBACK,
        "--port",
        str(port),
        "--disable-auto-launch",
        "--user-directory",
        str(user),
        "--database-url",
        f"sqlite:///{user / 'comfyui.db'}",
    ]


def frontend_environment(workshop: Workshop, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the frontend's environment."""
    return {**_common_environment(workshop, environ), "COMFYUME_MODE": "frontend"}


def worker_environment(
    workshop: Workshop, index: int, gpus: int, environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Return a worker's environment. Workers take turns on the GPUs."""
    environment = {
        **_common_environment(workshop, environ),
        "COMFYUME_MODE": "worker",
        "COMFYUME_WORKER_ID": f"workshop-{index}",
        "COMFYUME_FRONTEND_URL": workshop.frontend_url,
    }
    if gpus > 1 and not environ.get("CUDA_VISIBLE_DEVICES"):
        environment["CUDA_VISIBLE_DEVICES"] = str((index - 1) % gpus)
    return environment


def _common_environment(workshop: Workshop, environ: Mapping[str, str]) -> dict[str, str]:
    not_theirs = (*DECIDED_HERE, "VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH")
    kept = {name: value for name, value in environ.items() if name not in not_theirs}
    workshop.files.mkdir(parents=True, exist_ok=True)
    return {
        # Less than a child has to end in.
        "COMFYUME_DRAIN_NOTICE": "5",
        **kept,
        "COMFYUME_REDIS_URL": workshop.store_url,
        "COMFYUME_SHARED_FOLDER": str(workshop.files),
        "PYTHONUNBUFFERED": "1",
    }


def extension_folder(comfyui: ComfyUI) -> Path:
    """Return the copy of comfyume that every process runs: the one installed in ComfyUI, else this one."""
    return installed_extension(comfyui.folder) or ROOT


def link_extension(custom_nodes: Path, extension: Path) -> None:
    """Make `custom_nodes/comfyume` a link to the extension."""
    link = custom_nodes / "comfyume"
    target = extension.resolve()
    if link.is_symlink():
        if link.resolve() == target:
            return
        link.unlink()
    if link.exists():
        raise CommandError(f"{link} is in the way: move it, or give another folder with --state.")
    link.symlink_to(target, target_is_directory=True)


def free_port(wanted: int = 0) -> int:
    """Return `wanted` or the next free port on loopback; any free port for 0.

    Raises:
        CommandError: none of the ports is free.
    """
    for port in range(wanted, wanted + PORTS_TRIED) if wanted else (0,):
        with socket.socket() as trial:
            # As ComfyUI's server does, else a port that was closed a moment ago looks taken.
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((LOOPBACK, port))
            except OSError:
                continue
            return int(trial.getsockname()[1])
    raise CommandError(f"No port from {wanted} to {wanted + PORTS_TRIED - 1} is free: give another with --port.")
