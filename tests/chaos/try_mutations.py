"""Break the code on purpose, one line at a time in a copy of it, and see that the trials notice."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from comfyume.tests.harness.package import ROOT
from comfyume.tests.harness.processes import die_with_parent

from .groups import Group
from .mutations import MUTATIONS, Mutation
from .reports import VIOLATED

#: What the trials need of the repository.
PARTS = (
    "accounts",
    "backups",
    "job_queue",
    "model_vault",
    "worker_mode",
    "server_routes",
    "comfyui_seams",
    "blobs",
    "comfyume_nodes",
    "commands",
    "web",
    "workflows",
    "tests/node_packs",
    "tests/harness",
    "tests/chaos",
)
FILES = tuple(sorted(path.name for path in ROOT.glob("*.py")))
#: Seconds that trials of broken code wait for a job that may never end.
PATIENCE = 15
NOTICED = "noticed"
#: Seconds that the trials of one mutation may take.
LONGEST = 360


def try_all(groups: Sequence[Group], seed: int) -> int:
    """Try each mutation of these groups' guarantees; 1 when one was not noticed."""
    names = {name for group in groups for name in group.guarantees}
    missed = 0
    for mutation in MUTATIONS:
        if mutation.guarantee in names:
            began = time.monotonic()
            verdict = _try(mutation, seed)
            missed += verdict != NOTICED
            print(
                f"{mutation.guarantee:4} {verdict:10} {mutation.title} ({time.monotonic() - began:.0f} s)", flush=True
            )
    return int(missed > 0)


def _try(mutation: Mutation, seed: int) -> str:
    folder = Path(tempfile.mkdtemp(prefix="chaos"))
    try:
        _copy(folder)
        path = folder / mutation.file
        text = path.read_text(encoding="utf-8")
        if text.count(mutation.old) != 1:
            return f"fits {text.count(mutation.old)} places, not one"
        path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
        try:
            outcome = _run(folder, mutation, seed)
        except subprocess.TimeoutExpired:
            return "HANGS"
        if outcome.returncode == VIOLATED and re.search(
            rf"^{mutation.guarantee} .*VIOLATIONS", outcome.stdout, re.MULTILINE
        ):
            return NOTICED
        return f"MISSED\n{outcome.stdout}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(folder: Path, mutation: Mutation, seed: int) -> subprocess.CompletedProcess[str]:
    script = folder / "tests" / "chaos" / "run.py"
    options = ["--only", mutation.guarantee, "--seed", str(seed), "--patience", str(PATIENCE)]
    return subprocess.run(
        [sys.executable, str(script), *options, "--logs", str(folder / "logs")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=LONGEST,
        # Whatever it leaves goes with the copy.
        env={**os.environ, "TMPDIR": str(folder)},
        preexec_fn=die_with_parent,
    )


def _copy(folder: Path) -> None:
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, folder / name)
