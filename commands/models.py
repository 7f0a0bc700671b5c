"""`comfyume models`: which models the workshop needs, where they are, and bringing them from there to here and back."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..blobs.errors import BlobError
from ..model_places import places_of, rules_of, vault_at
from ..model_vault.errors import ModelError
from ..model_vault.here import LocalModels
from ..model_vault.locating import Located, Locator
from ..model_vault.needs import Plan, Workflow, plan, read_workflows
from ..model_vault.places import Place
from ..model_vault.prune import too_much_here, unneeded
from ..model_vault.pull import AT_ONCE, Pull, Report
from ..model_vault.push import Push
from ..model_vault.sources import Sources
from ..model_vault.verify import verify_here, verify_vault
from ..settings import Settings
from . import models_told
from .comfyui_install import find_folder
from .errors import CommandError
from .models_progress import Progress, told_size
from .source_tree import ROOT
from .workshop_store import loaded_settings

TEMPLATES = ROOT / "workflows"
GB = 1e9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions and their options."""
    parser.add_argument("--models", type=Path, metavar="FOLDER", help="models of this machine (those of its ComfyUI)")
    parser.add_argument(
        "--place",
        action="append",
        default=[],
        help="where models are found, a folder or s3://NAME/PREFIX; in place of COMFYUME_MODELS; may be repeated",
    )
    parser.add_argument("--people", type=Path, metavar="FOLDER", help="folder of people's data (ComfyUI's `user`)")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    planning = actions.add_parser("plan", help="show which models templates and people's workflows need")
    _add_choice(planning)
    planning.add_argument("--no-people", action="store_true", help="without people's workflows")
    planning.add_argument("--json", action="store_true", help="print it for programs")

    pulling = actions.add_parser("pull", help="fill this machine: from folders, then buckets, then the sources")
    _add_choice(pulling)
    pulling.add_argument("--with-people", action="store_true", help="also what people's workflows need")
    _add_moving(pulling)

    pushing = actions.add_parser("push", help="put models of this machine into a bucket or a folder")
    pushing.add_argument("names", nargs="*", metavar="MODEL", help="FOLDER/FILE, or FOLDER for all in it; else all")
    pushing.add_argument("--to", required=True, metavar="PLACE", help="a folder, or s3://NAME/PREFIX")
    _add_moving(pushing)

    verifying = actions.add_parser("verify", help="find models that are cut off, changed, or under a wrong name")
    verifying.add_argument("names", nargs="*", metavar="MODEL", help="FOLDER/FILE, or FOLDER for all in it; else all")
    verifying.add_argument("--quick", action="store_true", help="look at sizes and headers alone")
    verifying.add_argument("--at", metavar="PLACE", help="look at the models of a bucket or a folder instead")

    actions.add_parser("list", help="show which models are where")

    pruning = actions.add_parser("prune", help="delete models that nothing needs, after asking")
    where = pruning.add_mutually_exclusive_group(required=True)
    where.add_argument("--at", metavar="PLACE", help="in a bucket or a folder, what no template or workflow needs")
    where.add_argument("--here", type=float, metavar="GB", help="on this machine, until models take so many GB at most")
    pruning.add_argument("--yes", action="store_true", help="do not ask")


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("templates", nargs="*", metavar="TEMPLATE", help="only what these templates need")
    parser.add_argument(
        "--workflow",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="also what this workflow needs, or all in this folder; may be repeated",
    )
    parser.add_argument("--offline", action="store_true", help="ask nothing on the internet")


