"""A workshop with files of its people, and a backup of it in a bucket or a folder."""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from comfyume.backups import restore as restoring
from comfyume.backups.manifest import Entry, Summary
from comfyume.backups.snapshot import Part, Wanted, take
from comfyume.backups.sources import Source
from comfyume.backups.vault import Vault
from comfyume.blobs.digest import Digest
from comfyume.blobs.object_folder import FolderObjects
from comfyume.blobs.object_store import ObjectStore

WORDS = "the words of this backup"


def files_of(*roots: Path) -> dict[str, bytes]:
    """What folders hold, by path, without what restores put aside."""
    return {
        f"{root.name}/{path.relative_to(root).as_posix()}": path.read_bytes()
        for root in roots
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.relative_to(root).parts[0].startswith((".comfyume", "before-restore-"))
    }


@dataclass
class Copied:
    """Folders of a workshop, and their backup."""

    folder: Path
    objects: ObjectStore
    parts: Callable[[], list[Part]] = list
    extra: tuple[str, ...] = ()
    elsewhere: Callable[[Path], Digest | None] = lambda _: None
    vault: Vault = field(init=False)

    def __post_init__(self) -> None:
        self.vault = Vault.open(self.objects, WORDS, create=True)

    @property
    def roots(self) -> tuple[Path, Path]:
        return self.folder / "input", self.folder / "output"

    @property
    def sources(self) -> list[Source]:
        extra = [Source("system", Path("/"), only=self.extra, is_system=True)] if self.extra else []
        return [*(Source(root.name, root, elsewhere=self.elsewhere) for root in self.roots), *extra]

    def write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        # So long ago that nobody doubts that it is as it was.
        os.utime(path, (1_600_000_000, 1_600_000_000))
        return path

    def fill(self, people: int, files: int, seed: int = 0) -> None:
        chance = random.Random(seed)
        for number in range(files):
            person, root = number % people, "output" if number % 4 else "input"
            self.write(f"{root}/user{person:03}/made/{number:05}.png", chance.randbytes(chance.randint(500, 6_000)))

    def content(self) -> dict[str, bytes]:
        return files_of(*self.roots)

    def snapshot(self, reason: str = "") -> Summary:
        return take(self.vault, Wanted(self.sources, self.parts, self.folder / "staging", reason))

    def targets(self, folder: Path | None = None) -> dict[str, restoring.Target]:
        targets = {}
        for source in self.sources:
            root = source.path if folder is None else folder / source.name
            targets[source.name] = restoring.Target(source, root)
        return targets

    def plan(
        self, snapshot: str, *, wanted: Callable[[Entry], bool] = lambda _: True, to: Path | None = None, **options: Any
    ) -> restoring.Plan:
        manifest = self.vault.manifest(snapshot, **options)
        return restoring.plan(self.vault, manifest, self.targets(to), wanted, [part.name for part in manifest.parts])

    def restore(self, snapshot: str, *, what_is_there: bool = False, **options: Any) -> restoring.Done:
        planned = self.plan(snapshot, what_is_there=what_is_there, **options)
        return restoring.restore(self.vault, planned, what_is_there=what_is_there)


@pytest.fixture(params=["bucket", "folder"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """A place for a backup."""
    if request.param == "folder":
        return FolderObjects(tmp_path / "backup")
    bucket: ObjectStore = request.getfixturevalue("s3").open(prefix=f"backup-{uuid.uuid4().hex[:8]}")
    return bucket


@pytest.fixture
def copied(objects: ObjectStore, tmp_path: Path) -> Copied:
    """A workshop's folders with a place for their backup."""
    return Copied(tmp_path / "workshop", objects)
