"""Copying a workshop while it runs, without holding it up. Blocking functions.

One script reads the jobs that have not ended, at one moment. What is read after it is taken only as far as it was so at
that moment: an ended job never changes, so it is enough to know that it had ended by then; an entry of a stream has its
moment in its id.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from .connection import store_errors
from .copies import PLAIN, STREAMS, CopiedKey
from .keys import Keys, named
from .scripts import Scripts

#: Keys that are read in one go, and entries of a stream.
AT_ONCE = 200
ENTRIES = 1_000
HOUR_US = 3600 * 10**6
FINAL = (b"done", b"error", b"cancelled", b"quarantined")


@dataclass(frozen=True)
class Segment:
    """A piece of what never changes: it is the same as long as its version is.

    Attributes:
        key: of which stream; ``job`` for ended jobs.
        hour: since 1970.
        ids: of the jobs, or of the entries.
    """

    key: str
    hour: int
    ids: tuple[bytes, ...]

    @property
    def name(self) -> str:
        """By which it is found again."""
        return f"{self.key}/{self.hour}"

    @property
    def version(self) -> str:
        """Digest of what is in it."""
        return hashlib.sha256(b"\0".join(self.ids)).hexdigest()


@dataclass(frozen=True)
class Live:
    """What a workshop was at one moment, without its ended jobs and its streams.

    Attributes:
        taken_us: microseconds since 1970, by the store's clock.
        jobs: ids of those that had not ended.
    """

    taken_us: int
    jobs: frozenset[bytes]
    keys: tuple[CopiedKey, ...]


def names_like(client: Any, keys: Keys, pattern: str) -> list[str]:
    """The names of a workshop's keys that match a pattern, found a few at a time, so that nobody is held up."""
    found = client.scan_iter(match=named(keys, pattern), count=1_000)
    # A scan may bring a name twice.
    return sorted({name.decode()[len(keys.prefix) :] for name in found})


