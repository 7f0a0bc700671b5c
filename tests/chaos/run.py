"""Run chaos trials and say what they found: ``python tests/chaos/run.py [--full] [--seed N] [--only G2 ...]``.

Each group is run by a process of its own, ``--at-once`` of them at the same time; a group that needs the machine for
itself comes behind the others. With ``--figures`` what it found is kept in a folder, and ``--merge`` makes a page of
what several runs have kept there.
"""

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

from comfyume.tests.chaos import figures  # noqa: E402 - importable from here on
from comfyume.tests.chaos.groups import GROUPS, Group  # noqa: E402
from comfyume.tests.chaos.reports import VIOLATED, Report  # noqa: E402
from comfyume.tests.chaos.room import TooLate  # noqa: E402
from comfyume.tests.chaos.stage import Stage  # noqa: E402
from comfyume.tests.harness.processes import die_with_parent  # noqa: E402


def main() -> int:
    """Run what was asked for; ``VIOLATED`` when a guarantee does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the full faults and number of trials; takes an hour")
    parser.add_argument("--share", type=float, default=0.0, help="the full faults, and this share of the full number")
    parser.add_argument("--trials", type=int, help="so many trials of each group")
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help="so many groups at the same time")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--only", nargs="+", metavar="G", help="guarantees, as G2 G3")
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="keep the figures of each group here")
    parser.add_argument("--save", type=Path, metavar="PAGE", help="write all figures to this page, as docs/chaos.md")
    parser.add_argument("--merge", action="store_true", help="run nothing, write the page from the figures kept")
    parser.add_argument("--logs", type=Path, help="folder for the records; without it they are kept after a violation")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds to wait for jobs that should end")
    parser.add_argument(
        "--mutations", action="store_true", help="break the code on purpose and see each checker notice"
    )
    options = parser.parse_args()
    if options.merge and not (options.figures and options.save):
        parser.error("--merge needs --figures and --save")
    chosen = [group for group in GROUPS if not options.only or set(group.guarantees) & set(options.only)]
    if options.mutations:
        from comfyume.tests.chaos.try_mutations import try_all

        return try_all(chosen, options.seed)
    with tempfile.TemporaryDirectory(prefix="figures") as temporary:
        folder = options.figures or Path(temporary)
        code = 0
        if not options.merge:
            print(f"seed {options.seed}", flush=True)
            code = run_here(chosen[0], options) if len(chosen) == 1 else asyncio.run(run_all(chosen, folder, options))
        if options.save:
            options.save.write_text(figures.page_of(folder), encoding="utf-8")
    return code


def run_here(group: Group, options: argparse.Namespace) -> int:
    """Run one group in this process and print what it found."""
    folder = Path(tempfile.mkdtemp(prefix="chaos"))
    is_full = options.full or options.share > 0
    trials = options.trials or max(group.short, round(group.full * (1.0 if options.full else options.share)))
    stage = Stage(folder, options.seed, options.patience, is_full)
    began = time.monotonic()
    try:
        reports = asyncio.run(group.run(stage, trials))
    except TooLate as error:
        reports = [Report(name, "", "", 0, [f"the trials could not go on: {error}"]) for name in group.guarantees]
    finally:
        stage.close()
    for report in reports:
        report.seconds, report.seed = round(time.monotonic() - began), options.seed
        print(report.line(), flush=True)
        for violation in report.violations[:10]:
            print(f"     {violation}", flush=True)
    print(f"     {reports[0].seconds} s", flush=True)
    if options.figures:
        figures.write(options.figures, reports, how(options))
    violated = any(report.violations for report in reports)
    if options.logs:
        # A ComfyUI's folder has links, one of them to this repository.
        ignored = shutil.ignore_patterns("shared", "*.sock")
        shutil.copytree(folder, options.logs, symlinks=True, dirs_exist_ok=True, ignore=ignored)
    if violated and not options.logs:
        print(f"records: {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return VIOLATED if violated else 0


async def run_all(groups: list[Group], folder: Path, options: argparse.Namespace) -> int:
    """Run each group in a process of its own: 1 when one could not say what it found."""
    lanes = asyncio.Semaphore(options.at_once)

    async def run_one(group: Group) -> int:
        async with lanes:
            return await run_apart(group, folder, options)

    codes = await asyncio.gather(*(run_one(group) for group in groups if not group.is_alone))
    codes += [await run_apart(group, folder, options) for group in groups if group.is_alone]
    return 1 if set(codes) - {0, VIOLATED} else max(codes)


async def run_apart(group: Group, folder: Path, options: argparse.Namespace) -> int:
    """How the process of this group ended; what it printed is printed when it has."""
    arguments = ["--only", group.guarantees[0], "--figures", str(folder), "--seed", str(options.seed)]
    arguments += ["--share", str(options.share), "--patience", str(options.patience)]
    arguments += [
        word for name in ("trials", "logs") if (value := getattr(options, name)) for word in (f"--{name}", str(value))
    ]
    arguments += ["--full"] if options.full else []
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        preexec_fn=die_with_parent,
    )
    output, _ = await process.communicate()
    print(output.decode().removeprefix(f"seed {options.seed}\n"), end="", flush=True)
    code = await process.wait()
    if code not in (0, VIOLATED):
        print(f"{' '.join(group.guarantees)} ended with {code} and has no figures", flush=True)
    return code


def how(options: argparse.Namespace) -> str:
    """The command that does the same again, for all groups."""
    extent = "--full " if options.full else f"--share {options.share:g} " if options.share else ""
    number = f"--trials {options.trials} " if options.trials else ""
    return f"python tests/chaos/run.py {extent}{number}--seed {options.seed}"


if __name__ == "__main__":
    sys.exit(main())
