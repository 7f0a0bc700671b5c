"""What a workshop's backup is made of: where it lies, its key, the folders and the store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from .backups.errors import BackupError
from .backups.manifest import Summary
from .backups.secrecy import new_words
from .backups.snapshot import Progress, Wanted, take
from .backups.sources import Source
from .backups.vault import HEAD, Vault
from .blobs.cold_storage import ColdStorage
from .blobs.filing import write_once
from .blobs.store import BlobFolder
from .job_queue.connection import connect
from .job_queue.copying import Copying
from .job_queue.keys import Keys
from .model_vault.shelves import ARRIVING
from .object_stores import SCHEME, open_object_store
from .settings import FILE_NAME, Settings
from .store_copies import StoreParts
from .workshop_secret import FILE as SECRET_FILE

#: The key's file in the system folder, for who has not set COMFYUME_BACKUP_KEY.
KEY_FILE = "backup-key"
#: What is being sealed lies here, in the system folder.
STAGING = "backup"
TEMPLATES = Path(__file__).parent / "workflows"
#: Records of results that lie in the bucket of jobs' files, in the system folder.
COLD = "cold"
#: Seconds that a store has to tell of its whole queue.
PATIENCE = 60.0
#: What ComfyUI has in the folder of its users' folders that is nobody's work.
NOT_THEIRS = ("__*", "*.log", "*.log.*", "*.prev*", "*.db", "*.db-*", "*.db.*", "*.lock")


class NoTarget(BackupError):
    """No place for a backup is set."""

    def __init__(self) -> None:
        super().__init__(
            "There is no place for a backup yet: set COMFYUME_BACKUP to s3://NAME/PREFIX, or to a folder on another "
            "disk."
        )


class KeyMissing(BackupError):
    """There is a backup, but not its key."""

    def __init__(self, where: str, file: Path) -> None:
        super().__init__(
            f"The key of the backup in {where} is not here. Set COMFYUME_BACKUP_KEY to the words that were told when "
            f"it was begun, or write them into {file}."
        )


def _no_bucket() -> NoReturn:
    raise NoTarget


@dataclass(frozen=True)
class Places:
    """The folders of a workshop.

    Attributes:
        user: with which ComfyUI was started, for workflows and settings of people.
        system: where comfyume keeps its own things.
        home: of the user who runs ComfyUI.
        models: that people have brought.
    """

    input: Path
    output: Path
    user: Path
    system: Path
    home: Path
    models: Path

    def _cold(self) -> ColdStorage:
        """Tells what results hold that have been brought to a bucket since; it needs no bucket for that."""
        return ColdStorage(self.output, self.system / COLD, BlobFolder(self.system), _no_bucket)

    def sources(self, settings: Settings) -> list[Source]:
        """What of them belongs into a snapshot."""
        return [
            Source("input", self.input),
            Source("output", self.output, elsewhere=self._cold().digest_of),
            Source("user", self.user, skip=NOT_THEIRS),
            Source("models", self.models, skip=(ARRIVING,)),
            # Who restores these finds results again that lie in the bucket of jobs' files alone.
            Source("cold", self.system / COLD),
            Source("settings", self.system, only=(FILE_NAME,)),
            Source("secret", self.home / SECRET_FILE.parent, only=(SECRET_FILE.name,)),
            Source("templates", TEMPLATES),
            *([_machine(settings)] if settings.backup_paths else ()),
        ]


@dataclass(frozen=True)
class Key:
    """The words that seal a backup; ``made`` is the file into which they were written just now, if they are new."""

    words: str
    made: Path | None = None


def target_of(settings: Settings, given: str = "") -> str:
    """Where the backup lies. Raises ``NoTarget``."""
    where = given or settings.backup
    if not where:
        raise NoTarget
    return where


def key_of(settings: Settings, system: Path) -> Key | None:
    """The key, as it is set or lies in its file; None if there is none here."""
    if settings.backup_key:
        return Key(settings.backup_key)
    try:
        return Key((system / KEY_FILE).read_text(encoding="utf-8").strip())
    except FileNotFoundError:
        return None


def opened(settings: Settings, system: Path, given: str = "") -> Vault:
    """The backup that is there.

    Raises:
        BackupError: there is none, or its key is not here, or is another one.
        BlobError, OSError: the place does not do what it is asked.
    """
    objects = open_object_store(target_of(settings, given), settings)
    key = key_of(settings, system)
    if key is None:
        raise KeyMissing(objects.name, system / KEY_FILE)
    return Vault.open(objects, key.words)


def begun(settings: Settings, system: Path, given: str = "", *, is_new: bool = True) -> tuple[Vault, Key]:
    """The backup, which is begun where there is none; its key is made up then, unless it is set.

    Args:
        is_new: whether it may be begun. One that was there and is not any more is on a disk that is not.

    Raises:
        See ``opened``.
    """
    objects = open_object_store(target_of(settings, given), settings)
    key = key_of(settings, system)
    if key is None:
        if objects.size_of(HEAD) is not None:
            raise KeyMissing(objects.name, system / KEY_FILE)
        write_once(system / KEY_FILE, new_words() + "\n", mode=0o600)
        made = key_of(settings, system)
        key = Key(made.words if made is not None else "", system / KEY_FILE)
    return Vault.open(objects, key.words, create=is_new), key


def back_up_machine(settings: Settings, system: Path, reason: str) -> Summary:
    """Take a snapshot of a worker's ``backup_paths`` alone: it has no business with people's files and the store.

    Raises:
        See ``opened``. No key is made up here: a machine that ends would take it with it.
    """
    where = target_of(settings)
    objects = open_object_store(where, settings)
    key = key_of(settings, system)
    if key is None:
        raise KeyMissing(objects.name, system / KEY_FILE)
    # A folder that is not there is on a disk that is not.
    may_begin = where.startswith(SCHEME) or Path(where).expanduser().is_dir()
    vault = Vault.open(objects, key.words, create=may_begin)
    sources = [_machine(settings)]
    wanted = Wanted(sources, list, system / STAGING, reason, settings.workshop, machine=settings.worker_id)
    return take(vault, wanted)


def _machine(settings: Settings) -> Source:
    return Source("system", Path("/"), only=settings.backup_paths, is_system=True)


def back_up(
    vault: Vault, settings: Settings, places: Places, store_url: str, reason: str, progress: Progress | None = None
) -> Summary:
    """Take a snapshot of a workshop while it runs.

    Raises:
        BackupBusy: old ones are being cleared up.
        BlobError, OSError, QueueError: the backup or the store does not do what it is asked.
    """
    client = connect(store_url, timeout=PATIENCE)
    try:
        parts = StoreParts(Copying(client, Keys(settings.workshop)))
        wanted = Wanted(
            places.sources(settings),
            parts.parts,
            places.system / STAGING,
            reason,
            settings.workshop,
            lambda: parts.facts,
        )
        return take(vault, wanted, progress)
    finally:
        client.close()
