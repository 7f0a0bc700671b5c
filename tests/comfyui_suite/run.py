"""Runs ComfyUI's own ``tests/execution`` of a checkout, unchanged, through the pair or directly.

::

    python tests/comfyui_suite/run.py --comfyui ~/comfy/ComfyUI --select test_execution.py
    python tests/comfyui_suite/run.py --comfyui ~/comfy/ComfyUI --select all --direct
    python tests/comfyui_suite/run.py --comfyui ~/comfy/ComfyUI --select all --baseline direct.json
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).resolve().parents[1] / "harness" / "package.py"))["register"]()

from comfyume.tests.harness import discovery
from comfyume.tests.harness.discovery import ComfyInstall
from comfyume.tests.harness.processes import free_port, tail

SHIM = Path(__file__).parent / "shim"
TESTS = "tests/execution"
ALL = "all"


@dataclass(frozen=True)
class SuiteResult:
    """Names of ComfyUI's tests by how they ended, and how long it took in seconds."""

    passed: frozenset[str]
    failed: frozenset[str]
    skipped: frozenset[str]
    seconds: float
    log: Path

    def __str__(self) -> str:
        return (
            f"{len(self.passed)} passed, {len(self.failed)} failed, {len(self.skipped)} skipped in {self.seconds:.0f} s"
        )


class SuiteError(Exception):
    """ComfyUI's tests could not be run at all; the message holds the end of pytest's output."""


def run_suite(
    install: ComfyInstall,
    *,
    select: str = "test_execution.py",
    direct: bool = False,
    port: int | None = None,
    folder: Path | None = None,
    keyword: str | None = None,
    timeout: float = 3600.0,
) -> SuiteResult:
    """Run ``tests/execution`` of a checkout in a process of its own, with the shim first on its PATH.

    Args:
        select: one file of ``tests/execution``, or ``all``.
        direct: start plain ComfyUI processes instead of pairs.
        folder: where servers keep their folders and logs; kept. None: a temporary one.
        keyword: pytest's ``-k``.
    """
    folder = folder or Path(tempfile.mkdtemp(prefix="suite-"))
    folder.mkdir(parents=True, exist_ok=True)
    servers = Path(tempfile.mkdtemp(prefix="cs-"))  # short: unix sockets lie in it
    report, log = folder / "report.xml", folder / "pytest.log"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("COMFYUME_", "PYTEST_"))}
    settings = {"COMFYUME_PYTHON": str(install.python)}
    if install.frontend_root:
        settings["COMFYUME_TEST_FRONTEND_OLD"] = str(install.frontend_root)
    environment = {
        **inherited,
        **settings,
        "PATH": f"{SHIM}{os.pathsep}{inherited.get('PATH', '')}",
        "PYTHONPATH": str(Path(__file__).parent / "plugin"),
        "SUITE_HOST_PYTHON": sys.executable,
        "SUITE_COMFY_PYTHON": str(install.python),
        "SUITE_FOLDER": str(servers),
        "SUITE_DIRECT": "1" if direct else "",
        "PYTHONUNBUFFERED": "1",
    }
    tests = TESTS if select == ALL else f"{TESTS}/{select}"
    command = [
        *(str(install.python), "-m", "pytest", tests, "-p", "no:cacheprovider", "-p", "patience"),
        *("--output_dir", str(folder / "output"), "--port", str(port or free_port()), f"--junitxml={report}"),
        *(("-k", keyword) if keyword else ()),
    ]
    started = time.monotonic()
    try:
        with log.open("wb") as output:
            subprocess.run(
                command,
                cwd=install.path,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=timeout,
                check=False,
            )
    except subprocess.TimeoutExpired as error:
        raise SuiteError(f"ComfyUI's tests took more than {timeout} s:\n{tail(log)}") from error
    finally:
        _keep_logs(servers, folder / "servers")
    if not report.is_file():
        raise SuiteError(f"ComfyUI's tests wrote no report:\n{tail(log)}")
    return _read(report, time.monotonic() - started, log)


def _keep_logs(servers: Path, kept: Path) -> None:
    for file in servers.rglob("*.log"):
        target = kept / file.relative_to(servers)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    shutil.rmtree(servers, ignore_errors=True)


def _read(report: Path, seconds: float, log: Path) -> SuiteResult:
    names: dict[str, set[str]] = {"passed": set(), "failed": set(), "skipped": set()}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - our own pytest wrote it
        kinds = {child.tag for child in case}
        end = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        module = case.get("classname", "").removeprefix("tests.execution.")
        names[end].add(f"{module}::{case.get('name')}")
    names["passed"] -= names["failed"]  # passed, then failed while tearing down
    return SuiteResult(*(frozenset(names[end]) for end in ("passed", "failed", "skipped")), seconds, log)


def main(argv: list[str] | None = None) -> int:
    """Run the suite from the command line; 0 when nothing failed that passes directly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comfyui", type=Path, help="checkout; else COMFYUI_PATH, else ~/comfy/ComfyUI")
    parser.add_argument("--select", default="test_execution.py", help=f"a file of {TESTS}, or {ALL}")
    parser.add_argument("--keyword", "-k", help="pytest's -k")
    parser.add_argument("--port", type=int)
    parser.add_argument("--direct", action="store_true", help="plain ComfyUI instead of the pair, for comparison")
    parser.add_argument("--folder", type=Path, help="where logs and the report are kept")
    parser.add_argument("--save", type=Path, help="write the names of the tests by result to this JSON file")
    parser.add_argument("--baseline", type=Path, help="JSON of a direct run: what failed there does not count")
    asked = parser.parse_args(argv)
    try:
        install = discovery.at(asked.comfyui) if asked.comfyui else discovery.find("new")
        result = run_suite(
            install,
            select=asked.select,
            direct=asked.direct,
            port=asked.port,
            folder=asked.folder,
            keyword=asked.keyword,
        )
    except (SuiteError, discovery.ComfyMissingError) as error:
        print(error, file=sys.stderr)
        return 2
    excused = set(json.loads(asked.baseline.read_text())["failed"]) if asked.baseline else set()
    for name in sorted(result.failed):
        print(f"failed: {name}{' (directly too)' if name in excused else ''}")
    print(f"ComfyUI {install.version}, {asked.select}, {'directly' if asked.direct else 'through the pair'}: {result}")
    print(f"log: {result.log}")
    if asked.save:
        names = {end: sorted(getattr(result, end)) for end in ("passed", "failed", "skipped")}
        asked.save.write_text(json.dumps(names, indent=1) + "\n")
    return 1 if result.failed - excused else 0


if __name__ == "__main__":
    sys.exit(main())
