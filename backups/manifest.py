"""What a snapshot is: a list of names, each with the hash of its content."""

from __future__ import annotations

import calendar
import json
import re
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from .errors import NewerFormat

FORMAT = 1
Kind = Literal["file", "link", "folder"]
_ID = re.compile(r"\d{8}T\d{6}\.\d{3}Z-[0-9a-f]{8}(?:-[0-9a-f]{8})?\Z")


@dataclass(frozen=True)
class Entry:
    """One file, link or folder.

    Attributes:
        name: its source and its path there, as ``output/ada/ComfyUI_00001_.png``.
        inode, mtime_ns: by which a later snapshot sees that it is as it was.
        uid, gid, owner, group: whose it was, by number and by name.
        sha256: of its content; empty for a link or a folder.
        sealed: SHA-256 of the sealed content, where that is brought in parts; else empty.
        target: where a link leads.
    """

    name: str
    kind: Kind = "file"
    size: int = 0
    mtime_ns: int = 0
    inode: int = 0
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    owner: str = ""
    group: str = ""
    sha256: str = ""
    sealed: str = ""
    target: str = ""


@dataclass(frozen=True)
class PartEntry:
    """A part of what is no file: of the store. ``version`` tells whether it has to be read anew."""

    name: str
    version: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Summary:
    """What lists tell of a snapshot.

    Attributes:
        taken: Unix seconds.
        size: bytes of all that it holds; ``new_size`` of what the backup did not hold before.
        seconds: how long it took.
        machine: the worker whose own files it holds, and nothing else; empty for one of the workshop.
        problems: what is not in it that should be, in words for people.
        facts: what else people want to know, by its name: users, queued jobs, ...
    """

    id: str
    taken: float
    reason: str = ""
    host: str = ""
    workshop: str = ""
    files: int = 0
    size: int = 0
    new_files: int = 0
    new_size: int = 0
    seconds: float = 0.0
    problems: tuple[str, ...] = ()
    facts: dict[str, int] = field(default_factory=dict)
    machine: str = ""
    format: int = FORMAT


@dataclass(frozen=True)
class Manifest:
    """A snapshot. ``sources`` tells where its sources were, by their names."""

    summary: Summary
    sources: dict[str, str]
    parts: tuple[PartEntry, ...]
    entries: tuple[Entry, ...]

    def contents(self) -> Iterator[tuple[str, str, int]]:
        """Name, SHA-256 and size of each content that it needs."""
        for part in self.parts:
            yield part.name, part.sha256, part.size
        for entry in self.entries:
            if entry.kind == "file":
                yield entry.name, entry.sha256, entry.size


def is_id(text: str) -> bool:
    """Whether this is the name of a snapshot."""
    return _ID.match(text) is not None


def new_id(moment: float, random: str, mark: str = "") -> str:
    """The name of a snapshot: its moment in UTC, and eight random digits, since two machines may take one at once.

    Args:
        mark: eight digits of the machine whose own it is; empty for one of the workshop.
    """
    seconds, thousandths = divmod(int(moment * 1000), 1000)
    name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(seconds))}.{thousandths:03}Z-{random}"
    return f"{name}-{mark}" if mark else name


def mark_of(snapshot: str) -> str:
    """The mark of the machine whose own a snapshot is, by its name; empty for one of the workshop."""
    return snapshot.partition("-")[2].partition("-")[2]


def moment_of(snapshot: str) -> float:
    """When a snapshot was taken, by its name, in Unix seconds."""
    seconds, _, thousandths = snapshot.partition("Z")[0].partition(".")
    return calendar.timegm(time.strptime(seconds, "%Y%m%dT%H%M%S")) + int(thousandths) / 1000


def summary_of(data: bytes) -> Summary:
    """Read a summary. Raises ``NewerFormat``."""
    told = json.loads(data)
    if told.get("format", 0) > FORMAT:
        raise NewerFormat(f"The snapshot {told.get('id', '')}")
    return Summary(**{**told, "problems": tuple(told["problems"])})


def encode_summary(summary: Summary) -> bytes:
    """As JSON."""
    return json.dumps(asdict(summary)).encode()


def encode(manifest: Manifest) -> bytes:
    """Compressed lines, of which the beginning can be read without the end."""
    return zlib.compress(b"".join(_lines(manifest)))


def _lines(manifest: Manifest) -> Iterator[bytes]:
    head = {
        "summary": asdict(manifest.summary),
        "sources": manifest.sources,
        "parts": [asdict(p) for p in manifest.parts],
    }
    yield json.dumps(head).encode() + b"\n"
    usual = Entry("")
    for entry in manifest.entries:
        told = {each.name: getattr(entry, each.name) for each in fields(Entry)}
        yield json.dumps({n: v for n, v in told.items() if v != getattr(usual, n)}).encode() + b"\n"


def decode(pieces: Iterable[bytes]) -> Manifest:
    """Read what ``encode`` wrote, as far as its pieces go.

    Raises:
        ValueError: not even its head is there.
        NewerFormat: a later version wrote it.
    """
    unpacker = zlib.decompressobj()
    text = b"".join(unpacker.decompress(piece) for piece in pieces)
    *lines, _ = text.split(b"\n")
    if not lines:
        raise ValueError("it has no head")
    head: dict[str, Any] = json.loads(lines[0])
    summary = summary_of(json.dumps(head["summary"]).encode())
    parts = tuple(PartEntry(**part) for part in head["parts"])
    return Manifest(summary, head["sources"], parts, tuple(Entry(**json.loads(line)) for line in lines[1:]))
