"""The models of this machine: ComfyUI's ``models`` folder, what is known of the files in it, and what is arriving."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..blobs.digest import Digest, digest_file
from ..blobs.errors import BlobMissing
from ..blobs.filing import link_or_copy, try_lock, write_whole
from ..blobs.store import BlobFolder
from .errors import OtherFileHere, PullUnderWay
from .names import FORMER, NO_MODELS, checked, current, is_model

#: Beside the model folders, on the same disk as they are, so that a file that has arrived only needs another name.
OWN = ".comfyume-models"
#: Seconds after which what has arrived of a model is dropped that nobody went on with.
ABANDONED = 14 * 86_400


@dataclass(frozen=True)
class LocalFile:
    """A model of this machine; ``size`` is in bytes, ``used`` in seconds since 1970."""

    folder: str
    name: str
    path: Path
    size: int
    used: float


@dataclass(frozen=True)
class Known:
    """What was found out about a file when it came or was hashed last; ``state`` is what `state_of` said then."""

    digest: Digest
    url: str = ""
    state: tuple[int, int] = (0, 0)


class LocalModels:
    """A folder laid out as ComfyUI's ``models``. Methods block."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root).absolute()
        self._own = self.root / OWN
        self.staging = BlobFolder(self._own / "arriving")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from filling the folder meanwhile; the end of a process ends it too. Raises `PullUnderWay`."""
        self._own.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._own / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not try_lock(descriptor):
                raise PullUnderWay(self.root)
            yield
        finally:
            os.close(descriptor)

    def path(self, folder: str, name: str) -> Path | None:
        """Where a model is, also in a folder of a former name; None if it is not here."""
        for candidate in _spellings(folder):
            path = self.root / candidate / name
            if path.is_file():
                return path
        return None

    def files(self) -> list[LocalFile]:
        """All models, in the order of their names."""
        found: list[LocalFile] = []
        for folder in sorted(self.root.iterdir()) if self.root.is_dir() else ():
            if folder.is_dir() and not folder.name.startswith(".") and folder.name not in NO_MODELS:
                found.extend(_models_in(folder))
        return found

    def known(self, folder: str, name: str) -> Known | None:
        """What is noted of a model, whether or not it is here."""
        try:
            value = json.loads(self._note(folder, name).read_text(encoding="utf-8"))
            return Known(Digest(value["sha256"], value["size"]), value["url"], tuple(value["state"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def note(self, folder: str, name: str, known: Known) -> None:
        """Note what is known of a model."""
        path = self._note(folder, name)
        value = {"sha256": known.digest.sha256, "size": known.digest.size, "url": known.url, "state": list(known.state)}
        write_whole(path, json.dumps(value).encode())

    def digest(self, folder: str, name: str, path: Path) -> Digest:
        """What a model here has as its content; hashed unless that is noted and the file has not changed since.

        What was noted of another content stays noted, so that a change can be seen.
        """
        state = state_of(path)
        known = self.known(folder, name)
        if known is not None and known.state == state and known.digest.size == path.stat().st_size:
            return known.digest
        digest = digest_file(path)
        if known is None or known.digest == digest:
            self.note(folder, name, Known(digest, known.url if known else "", state))
        return digest

    def place(self, digest: Digest, folder: str, name: str, *, url: str = "", replace: bool = False) -> Path:
        """Give what has arrived its name, whole and at once.

        Raises:
            OtherFileHere: another file has the name, and may not be replaced.
            BlobMissing: it has not arrived.
        """
        source = self.staging.path(digest.sha256)
        if source is None:
            raise BlobMissing(digest.sha256)
        final = self._give_name(source, Known(digest, url, state_of(source)), folder, name, replace=replace)
        self.staging.discard(digest.sha256)
        return final

    def place_again(self, path: Path, folder: str, name: str, *, replace: bool = False) -> Path:
        """Give a model that was placed just now another name too. Raises `OtherFileHere`."""
        former = path.relative_to(self.root)
        known = self.known(former.parts[0], Path(*former.parts[1:]).as_posix())
        if known is None:
            raise BlobMissing(name)
        return self._give_name(path, known, folder, name, replace=replace)

    def _give_name(self, source: Path, known: Known, folder: str, name: str, *, replace: bool) -> Path:
        checked(folder, name)
        final = self.path(folder, name) or self.root / folder / name
        if final.exists() and not replace and digest_file(final) != known.digest:
            raise OtherFileHere(final, "another content", known.digest.sha256)
        final.parent.mkdir(parents=True, exist_ok=True)
        # First the note: without its file it does no harm, and a file without a note would be trusted less.
        self.note(folder, name, known)
        if replace and final.exists():
            beside = final.with_name(f".{final.name}.partial")
            beside.unlink(missing_ok=True)
            link_or_copy(source, beside)
            os.replace(beside, final)
        elif not final.exists():
            link_or_copy(source, final)
        return final

    def remove(self, folder: str, name: str) -> None:
        """Delete a model, and what is noted of it."""
        path = self.path(folder, name)
        if path is not None:
            path.unlink()
        self._note(folder, name).unlink(missing_ok=True)

    def tidy(self) -> None:
        """Drop what arrived and was placed already, and what nobody went on with for two weeks."""
        for path in self.staging.root.glob("[0-9a-f][0-9a-f]/*"):
            if path.suffix != ".partial" and path.stat().st_nlink > 1:
                path.unlink()
        self.staging.prune(0, unused_seconds=ABANDONED)

    def _note(self, folder: str, name: str) -> Path:
        folder, name = checked(folder, name)
        return self._own / "known" / folder / f"{name}.json"


def state_of(path: Path) -> tuple[int, int]:
    """What changes when a file is written to, or is another one: its time of change, in nanoseconds, and its inode."""
    state = path.stat()
    return state.st_mtime_ns, state.st_ino


def _spellings(folder: str) -> list[str]:
    return [folder, *(former for former, name in FORMER.items() if name == folder)]


def _models_in(folder: Path) -> Iterator[LocalFile]:
    seen = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        for name in sorted(names):
            path = Path(parent, name)
            if is_model(name) and not name.startswith(".") and path.is_file():
                state = path.stat()
                used = max(state.st_atime, state.st_mtime)
                relative = path.relative_to(folder).as_posix()
                yield LocalFile(current(folder.name), relative, path, state.st_size, used)
