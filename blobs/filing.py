"""Give a file a name in a folder: all at once, never over a file that has the name. Blocking functions."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .digest import CHUNK
from .errors import disk_full_explained

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_LINKS_UNSUPPORTED = frozenset(
    getattr(errno, name)
    for name in ("EXDEV", "EPERM", "EACCES", "ENOSYS", "ENOTSUP", "EOPNOTSUPP", "EMLINK", "EINVAL")
    if hasattr(errno, name)
)


class CannotLink(Exception):
    """A hard link from this file to that folder is impossible here."""


def link_exclusively(source: Path, final: Path) -> None:
    """Give `source` a second name. Raises FileExistsError if that is taken, `CannotLink` if links are impossible."""
    try:
        os.link(source, final)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno in _LINKS_UNSUPPORTED:
            raise CannotLink from error
        raise


def rename_exclusively(staged: Path, final: Path) -> None:
    """Move a file within its folder where links do not work. Raises FileExistsError if the name is taken.

    The name is claimed with an empty file, which the rename then replaces: a reader may see it empty for a moment.
    """
    os.close(os.open(final, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        os.replace(staged, final)
    except OSError:
        final.unlink(missing_ok=True)
        raise


@contextmanager
def staged_copy(source: Path, folder: Path) -> Iterator[Path]:
    """Copy `source` to a hidden name in `folder`, synced to the disk; the hidden name is gone afterwards.

    Raises `NotEnoughSpace` if the disk is full.
    """
    staged = folder / f".comfyume-{secrets.token_hex(8)}.part"
    try:
        with (
            disk_full_explained(folder, source.stat().st_size),
            open(source, "rb") as reader,
            open(staged, "xb") as writer,
        ):
            shutil.copyfileobj(reader, writer, CHUNK)
            writer.flush()
            os.fsync(writer.fileno())
        yield staged
    finally:
        staged.unlink(missing_ok=True)


def link_or_copy(source: Path, final: Path) -> None:
    """Let `final` have the content of `source`: by a hard link where possible, else by a copy that appears at once.

    Raises FileExistsError if `final` exists, `NotEnoughSpace` if a copy does not fit.
    """
    with suppress(CannotLink):
        return link_exclusively(source, final)
    with staged_copy(source, final.parent) as staged:
        with suppress(CannotLink):
            return link_exclusively(staged, final)
        return rename_exclusively(staged, final)


def try_lock(descriptor: int) -> bool:
    """Take the advisory lock of an open file without waiting; closing the file releases it.

    True also where the system has no such locks: then only locks within this process protect.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


@contextmanager
def folder_locked(folder: Path) -> Iterator[None]:
    """Keep other processes' placings out of `folder` meanwhile, where the system can; leaves no file behind."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks: names are still claimed atomically
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write_once(path: Path, text: str, mode: int = 0o666) -> None:
    """Write a file unless it is there already; of several at once the first one's stays. Raises OSError."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        # A link is never half there, and fails if somebody else was first.
        os.link(new, path)
    except FileExistsError:
        pass
    finally:
        new.unlink()


def write_whole(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a small file, in place of one that may be there: at once, and on the disk. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(staged, path)
    finally:
        staged.unlink(missing_ok=True)


def is_below(path: str | os.PathLike[str], root: str | os.PathLike[str]) -> bool:
    """Whether a path leads into a folder, or to it, wherever links in it lead; one with a NUL in it leads nowhere."""
    try:
        real, real_root = os.path.realpath(path), os.path.realpath(root)
    except ValueError:
        return False
    return real == real_root or real.startswith(os.path.join(real_root, ""))
