"""What was found and what it was measured with, in a file for each group, so that runs can be put together."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from comfyume.tests.harness.processes import store_program

from .reports import Report, page


def machine() -> str:
    """What the trials run on."""
    said = subprocess.run([store_program(), "--version"], capture_output=True, text=True, check=True).stdout
    store = said.partition(" sha=")[0]
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, {store}"


def write(folder: Path, reports: Sequence[Report], how: str) -> None:
    """Keep the reports of a group, in place of those that it had there; ``how`` is the command for them."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = {"machine": machine(), "how": how, "reports": [asdict(report) for report in reports]}
    name = "-".join(report.guarantee for report in reports)
    (folder / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def page_of(folder: Path) -> str:
    """The page with all figures of a folder, by guarantee."""
    kept = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    reports = [Report(**report) for group in kept for report in group["reports"]]
    return page(
        sorted(reports, key=lambda report: int(report.guarantee[1:])),
        " and ".join(f"`{how}`" for how in _each(group["how"] for group in kept)),
        "; ".join(_each(group["machine"] for group in kept)),
    )


def _each(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
