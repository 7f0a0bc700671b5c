"""What a workshop needs: the models of its templates and of people's workflows, in the order of need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .errors import UnsafeModelName
from .graphs import Mention, NoGraph, mentions, merged, read_graph
from .names import checked

#: What a file is taken to have, in bytes, whose size nobody knows.
UNKNOWN_SIZE = 10_000_000_000


@dataclass(frozen=True)
class Workflow:
    """A graph with what it needs. ``trusted`` is one of the workshop's own, a template; others are people's."""

    name: str
    needs: tuple[Mention, ...]
    trusted: bool


@dataclass(frozen=True)
class Need:
    """One model file that is needed, whose folder and name are safe.

    Attributes:
        urls: where it can be had, the first one first.
        sha256: of its content, or an empty string where no graph says it.
        templates, workflows: the names of the graphs that need it.
        runs: whether anything needs it that is not switched off.
    """

    folder: str
    name: str
    urls: tuple[str, ...] = ()
    sha256: str = ""
    templates: tuple[str, ...] = ()
    workflows: tuple[str, ...] = ()
    runs: bool = True

    @property
    def key(self) -> tuple[str, str]:
        """Folder and name."""
        return self.folder, self.name

    @property
    def path(self) -> str:
        """For people, and below the models' folder."""
        return f"{self.folder}/{self.name}" if self.folder else self.name


@dataclass(frozen=True)
class Plan:
    """All that is needed, in the order of need, and what could not be read.

    Attributes:
        nowhere: models whose folder nobody knows.
        problems: sentences on files that are no workflows and on names that lead elsewhere.
    """

    needs: tuple[Need, ...]
    nowhere: tuple[Need, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass
class _Gathered:
    mention: Mention
    trusted: bool
    templates: list[str] = field(default_factory=list)
    workflows: list[str] = field(default_factory=list)


def read_workflows(paths: Iterable[Path], *, trusted: bool) -> tuple[list[Workflow], list[str]]:
    """The workflows in files, or in folders and what is below them; and sentences on what is none. Blocking.

    A folder may hold other JSON files, which are left out in silence.
    """
    found, problems = [], []
    for path in paths:
        for file in _files(path):
            try:
                needs = tuple(mentions(read_graph(file)))
            except NoGraph as error:
                if file == path:
                    problems.append(str(error))
                continue
            name = file.stem if trusted or file == path else file.relative_to(path).with_suffix("").as_posix()
            found.append(Workflow(name, needs, trusted))
        if not path.exists():
            problems.append(f"There is no {path}.")
    return found, problems


def plan(
    workflows: Sequence[Workflow],
    size_of: Callable[[Need], int | None] = lambda _need: None,
    problems: Iterable[str] = (),
) -> Plan:
    """What these workflows need together.

    What a template says of a file holds; people's workflows add neither address nor hash to it, for anybody may write
    those.

    Args:
        size_of: how many bytes are still to be fetched of a file, 0 if it is there; None where nobody knows. The order
            is made by it: first the template that is complete soonest, then the next, then people's workflows, and last
            what only switched-off nodes need.
    """
    told = list(problems)
    gathered: dict[tuple[str, str], _Gathered] = {}
    for workflow in sorted(workflows, key=lambda each: not each.trusted):
        for mention in workflow.needs:
            try:
                key = checked(mention.folder, mention.name) if mention.folder else ("", mention.name)
            except UnsafeModelName as error:
                told.append(f"{workflow.name}: {error}")
                continue
            there = gathered.setdefault(key, _Gathered(mention, workflow.trusted))
            if workflow.trusted or not there.trusted:
                there.mention = merged(there.mention, mention)
            elif mention.runs:
                there.mention = merged(there.mention, Mention(*key, runs=True))
            names = there.templates if workflow.trusted else there.workflows
            if workflow.name not in names:
                names.append(workflow.name)
    needs = {
        key: Need(
            *key,
            urls=each.mention.urls,
            sha256=each.mention.sha256,
            templates=tuple(each.templates),
            workflows=tuple(each.workflows),
            runs=each.mention.runs,
        )
        for key, each in gathered.items()
    }
    homeless = tuple(need for key, need in needs.items() if not key[0] and not _is_elsewhere(key[1], needs))
    return Plan(tuple(_in_order([need for key, need in needs.items() if key[0]], size_of)), homeless, tuple(told))


def _is_elsewhere(name: str, needs: Iterable[tuple[str, str]]) -> bool:
    return any(folder and name == other for folder, other in needs)


def _in_order(needs: list[Need], size_of: Callable[[Need], int | None]) -> Iterator[Need]:
    sizes = {need.key: UNKNOWN_SIZE if (size := size_of(need)) is None else size for need in needs}
    running = [need for need in needs if need.runs]
    placed: set[tuple[str, str]] = set()
    for attribute in ("templates", "workflows"):
        waiting: dict[str, list[Need]] = {}
        for need in running:
            for name in getattr(need, attribute):
                waiting.setdefault(name, []).append(need)
        while waiting:
            left = {
                name: sum(sizes[need.key] for need in of_it if need.key not in placed)
                for name, of_it in waiting.items()
            }
            soonest = min(left, key=lambda name: left[name])
            for need in sorted(waiting.pop(soonest), key=lambda need: sizes[need.key]):
                if need.key not in placed:
                    placed.add(need.key)
                    yield need
    yield from sorted((need for need in needs if not need.runs), key=lambda need: sizes[need.key])


def _files(path: Path) -> list[Path]:
    return sorted(path.rglob("*.json")) if path.is_dir() else [path] if path.is_file() else []