def _add_moving(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--at-once", type=int, default=AT_ONCE, metavar="N", help="files at a time (%(default)s)")
    parser.add_argument("--allow-pickles", action="store_true", help="also files that are no safetensors")
    parser.add_argument("--replace", action="store_true", help="let other files of the same names be replaced")


@dataclass(frozen=True)
class Desk:
    """What the actions work with."""

    options: argparse.Namespace
    settings: Settings
    here: LocalModels
    people: Path | None

    @property
    def places(self) -> list[Place]:
        """Where models are found, the nearest first."""
        return places_of(self.settings, self.here, self.options.place)

    @property
    def allow_pickles(self) -> bool:
        """Whether files may move that are no safetensors."""
        return bool(self.options.allow_pickles or self.settings.models_pickles)

    def workflows(self, *, with_people: bool) -> tuple[list[Workflow], list[str]]:
        """The graphs that count: chosen templates, workflows that were named, and people's."""
        templates, problems = read_workflows([TEMPLATES], trusted=True)
        chosen = getattr(self.options, "templates", [])
        if unknown := sorted(set(chosen) - {each.name for each in templates}):
            known = ", ".join(each.name for each in templates)
            raise CommandError(f"There is no template {', '.join(unknown)}. There are: {known}.")
        found = [each for each in templates if not chosen or each.name in chosen]
        named, more = read_workflows(getattr(self.options, "workflow", []), trusted=True)
        problems += more
        if with_people and not chosen and self.people is not None:
            folders = sorted(self.people.glob("*/workflows"))
            for folder in folders:
                theirs, _ = read_workflows([folder], trusted=False)
                found += [Workflow(f"{folder.parent.name}: {each.name}", each.needs, False) for each in theirs]
        return found + named, problems


def run(options: argparse.Namespace) -> int:
    """Do what was asked for."""
    comfyui = find_folder()
    folder = options.models or (comfyui.folder / "models" if comfyui is not None else None)
    if folder is None:
        raise CommandError("There is no ComfyUI here: set COMFYUI_PATH, or name its folder of models with --models.")
    people = options.people or (comfyui.folder / "user" if comfyui is not None else None)
    desk = Desk(options, loaded_settings(), LocalModels(folder.expanduser()), people)
    try:
        return ACTIONS[options.action](desk)
    except (ModelError, BlobError, OSError) as error:
        raise CommandError(str(error)) from error


def _plan(desk: Desk) -> int:
    options = desk.options
    workflows, problems = desk.workflows(with_people=not options.no_people)

    async def look() -> tuple[Plan, list[Located]]:
        async with Sources(rules_of(desk.settings)) as sources:
            asked = None if options.offline else sources
            locator = Locator(desk.here, desk.places, asked, allow_pickles=desk.settings.models_pickles)
            return await locator.planned(workflows, problems)

    made, located = asyncio.run(look())
    models_told.tell_plan(made, located, as_json=options.json)
    return 0


def _pull(desk: Desk) -> int:
    options = desk.options
    at_once = _checked(options.at_once)
    workflows, problems = desk.workflows(with_people=options.with_people)

    async def fill() -> Report:
        async with Sources(rules_of(desk.settings)) as sources:
            asked = None if options.offline else sources
            locator = Locator(desk.here, desk.places, asked, allow_pickles=desk.allow_pickles, replace=options.replace)
            made, located = await locator.planned(workflows, problems)
            models_told.tell_problems(made)
            pull = Pull(desk.here, asked, watch=Progress(), at_once=at_once, replace=options.replace)
            return await pull.run(located)

    return models_told.tell_report(asyncio.run(fill()), "here", "came")


def _push(desk: Desk) -> int:
    options = desk.options
    workflows, _ = desk.workflows(with_people=False)
    urls = {need.key: need.urls[0] for need in plan(workflows).needs if need.urls}
    push = Push(
        desk.here,
        vault_at(desk.settings, options.to),
        urls=urls,
        watch=Progress(),
        at_once=_checked(options.at_once),
        allow_pickles=desk.allow_pickles,
        replace=options.replace,
    )
    files = [file for file in desk.here.files() if _is_named(f"{file.folder}/{file.name}", options.names)]
    if not files:
        raise CommandError(f"There is no such model in {desk.here.root}; `comfyume models list` shows what there is.")
    return models_told.tell_report(push.run(files), "there", "went")


def _verify(desk: Desk) -> int:
    options = desk.options
    if options.at:
        findings = verify_vault(vault_at(desk.settings, options.at), quick=options.quick)
        unsure = "only their sizes were looked at, as a bucket checks each part when it comes."
    else:
        findings = verify_here(
            desk.here,
            desk.places,
            quick=options.quick,
            only=lambda file: _is_named(f"{file.folder}/{file.name}", options.names),
        )
        unsure = "nobody has noted what they should have, so only their headers were looked at."
    return models_told.tell_findings(findings, unsure="" if options.quick else unsure)


def _list(desk: Desk) -> int:
    workflows, _ = desk.workflows(with_people=True)
    models_told.tell_list(desk.here, desk.places, plan(workflows))
    return 0


def _prune(desk: Desk) -> int:
    options = desk.options
    workflows, _ = desk.workflows(with_people=True)
    made = plan(workflows)
    theirs = sum(not each.trusted for each in workflows)
    print(f"{len(workflows) - theirs} templates and {theirs} workflows of people on this machine say what is needed.")
    needed = {need.key for need in (*made.needs, *made.nowhere)}
    if options.at:
        vault = vault_at(desk.settings, options.at)
        offers = unneeded(vault, needed)
        rows = [(f"{offer.folder}/{offer.name}", offer.size) for offer in offers]
        if not models_told.agreed(rows, f"Delete them from {vault.name}?", without_asking=options.yes):
            return 0 if not rows else 1
        freed = sum(vault.remove(offer) for offer in offers)
    else:
        elsewhere = [offer for place in desk.places for offer in place.offers()]
        leaving = too_much_here(desk.here, int(options.here * GB), needed, elsewhere)
        for file in leaving.last_copies:
            print(f"{file.folder}/{file.name} stays: nobody else has it. Push it somewhere first.")
        rows = [(f"{file.folder}/{file.name}", file.size) for file in leaving.going]
        if not models_told.agreed(rows, f"Delete them from {desk.here.root}?", without_asking=options.yes):
            return 0 if leaving.left <= leaving.limit else 1
        for file in leaving.going:
            desk.here.remove(file.folder, file.name)
        freed = sum(file.size for file in leaving.going)
    print(f"{told_size(freed)} are free again.")
    return 0


ACTIONS: dict[str, Callable[[Desk], int]] = {
    "plan": _plan,
    "pull": _pull,
    "push": _push,
    "verify": _verify,
    "list": _list,
    "prune": _prune,
}


def _is_named(path: str, names: Sequence[str]) -> bool:
    return not names or any(path == name.strip("/") or path.startswith(name.strip("/") + "/") for name in names)


def _checked(at_once: int) -> int:
    if not 1 <= at_once <= 32:
        raise CommandError("--at-once must be 1 to 32.")
    return at_once
