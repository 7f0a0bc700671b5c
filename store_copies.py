"""The store of a workshop as parts of a snapshot, and back."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from .backups.snapshot import Part
from .job_queue.copies import CopiedKey, decode, encode
from .job_queue.copying import Copying, Live, Segment

#: The part that must be there; the others are what has ended, by the hour.
LIVE = "store/live"


@dataclass
class StoreParts:
    """Copies a store as a snapshot asks for its parts.

    Attributes:
        facts: what lists tell of the copy.
    """

    copying: Copying
    facts: dict[str, int] = field(default_factory=dict)

    def parts(self) -> Iterator[Part]:
        """The parts, of one moment; each is read from the store when it is needed."""
        live = self.copying.live()
        ended = self.copying.ended(live)
        users = next((len(key.value) // 2 for key in live.keys if key.name == "users"), 0)
        self.facts |= {"users": users, "live": len(live.jobs), "ended": sum(len(each.ids) for each in ended)}
        yield Part(LIVE, "", partial(_packed_live, live))
        for segment in ended:
            yield Part(f"store/{segment.name}", segment.version, partial(self._jobs, segment))
        for segment, key in self.copying.entries(live):
            yield Part(f"store/{segment.name}", segment.version, partial(_packed, [key]))

    def _jobs(self, segment: Segment) -> bytes:
        return _packed(self.copying.jobs(segment))


@dataclass(frozen=True)
class StoreCopy:
    """What a snapshot has of a store.

    Attributes:
        taken: Unix seconds, by the store's clock.
        live: ids of the jobs that had not ended.
    """

    taken: float
    live: tuple[str, ...]
    keys: Iterable[CopiedKey]


def unpacked(names: Iterable[str], read: Callable[[str], bytes]) -> StoreCopy:
    """Read the parts of a store, one after the other as their keys are asked for.

    Args:
        names: of the parts, the live one among them.
        read: gives the bytes of a part.
    """
    head, body = zlib.decompress(read(LIVE)).split(b"\n", 1)
    told = json.loads(head)

    def keys() -> Iterator[CopiedKey]:
        yield from decode(body)
        for name in sorted(names):
            if name != LIVE:
                yield from decode(zlib.decompress(read(name)))

    return StoreCopy(told["taken_us"] / 1e6, tuple(told["live"]), keys())


def _packed(keys: Iterable[CopiedKey]) -> bytes:
    return zlib.compress(b"".join(encode(keys)))


def _packed_live(live: Live) -> bytes:
    head = {"taken_us": live.taken_us, "live": sorted(job_id.decode() for job_id in live.jobs)}
    return zlib.compress(json.dumps(head).encode() + b"\n" + b"".join(encode(live.keys)))
