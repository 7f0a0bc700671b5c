"""What of a workshop's keys belongs into a copy of it, and what a key looks like there.

Every kind of key is named here, by what stands before its first colon; a test sees to it that none is forgotten.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

#: Who is there at this moment, and what can be had again: workers register anew, and people sign in anew, since whoever
#: was signed out after the copy was made must not be signed in by it.
PASSING = frozenset(
    (
        *("worker", "presence", "inbox", "lease", "idle", "workers", "lost", "orphans", "grace", "swept", "nothing"),
        *(
            "session",
            "sessions-of",
            "failures",
            "browser",
            "events",
            "catalogue",
            "capabilities",
            "script-file",
            "fits",
        ),
        *("catalogues-seen", "catalogue-version", "sampled", "submits", "grant", "passed", "invitation"),
        *("restoring", "backup", "backup-lock"),
    )
)
#: Where jobs stand: made anew from the jobs.
DERIVED = frozenset(["queued", "running", "active", "people", "order", "heads", "lanes", "lane"])
#: Read at one moment, by ``cut.lua``; the jobs in it are those that have not ended.
OF_ONE_MOMENT = frozenset(["job", "allowance", "policy", "served", "reserved", "submitted", "ended", "usage", "turns"])
#: Streams, whose entries never change: they are kept by the hour.
STREAMS = frozenset(["ledger", "activity", "series", "webhooks"])
#: Of these it does not matter when they are read.
PLAIN = frozenset(["users", "limits", "signing-key", "kind", "needs", "seen", "history", "meter", "metered"])
#: What of it is about who people are; all else is about their jobs.
OF_USERS = frozenset({"users", "limits"})
#: What workers have told stays where a workshop is replaced: it is named by its content.
STAYING = frozenset(["catalogue", "capabilities", "script-file", "restoring", "backup", "backup-lock"])

Type = Literal["string", "hash", "set", "zset", "list", "stream"]


@dataclass(frozen=True)
class CopiedKey:
    """A key of a workshop.

    Attributes:
        name: without the workshop's prefix.
        ttl: milliseconds that it lives; -1 for ever.
        value: bytes; or a list of them, in which fields and values, or members and scores, alternate; or, of a stream,
            a list of ids, each with a list of fields and values.
    """

    name: str
    type: Type
    ttl: int
    value: Any

    @property
    def kind(self) -> str:
        """What stands before the first colon of its name."""
        return self.name.partition(":")[0]


def encode(keys: Iterable[CopiedKey]) -> Iterator[bytes]:
    """Lines of JSON, in which bytes are written as characters of the same number."""
    for key in keys:
        yield json.dumps([_text(key.name.encode()), key.type, key.ttl, _written(key.value)]).encode() + b"\n"


def decode(data: bytes) -> Iterator[CopiedKey]:
    """Read what ``encode`` wrote."""
    for line in data.splitlines():
        name, kind, ttl, value = json.loads(line)
        yield CopiedKey(name.encode("latin-1").decode(), kind, ttl, _read(value))


def _text(value: bytes) -> str:
    return value.decode("latin-1")


def _written(value: Any) -> Any:
    return _text(value) if isinstance(value, bytes) else [_written(each) for each in value]


def _read(value: Any) -> Any:
    return value.encode("latin-1") if isinstance(value, str) else [_read(each) for each in value]
