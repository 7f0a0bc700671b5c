"""What `comfyume models` prints: plans, lists, findings, and the question before something is deleted."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence

from ..model_vault.here import LocalModels
from ..model_vault.locating import Located
from ..model_vault.needs import Plan
from ..model_vault.places import Offer, Place
from ..model_vault.pull import Report
from ..model_vault.verify import Finding
from .errors import CommandError
from .models_progress import told_size


def tell_plan(plan: Plan, located: Sequence[Located], *, as_json: bool) -> None:
    """Print what is needed, in the order of need."""
    if as_json:
        print(json.dumps([_as_json(each) for each in located], indent=1))
        return
    for each in located:
        need = each.need
        print(f"{need.path}  {_size(each.size)}  {_whereabouts(each)}")
        print(f"    for {', '.join((*need.templates, *need.workflows))}{'' if need.runs else ' (switched off there)'}")
        if each.sha256:
            print(f"    sha256 {each.sha256}")
        for url in need.urls:
            print(f"    {url}")
        for problem in each.problems:
            print(f"    {problem}")
    tell_problems(plan)
    missing = [each for each in located if not each.is_here]
    unknown = sum(each.size is None for each in missing)
    total = told_size(sum(each.size or 0 for each in missing))
    also = f", and {unknown} whose size nobody knows" if unknown else ""
    print(f"{len(located)} models; {len(missing)} are not here: {total}{also}.")


def tell_problems(plan: Plan) -> None:
    """Print what a plan leaves out, and why."""
    for need in plan.nowhere:
        who = ", ".join((*need.templates, *need.workflows))
        print(f"{need.name}: no folder is known for it, as a node of {who} does not say it. Put it there by hand.")
    for problem in plan.problems:
        print(problem)


def tell_report(report: Report, where: str, verb: str) -> int:
    """Print what became of a pull or a push; the exit status."""
    for folder, name in report.unnamed:
        print(f"{folder}/{name}: nobody told its hash beforehand. What it has is noted now and expected from now on.")
    for (folder, name), why in report.failed.items():
        print(f"{folder}/{name}: {why}")
    print(f"{len(report.come)} {verb}, {len(report.failed)} did not. All others are {where} already.")
    return 1 if report.failed else 0


def tell_findings(findings: Iterable[Finding], *, unsure: str) -> int:
    """Print what is wrong as it is found; the exit status. ``unsure`` says why some are not known for certain."""
    total = bad = unknown = 0
    is_terminal = sys.stderr.isatty()
    for finding in findings:
        total += 1
        if is_terminal:
            sys.stderr.write(f"\r\x1b[K{total} looked at, the last one {finding.name}"[:118])
            sys.stderr.flush()
        bad += bool(finding.problem)
        unknown += not finding.is_certain
        if finding.problem:
            _clear(is_terminal)
            print(f"{finding.name}: {finding.problem}")
    _clear(is_terminal)
    print(f"{total} models looked at, {bad} of them are damaged.")
    if unknown and unsure:
        print(f"Of {unknown}: {unsure}")
    return 1 if bad else 0


def _clear(is_terminal: bool) -> None:
    if is_terminal:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def tell_list(here: LocalModels, places: Sequence[Place], plan: Plan) -> None:
    """Print which models are where."""
    sizes = {(file.folder, file.name): file.size for file in here.files()}
    offers: list[dict[tuple[str, str], Offer]] = [{offer.key: offer for offer in place.offers()} for place in places]
    needed = {need.key: need for need in plan.needs}
    print(f"Here is {here.root}.")
    for number, place in enumerate(places, 1):
        print(f"Place {number} is {place.name}.")
    for key in sorted({*sizes, *needed, *(key for each in offers for key in each)}):
        size = sizes.get(key) or next((each[key].size for each in offers if key in each), None)
        marks = ["here" if key in sizes else "-", *(str(n) if key in each else "-" for n, each in enumerate(offers, 1))]
        need = needed.get(key)
        count = len(need.templates) + len(need.workflows) if need else 0
        used = f"needed by {count}" if count else "not needed"
        print(f"{' '.join(f'{mark:<4}' for mark in marks)} {_size(size):>10}  {'/'.join(key)}  ({used})")


def agreed(rows: Sequence[tuple[str, int]], question: str, *, without_asking: bool) -> bool:
    """Tell what would go, and ask. False also where nothing would."""
    if not rows:
        print("There is nothing to delete.")
        return False
    for name, size in rows:
        print(f"{_size(size):>10}  {name}")
    print(f"{len(rows)} models, {told_size(sum(size for _, size in rows))}.")
    if without_asking:
        return True
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        raise CommandError("Nobody is there to ask: say --yes if you mean it. Nothing was deleted.") from None


def _whereabouts(each: Located) -> str:
    if each.is_here:
        return "here"
    if each.places:
        return f"in {each.places[0][0].name}"
    return "at its source" if each.sources else "not asked for" if each.need.urls and not each.problems else "nowhere"


def _size(size: int | None) -> str:
    return "? bytes" if size is None else told_size(size)


def _as_json(each: Located) -> dict[str, object]:
    need = each.need
    return {
        "folder": need.folder,
        "file": need.name,
        "size": each.size,
        "sha256": each.sha256,
        "urls": list(need.urls),
        "here": each.is_here,
        "places": [place.name for place, _ in each.places],
        "templates": list(need.templates),
        "workflows": list(need.workflows),
        "switched_off": not need.runs,
        "problems": list(each.problems),
    }
