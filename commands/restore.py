"""`comfyume restore`: bring back what a snapshot holds, all of it or a part."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..backups import restore as restoring
from ..backups.errors import ContentDamaged, NoSuchSnapshot, SnapshotDamaged, SnapshotIncomplete
from ..backups.manifest import Entry, Manifest, is_id, moment_of
from ..backups.moments import chosen
from ..backups.restore import Target
from ..backups.sources import Source
from ..backups.vault import Vault
from ..job_queue.connection import connect
from ..job_queue.keys import Keys
from ..job_queue.putting_back import Group, Held, PuttingBack
from ..store_copies import LIVE, unpacked
from ..workshop_backup import PATIENCE, back_up
from . import backup_place, workshop_store
from .backup_place import Workshop
from .errors import CommandError
from .workshop import default_state

#: Sources that `--only settings` means.
SETTINGS = ("settings", "secret")
#: What is told of the snapshots that a restore takes before it replaces something.
BEFORE = "before a restore"
MS_OF_DAY = 86_400_000


@dataclass(frozen=True)
class Choice:
    """What of a snapshot is asked for.

    Attributes:
        group: of the store; None for nothing.
        names: what the names of the files begin with; None for all, but the machine's own.
    """

    group: Group | None
    names: tuple[str, ...] | None

    def wants(self, entry: Entry) -> bool:
        """Whether a file is asked for."""
        if self.names is None:
            return not entry.name.startswith("system/")
        return any(entry.name == name or entry.name.startswith(f"{name}/") for name in self.names)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    backup_place.add_arguments(parser)
    parser.add_argument(
        "--at",
        default="",
        metavar="WHEN",
        help="`2026-11-30 14:00`, `yesterday`, `2h ago`, or a snapshot's name (the newest)",
    )
    parser.add_argument(
        "--of",
        default="",
        metavar="WORKER",
        help="of the snapshots that this worker took of its own files (the workshop's)",
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="WHAT",
        help="users, settings, queue, or the path of a file or folder, as output/ada; may be given several times",
    )
    parser.add_argument("--to", type=Path, metavar="DIR", help="put the files there; the workshop stays as it is")
    parser.add_argument("--replace", action="store_true", help="also if there are users or jobs, which are gone then")
    parser.add_argument(
        "--system", action="store_true", help="also the files of COMFYUME_BACKUP_PATHS, in their places"
    )
    parser.add_argument(
        "--what-is-there", action="store_true", help="restore the rest, should something be missing or damaged"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(options: argparse.Namespace) -> int:
    """Say what will be done, ask, and do it."""
    workshop = backup_place.found_workshop(options)
    with backup_place.failures_told():
        vault = backup_place.opened_backup(options, workshop)
        snapshot = _chosen(options.at, vault, options.of)
        manifest = vault.manifest(snapshot, what_is_there=options.what_is_there)
        choice = choice_of(options, manifest, workshop)
        parts = [part.name for part in manifest.parts] if choice.group else []
        planned = restoring.plan(vault, manifest, _targets(options, workshop, manifest), choice.wants, parts)
        if planned.missing and not options.what_is_there:
            raise SnapshotIncomplete(snapshot, planned.missing)
        read = _read_parts(vault, manifest, parts, planned, what_is_there=options.what_is_there)
        group = choice.group if LIVE in read else None
        with _store(options, group) as url:
            putting = _putting_back(workshop, url) if group else None
            _tell(options, planned, choice, manifest)
            if putting and group:
                _refuse_if_held(putting.held(), group, replace=options.replace)
            if not backup_place.agreed(options, "Go on?"):
                print("Nothing was changed.")
                return 0
            if putting and group and _in_the_way(putting.held(), group):
                before = back_up(vault, workshop.settings, workshop.places, url, f"{BEFORE} of {snapshot}")
                print(f"What the store held is in the snapshot {before.id}.")
            done = restoring.restore(
                vault, planned, backup_place.progress("Brought"), what_is_there=options.what_is_there
            )
            _tell_done(done)
            if putting and group:
                copy = unpacked(read, read.__getitem__)
                back = putting.put_back(copy.keys, copy.live, copy.taken, group)
                print(_back_in_words(group, back.queued, back.returned))
    return 0


def _chosen(when: str, vault: Vault, machine: str) -> str:
    """The snapshot that is meant. Those that restores have taken are meant only by their names or their moments."""
    if is_id(when.strip()):
        return chosen(when, vault.snapshots(), time.time())
    snapshots = vault.snapshots_of(machine)
    if machine and not snapshots:
        raise NoSuchSnapshot(
            f"There is no snapshot of the worker {machine}. `comfyume snapshots` lists those that there are."
        )
    while not when and len(snapshots) > 1:
        try:
            if not vault.summary(snapshots[-1]).reason.startswith(BEFORE):
                break
        except SnapshotDamaged:
            break
        snapshots.pop()
    return chosen(when, snapshots, time.time())


def choice_of(options: argparse.Namespace, manifest: Manifest, workshop: Workshop) -> Choice:
    """What is asked for.

    Raises:
        CommandError: the snapshot has nothing of that name.
    """
    if not options.only:
        group: Group | None = None if options.to or not manifest.parts else "all"
        return Choice(group, tuple(manifest.sources) if options.system else None)
    groups: set[Group] = set()
    names: list[str] = []
    for what in options.only:
        if what in ("users", "queue"):
            groups.add(what)
        elif what == "settings":
            names += SETTINGS
        else:
            names.append(_name_of(what, manifest, workshop))
    if groups and manifest.summary.machine:
        raise CommandError(
            f"The snapshot {manifest.summary.id} holds the worker's own files alone: no users, no queue."
        )
    if options.to and groups:
        raise CommandError("Users and the queue are in the store, not in files: leave --to out.")
    group = "all" if len(groups) == 2 else next(iter(groups), None)
    return Choice(group, tuple(names))


def _name_of(path: str, manifest: Manifest, workshop: Workshop) -> str:
    """What the names of the files begin with that a path means."""
    name = path.rstrip("/")
    if path.startswith("/"):
        own = {
            source.name: source.path for source in workshop.places.sources(workshop.settings) if not source.is_system
        }
        former = {source: Path(folder) for source, folder in manifest.sources.items() if source != "system"}
        roots = [*own.items(), *former.items()]
        name = next(
            (f"{source}/{Path(name).relative_to(root)}" for source, root in roots if Path(name).is_relative_to(root)),
            f"system{name}",
        ).removesuffix("/.")
    if not any(entry.name == name or entry.name.startswith(f"{name}/") for entry in manifest.entries):
        known = ", ".join(sorted(manifest.sources))
        raise CommandError(
            f"The snapshot {manifest.summary.id} has nothing at {path}. Write users, settings, queue, or a path that "
            f"begins with one of: {known}; as output/ada."
        )
    return name


def _targets(options: argparse.Namespace, workshop: Workshop, manifest: Manifest) -> dict[str, Target]:
    """Where the files go, by the name of their source. Those of the machine go to their places only if that is said."""
    sources = {source.name: source for source in workshop.places.sources(workshop.settings)}
    sources["system"] = Source("system", Path("/"), is_system=True)
    if options.to:
        folder = options.to.expanduser().absolute()
        return {name: Target(sources[name], folder / name) for name in manifest.sources if name in sources}
    wants_system = options.system or any(what.startswith("/") for what in options.only or ())
    return {name: Target(source, source.path) for name, source in sources.items() if name != "system" or wants_system}


def _read_parts(
    vault: Vault, manifest: Manifest, wanted: list[str], planned: restoring.Plan, *, what_is_there: bool
) -> dict[str, bytes]:
    """The parts of the store, before anything is changed."""
    read: dict[str, bytes] = {}
    for part in manifest.parts:
        if part.name in wanted and part.name not in planned.missing:
            try:
                read[part.name] = vault.read_small(part.sha256, part.name)
            except ContentDamaged:
                planned.missing.append(part.name)
    if planned.missing and not what_is_there:
        raise SnapshotIncomplete(manifest.summary.id, planned.missing)
    return read


@contextlib.contextmanager
def _store(options: argparse.Namespace, group: Group | None) -> Iterator[str]:
    """The URL of the store; on a new machine that of a new one."""
    if group is None:
        yield ""
        return
    settings = workshop_store.loaded_settings(options.system_folder)
    if settings.redis_url is None or options.state is not None:
        folder = (options.state.expanduser() if options.state is not None else options.system_folder) / "store"
        if options.state is not None or not (default_state() / "store").is_dir():
            folder.mkdir(parents=True, exist_ok=True)
    with workshop_store.found_store(options) as (url, _):
        yield url


def _putting_back(workshop: Workshop, url: str) -> PuttingBack:
    settings = workshop.settings
    client = connect(url, timeout=PATIENCE)
    return PuttingBack(client, Keys(settings.workshop), settings.history_size, int(settings.history_days * MS_OF_DAY))


def _in_the_way(held: Held, group: Group) -> bool:
    return bool((held.users and group != "queue") or ((held.live or held.ended) and group != "users"))


def _refuse_if_held(held: Held, group: Group, *, replace: bool) -> None:
    if _in_the_way(held, group) and not replace:
        raise CommandError(
            f"The workshop here has {held.users} users, {held.live} jobs in the queue and {held.ended} ended ones, "
            "which would be replaced, so nothing was changed. Add --replace to do it: what is there now becomes a "
            "snapshot first. Or restore the files alone: --only output --only input --only user"
        )


def _tell(options: argparse.Namespace, planned: restoring.Plan, choice: Choice, manifest: Manifest) -> None:
    snapshot = manifest.summary.id
    machine = f" of the worker {manifest.summary.machine} alone," if manifest.summary.machine else ""
    print(f"Snapshot {snapshot}{machine} of {backup_place.moment(moment_of(snapshot))}")
    counts: dict[str, int] = {}
    for entry, _, _ in planned.bring:
        source = entry.name.partition("/")[0]
        counts[source] = counts.get(source, 0) + (entry.kind == "file")
    where = f" to {options.to}" if options.to else ""
    told = ", ".join(f"{count} of {source}" for source, count in sorted(counts.items()) if count)
    print(
        f"  brings {sum(counts.values())} files, {backup_place.size(planned.size)}{where}{': ' if told else ''}{told}"
    )
    print(f"  {planned.same} files are here as they were")
    if planned.differs:
        print(f"  {len(planned.differs)} files here are others: they are kept in folders before-restore-...")
    if choice.group:
        facts = manifest.summary.facts
        users, live, ended = (facts.get(name, 0) for name in ("users", "live", "ended"))
        both = {"all": "users and jobs", "users": "users", "queue": "jobs"}[choice.group]
        print(f"  puts back {both}: there were {users} users, {live} jobs in the queue and {ended} ended ones")
        print("  everybody signs in anew; what ran at that moment waits in the queue again")
    if (left := planned.left.get("system", 0)) and not options.only:
        print(f"  leaves {left} files of the machine itself out: add --system for those")
    for name in planned.missing:
        print(f"  is missing: {name}")


def _tell_done(done: restoring.Done) -> None:
    print(f"Brought back {done.files} files.")
    for folder in done.aside:
        print(f"  what was in the way is in {folder}")
    for problem in done.problems:
        print(f"  not as it was: {problem}")


def _back_in_words(group: Group, queued: int, returned: int) -> str:
    if group == "users":
        return "Put back users and their limits; everybody signs in anew."
    told = f"Put back the queue: {queued} jobs wait"
    return f"{told}, {returned} of which ran at that moment." if returned else f"{told}."
