"""Run chaos trials and say what they found: ``python tests/chaos/run.py [--full] [--seed N] [--only G2 ...]``."""

from __future__ import annotations

import argparse
import asyncio
import runpy
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

runpy.run_path(str(Path(__file__).resolve().parents[1] / "harness" / "package.py"))["register"]()

from comfyume.tests.chaos.groups import GROUPS, Group  # noqa: E402 - importable from here on
from comfyume.tests.chaos.reports import VIOLATED, Report, page  # noqa: E402
from comfyume.tests.chaos.room import TooLate  # noqa: E402
from comfyume.tests.chaos.stage import Stage  # noqa: E402


def main() -> int:
    """Run what was asked for; ``VIOLATED`` when a guarantee does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="the full number of trials; takes hours")
    parser.add_argument("--share", type=float, default=0.0, help="this share of the full number, as 0.1")
    parser.add_argument("--trials", type=int, help="so many trials of each group")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--only", nargs="+", metavar="G", help="guarantees, as G2 G3")
    parser.add_argument("--save", type=Path, help="page to write the figures to, as docs/chaos.md")
    parser.add_argument("--logs", type=Path, help="folder for the records; without it they are kept after a violation")
    parser.add_argument("--strict", action="store_true", help="what is known and waits to be mended is a violation too")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds to wait for jobs that should end")
    parser.add_argument(
        "--mutations", action="store_true", help="break the code on purpose and see each checker notice"
    )
    options = parser.parse_args()
    chosen = [group for group in GROUPS if not options.only or set(group.guarantees) & set(options.only)]
    if options.mutations:
        from comfyume.tests.chaos.mutations import try_all

        return try_all(chosen, options.seed)
    print(f"seed {options.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="chaos"))
    reports = []
    for group in chosen:
        share = 1.0 if options.full else options.share
        trials = options.trials or max(group.short, round(group.full * share))
        reports += run_group(group, Stage(folder, options.seed, options.patience, options.strict), trials)
    violated = any(report.violations for report in reports)
    if options.logs:
        # A ComfyUI's folder has links, one of them to this repository.
        ignored = shutil.ignore_patterns("shared", "*.sock")
        shutil.copytree(folder, options.logs, symlinks=True, dirs_exist_ok=True, ignore=ignored)
    if violated and not options.logs:
        print(f"records: {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    if options.save:
        options.save.write_text(page(reports, how(options)), encoding="utf-8")
    return VIOLATED if violated else 0


def how(options: argparse.Namespace) -> str:
    """The command that does the same again."""
    extent = "--full " if options.full else f"--share {options.share:g} " if options.share else ""
    return f"python tests/chaos/run.py {extent}--seed {options.seed} --save docs/chaos.md"


def run_group(group: Group, stage: Stage, trials: int) -> list[Report]:
    """Run one group and print what it found."""
    began = time.monotonic()
    try:
        reports = asyncio.run(group.run(stage, trials))
    except TooLate as error:
        reports = [Report(name, "", "", 0, [f"the trials could not go on: {error}"]) for name in group.guarantees]
    finally:
        stage.close()
    for report in reports:
        print(report.line(), flush=True)
        for violation in report.violations[:10]:
            print(f"     {violation}", flush=True)
    print(f"     {time.monotonic() - began:.0f} s", flush=True)
    return reports


if __name__ == "__main__":
    sys.exit(main())
