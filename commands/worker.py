"""`comfyume worker --join LINK`: make this machine a worker of a workshop, from nothing but ComfyUI."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from ..model_vault.here import LocalModels
from ..model_vault.needs import plan, read_workflows
from . import comfyui_install
from .child_process import ChildProcess, stop_all
from .comfyui_install import ComfyUI
from .comfyui_process import DECIDED_HERE, Workshop, free_port, worker_command
from .errors import CommandError
from .joined import Joined, join
from .models import TEMPLATES
from .node_packs import bring
from .steps import Steps
from .workshop import LOOK, locked

STEPS = 7
#: The line that a worker logs once the workshop knows it.
REGISTERED = re.compile(rb"\[comfyume\] registered; this worker (offers .*)")
#: Below this many bytes no work is begun: results and what ComfyUI writes beside them need room.
LEAST_DISK = 5 * 2**30
#: Seconds that a worker has to end its job, beside what its settings say.
GRACE = 10.0
DRAIN_NOTICE = 25.0


def default_state() -> Path:
    """Return the folder where a joined worker keeps what it writes."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "comfyume" / "worker"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--join", metavar="LINK", help="from the instructor's panel; without it, the workshop that was joined last"
    )
    parser.add_argument("--state", type=Path, default=default_state(), help="folder for everything (%(default)s)")
    parser.add_argument(
        "--models",
        choices=("templates", "none"),
        default="templates",
        help="which models it fetches while it works (%(default)s)",
    )
    parser.add_argument("--cpu", action="store_true", help="go on without a GPU")
    parser.add_argument(
        "--timeout", type=float, default=600, help="seconds that ComfyUI may take to start (%(default)s)"
    )


def run(options: argparse.Namespace) -> int:
    """Join, prepare, and keep the workers running until Ctrl-C. Run again after a cut, it redoes nothing."""
    steps = Steps(STEPS)
    state: Path = options.state.expanduser().absolute()
    with contextlib.ExitStack() as stack:
        stack.enter_context(locked(state))
        with steps.step("workshop") as tell:
            joined, is_new = join(state, options.join)
            tell(f"{joined.briefing.workshop} at {joined.frontend}" + ("" if is_new else ", as told before"))
        with steps.step("GPU") as tell:
            gpus = _gpus(options.cpu)
            tell(", ".join(gpus) or "none; the CPU is enough for the test card alone")
        with steps.step("disk") as tell:
            tell(_disk(state))
        with steps.step("ComfyUI") as tell:
            comfyui = comfyui_install.find() or comfyui_install.install()
            comfyui_install.ensure_requirements(comfyui)
            tell(f"{comfyui.version} in {comfyui.folder}")
        with steps.step("node packs") as tell:
            brought = bring(comfyui, joined.briefing.packs)
            tell(f"{len(joined.briefing.packs)} of the lock file, {brought} of them new")
        with steps.step("models") as tell:
            tell(_models(comfyui, options.models))
        children: list[ChildProcess] = []
        stack.callback(_stop, children)
        with steps.step("worker") as tell:
            environ = {**os.environ, "COMFYUME_PULL_MODELS": options.models}
            _start(comfyui, state, joined, max(1, len(gpus)), bool(gpus), environ, children)
            tell(_wait_until_registered(children, options.timeout))
        print(
            f"\nReady after {steps.total():.1f} s. Logs are in {state / 'logs'}. Ctrl-C ends the job, then the worker."
        )
        while True:
            for child in children:
                child.raise_if_dead()
            time.sleep(LOOK)