class Copying:
    """Copies one workshop. Every method raises what ``store_errors`` names.

    Args:
        client: for threads, with time enough for a read of the whole queue.
    """

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        # The library types replies as text or bytes; without a decoder they are bytes.
        self._client: Any = client
        self._keys = keys
        self._scripts = Scripts(client)

    def live(self) -> Live:
        """What the workshop is now."""
        with store_errors():
            people = [name.partition(":")[2] for name in names_like(self._client, self._keys, "allowance:*")]
            taken, jobs, hashes, sets, counters = self._scripts.run("cut", self._keys.prefix, *people)
            copied = [
                *(CopiedKey(f"job:{job_id.decode()}", "hash", -1, fields) for job_id, fields in jobs),
                *(CopiedKey(name.decode(), "hash", -1, fields) for name, fields in hashes),
                *(CopiedKey(name.decode(), "zset", -1, members) for name, members in sets if members),
                *(CopiedKey(name.decode(), "string", -1, value) for name, value in counters),
            ]
            live = frozenset(job_id for job_id, _ in jobs)
            names = names_like(self._client, self._keys, "*")
            listed = set(live)
            for key in self._read([name for name in names if name.partition(":")[0] in PLAIN]):
                if key.kind == "history":
                    listed.update(key.value[::2])
                    key = _until(key, int(taken), live)  # noqa: PLW2901
                copied.append(key)
            others = [name for name in names if name.startswith("job:") and name[4:].encode() not in listed]
            copied += (key for key in self._read(others) if _has_ended(key, by_us=int(taken)))
        return Live(int(taken), live, tuple(key for key in copied if key.value))

    def ended(self, live: Live) -> list[Segment]:
        """The jobs that had ended by then, by the hour of their end."""
        hours: dict[int, list[bytes]] = defaultdict(list)
        for key in live.keys:
            if key.kind == "history":
                for job_id, score in zip(key.value[::2], key.value[1::2], strict=True):
                    hours[int(float(score)) // HOUR_US].append(job_id)
        return [Segment("job", hour, tuple(sorted(ids))) for hour, ids in sorted(hours.items())]

    def jobs(self, segment: Segment) -> list[CopiedKey]:
        """The ended jobs of a segment; those that were forgotten meanwhile are left out."""
        with store_errors():
            read = list(self._read([f"job:{job_id.decode()}" for job_id in segment.ids]))
        return [CopiedKey(key.name, key.type, -1, key.value) for key in read if _has_ended(key)]

    def entries(self, live: Live) -> Iterator[tuple[Segment, CopiedKey]]:
        """The entries of the streams by then, by the hour, one piece after the other."""
        for stream in sorted(STREAMS):
            hour = -1
            entries: list[Any] = []
            for entry, fields in self._stream(stream, live):
                of = int(entry.partition(b"-")[0]) * 1000 // HOUR_US
                if of != hour and entries:
                    yield _piece(stream, hour, entries)
                    entries = []
                hour = of
                entries.append([entry, fields])
            if entries:
                yield _piece(stream, hour, entries)

    def _stream(self, stream: str, live: Live) -> Iterator[tuple[bytes, list[bytes]]]:
        start = "-"
        while True:
            with store_errors():
                rows = self._client.xrange(named(self._keys, stream), start, str(live.taken_us // 1000), ENTRIES)
            for entry, fields in rows:
                # Of the same millisecond, and yet after that moment.
                if stream == "activity" or fields.get(b"job") not in live.jobs:
                    yield entry, [each for pair in fields.items() for each in pair]
            if len(rows) < ENTRIES:
                return
            start = f"({rows[-1][0].decode()}"

    def _read(self, names: Sequence[str]) -> Iterator[CopiedKey]:
        for start in range(0, len(names), AT_ONCE):
            some = names[start : start + AT_ONCE]
            with self._client.pipeline(transaction=False) as pipeline:
                for name in some:
                    pipeline.type(named(self._keys, name))
                types = pipeline.execute()
                for name, kind in zip(some, types, strict=True):
                    READS.get(kind, READS[b"string"])(pipeline, named(self._keys, name))
                    pipeline.pttl(named(self._keys, name))
                read = pipeline.execute()
            for name, kind, value, ttl in zip(some, types, read[::2], read[1::2], strict=True):
                if kind in READS and value:
                    yield CopiedKey(name, kind.decode(), ttl, _flat(kind, value))


READS: dict[bytes, Any] = {
    b"string": lambda pipeline, key: pipeline.get(key),
    b"hash": lambda pipeline, key: pipeline.hgetall(key),
    b"set": lambda pipeline, key: pipeline.smembers(key),
    b"zset": lambda pipeline, key: pipeline.zrange(key, 0, -1, withscores=True),
    b"list": lambda pipeline, key: pipeline.lrange(key, 0, -1),
}
"""How each type of key is read; streams are read in pieces."""


def _flat(kind: bytes, value: Any) -> Any:
    """A value in the form that ``CopiedKey`` tells of, in an order that is the same each time."""
    if kind == b"hash":
        return [each for pair in sorted(value.items()) for each in pair]
    if kind == b"zset":
        return [each for member, score in value for each in (member, f"{score:.17g}".encode())]
    return sorted(value) if kind == b"set" else value


def _has_ended(key: CopiedKey, by_us: float = float("inf")) -> bool:
    """Whether this is a job that had ended by a moment. One that was cancelled as it waited is in no history, and yet
    its id is taken."""
    fields = dict(zip(key.value[::2], key.value[1::2], strict=True))
    return fields.get(b"state") in FINAL and int(fields.get(b"finished", b"0")) * 1000 <= by_us


def _until(key: CopiedKey, taken_us: int, live: frozenset[bytes]) -> CopiedKey:
    """A history as it was at a moment."""
    pairs = zip(key.value[::2], key.value[1::2], strict=True)
    kept = [each for pair in pairs if float(pair[1]) <= taken_us and pair[0] not in live for each in pair]
    return CopiedKey(key.name, key.type, key.ttl, kept)


def _piece(stream: str, hour: int, entries: list[Any]) -> tuple[Segment, CopiedKey]:
    return Segment(stream, hour, tuple(entry for entry, _ in entries)), CopiedKey(stream, "stream", -1, entries)
