"""Stress a frontend and a plain ComfyUI with the same requests: ``python tests/api/run.py [--full] [--seed N]``.

The requests are made by schemathesis from ComfyUI's description of its routes, from one of those that it leaves out,
and from comfyume's own. It ends with 1 when the frontend has an error of its own, or answers otherwise for no reason.
"""

from __future__ import annotations

import argparse
import json
import runpy
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

runpy.run_path(str(Path(__file__).resolve().parents[1] / "harness" / "package.py"))["register"]()

from comfyume.tests.api import findings, stress  # noqa: E402 - importable from here on
from comfyume.tests.api.stress import Plan, Run, Stage  # noqa: E402
from comfyume.tests.harness import discovery  # noqa: E402
from comfyume.tests.harness.client import RequestRefused  # noqa: E402
from comfyume.tests.harness.discovery import ComfyInstall  # noqa: E402

FULL_EXAMPLES = 200
FEW_EXAMPLES = 20


def main() -> int:
    """Run what was asked for; 1 when something was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help=f"{FULL_EXAMPLES} examples and sequences; half an hour")
    parser.add_argument("--examples", type=int, default=FEW_EXAMPLES, help="random requests for each operation")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=sorted(PARTS), default=sorted(PARTS), help="who asks for what")
    parser.add_argument("--comfyui", type=Path, help="the ComfyUI to test with")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the logs and all requests here")
    options = parser.parse_args()
    install = discovery.at(options.comfyui) if options.comfyui else discovery.find("new")
    plan = Plan(options.seed, FULL_EXAMPLES if options.full else options.examples, has_links=options.full)
    print(f"ComfyUI {install.version}, seed {plan.seed}, {plan.examples} examples", flush=True)
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    found = [line for name in options.only for line in look(name, install, plan, options.keep)]
    print(f"{len(found)} findings", *found, sep="\n")
    return 1 if found else 0


def look(name: str, install: ComfyInstall, plan: Plan, keep: Path | None) -> list[str]:
    """One part on servers of its own, since a plain ComfyUI has one folder for all people; returns what it found."""
    folder = Path(tempfile.mkdtemp(prefix="api"))
    found = []
    try:
        with stress.stage(install, folder) as on:
            began = time.monotonic()
            for run in PARTS[name](on, install, plan):
                found += [f"{run.name}: {line}" for line in told(run, time.monotonic() - began)]
                began = time.monotonic()
                if keep:
                    lines = [json.dumps(str(it)) for it in run.exchanges]
                    (keep / f"{name}-{run.name}.jsonl").write_text("\n".join(lines))
            try:
                on.still_works()
            except (TimeoutError, RequestRefused) as error:
                found.append(f"afterwards a prompt does not run any more: {error}; {on.state()}")
            found += stress.exceptions(on)
        return [f"{name}: {line}" for line in found]
    finally:
        if keep:
            for log in folder.rglob("*.log"):
                shutil.copy(log, keep / f"{name}-{log.parent.name}-{log.name}")
        shutil.rmtree(folder, ignore_errors=True)


def told(run: Run, seconds: float) -> list[str]:
    """Print the figures of a run; returns what it found."""
    same = findings.same_errors(run.exchanges, run.operations)
    longest, which = findings.slowest(run.exchanges, "frontend")
    print(f"\n{run.name}: {len(run.exchanges)} requests to each in {seconds:.0f} s", flush=True)
    print(f"  neither can answer {sum(same.values())}: {dict(same)}")
    print(f"  the frontend's slowest answer took {longest:.2f} s: {which}")
    found = findings.errors(run.exchanges, run.operations, run.send_again)
    if run.is_compared:
        differences = findings.differences(run.exchanges, run.operations)
        reasons: Counter[str] = Counter()
        for difference in differences:
            reasons[difference.reason or "for no reason"] += difference.count
            print(f"  {difference}")
        print("  in all:", *(f"{count} {reason};" for reason, count in reasons.most_common()))
        found += [str(difference) for difference in differences if difference.reason is None]
    if run.failures:
        found.append(run.failures)
    return found


PARTS: dict[str, Callable[[Stage, ComfyInstall, Plan], Iterator[Run]]] = {
    "participant": lambda on, install, plan: stress.run_comfyuis(on, install, plan, on.cookie),
    "script": lambda on, install, plan: stress.run_comfyuis(on, install, plan, on.script),
    "instructor": lambda on, install, plan: stress.run_comfyuis(on, install, plan, on.instructor),
    "own": lambda on, _install, plan: stress.run_own(on, plan),
}


if __name__ == "__main__":
    sys.exit(main())