def _gpus(without: bool) -> list[str]:
    """The GPUs and their driver, one text each.

    Raises:
        CommandError: there is none, and that was not asked for.
    """
    if without:
        return []
    try:
        outcome = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandError(f"The GPU's driver does not answer ({error}). {NO_GPU}") from error
    if outcome.returncode != 0 or not outcome.stdout.strip():
        said = (outcome.stdout + outcome.stderr).strip() or "it says nothing"
        raise CommandError(f"The GPU's driver does not work: {said}. {NO_GPU}")
    found = []
    for line in outcome.stdout.strip().splitlines():
        name, memory, driver = (part.strip() for part in line.rsplit(",", 2))
        found.append(f"{name} with {float(memory) / 1024:.0f} GiB, driver {driver}")
    return found


NO_GPU = "Rent a machine with an NVIDIA GPU and its driver, or say --cpu to go on without."


def _disk(state: Path) -> str:
    free = shutil.disk_usage(state).free
    if free < LEAST_DISK:
        raise CommandError(f"Only {free / 2**30:.1f} GiB are free in {state}: make room, or give another with --state.")
    return f"{free / 2**30:.0f} GiB free"


def _models(comfyui: ComfyUI, wish: str) -> str:
    """How many of the models that the templates need are here; the others come while the worker works."""
    workflows, _ = read_workflows([TEMPLATES], trusted=True)
    here = LocalModels(comfyui.folder / "models")
    needs = plan(workflows).needs
    count = sum(here.path(*need.key) is not None for need in needs)
    others = "" if count == len(needs) else "; the others come while it works" if wish == "templates" else ""
    return f"{count} of {len(needs)} that the templates need are here{others}"


def _start(
    comfyui: ComfyUI,
    state: Path,
    joined: Joined,
    count: int,
    has_gpus: bool,
    environ: Mapping[str, str],
    children: list[ChildProcess],
) -> None:
    for index in range(1, count + 1):
        workshop = Workshop(comfyui, state, joined.briefing.environment["COMFYUME_REDIS_URL"], 0)
        command = worker_command(workshop, index, free_port(), int(has_gpus))
        name = "worker" if count == 1 else f"worker {index}"
        environment = environment_of(joined, index, count, environ)
        children.append(
            ChildProcess(name, command, state / "logs" / f"worker-{index}.log", environment, comfyui.folder)
        )


def environment_of(joined: Joined, index: int, count: int, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of one of this machine's workers: what the workshop says, over what this machine says."""
    theirs = (*DECIDED_HERE, "VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH")
    # A machine that is cloned keeps its host's name, so that alone would not tell it from others.
    own = environ.get("COMFYUME_WORKER_ID") or f"{_host()}-{joined.machine[:6]}"
    environment = {
        **{name: value for name, value in environ.items() if name not in theirs},
        **joined.briefing.environment,
        "COMFYUME_FRONTEND_URL": joined.frontend,
        "COMFYUME_WORKER_ID": own if count == 1 else f"{own}-gpu{index - 1}",
        "PYTHONUNBUFFERED": "1",
    }
    if count > 1:
        environment["CUDA_VISIBLE_DEVICES"] = str(index - 1)
    return environment


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:100] or "worker"


def _wait_until_registered(children: list[ChildProcess], timeout: float) -> str:
    """Wait until the workshop knows all of them; returns what the first one offers.

    Raises:
        CommandError: one of them ended, or takes too long.
    """
    deadline = time.monotonic() + timeout
    while True:
        found = [REGISTERED.search(child.log.read_bytes()) for child in children]
        if all(found) and found[0] is not None:
            return found[0][1].decode("utf-8", "replace")
        for child in children:
            child.raise_if_dead()
        if time.monotonic() > deadline:
            late = next(child for child, match in zip(children, found, strict=True) if match is None)
            raise CommandError(
                f"The {late.name} was not ready after {timeout:g} s. The end of its log ({late.log}):\n{late.log_end()}"
            )
        time.sleep(LOOK)


def _stop(children: list[ChildProcess]) -> None:
    if children:
        print("Stopping: a job that runs may end.", flush=True)
    notice = float(os.environ.get("COMFYUME_DRAIN_NOTICE") or DRAIN_NOTICE)
    stop_all(children, notice + GRACE)
