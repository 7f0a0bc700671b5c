"""Jobs as the rest of the program sees them."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal, cast, get_args

#: Bytes of a GiB, the unit in which people are told of a GPU's memory.
GIB = 1024**3

Order = Literal["back", "front"]
State = Literal["queued", "claimed", "running", "done", "error", "cancelled", "quarantined"]
QueueMode = Literal["fifo", "round_robin", "fair"]
#: The instructor's priorities: jobs of level 0 go first, 2 is the usual one; ``front`` is ahead of all.
Level = Literal["front", "0", "1", "2", "3"]
RUNNING: tuple[State, ...] = ("claimed", "running")

#: Made once: `json.dumps` makes one at each call that asks for other separators.
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_STRICT_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


def encode_json(value: Any) -> bytes:
    """Compact JSON. NaN and infinities pass, as they do in ComfyUI."""
    return _ENCODER.encode(value).encode()


def _encode_strictly(value: Any) -> bytes:
    """Compact JSON that every browser reads: ``ValueError`` for NaN and infinities."""
    return _STRICT_ENCODER.encode(value).encode()


@dataclass(frozen=True)
class MemoryNeed:
    """What a graph tells of the memory that it takes on a GPU, in bytes.

    Attributes:
        stated: what a node of the graph says that it takes.
        estimate: what its model files let expect, until one of its kind has run.
        sizes: the numbers in it that decide how much it takes, such as width and frames, as one word.
    """

    stated: int | None = None
    estimate: int | None = None
    sizes: str = ""


@dataclass(frozen=True)
class Submission:
    """What is asked of the workshop: one prompt.

    Attributes:
        order: ``back``, ``front``, or ComfyUI's explicit number.
        payload: what history shows: ``prompt``, ``extra_data``, ``outputs``.
        secrets: keys that reach the worker and nothing else, sealed; deleted when the job ends. See ``sealing.py``.
        envelope: what the worker needs beside the payload (files, addresses, the client's features).
        brief: the little of the payload that lists of jobs show.
        needs: what a worker must have: ``node:NAME`` and ``model:FOLDER/FILE``.
        memory: what the graph tells of the memory that it takes.
        disk: bytes that the person's files take; None if nobody has counted.
        webhook: address to which its end is told; empty for none.
        name: of its workflow; empty where nobody has told.
    """

    job_id: str
    user: str
    order: Order | float
    payload: dict[str, Any]
    secrets: bytes
    envelope: dict[str, Any]
    brief: dict[str, Any]
    client: str
    needs: frozenset[str]
    memory: MemoryNeed = MemoryNeed()
    disk: int | None = None
    webhook: str = ""
    name: str = ""

    def arguments(self) -> list[bytes | str]:
        """The arguments of ``submit.lua``, made once.

        Raises:
            ValueError: there is a number in it that is none.
        """
        return self._arguments

    @cached_property
    def _arguments(self) -> list[bytes | str]:
        # The prompt can be megabytes, so it is encoded once for both uses.
        parts = {key: _encode_strictly(value) for key, value in self.payload.items()}
        payload = b"{" + b",".join(encode_json(key) + b":" + part for key, part in parts.items()) + b"}"
        asked = hashlib.sha256(b"\0".join([self.user.encode(), *self._stable_parts(parts), self.secrets])).hexdigest()
        return [
            self.job_id,
            self.user,
            asked,
            str(self.order),
            payload,
            self.secrets,
            encode_json(self.envelope),
            lane_of(self.needs, self.memory),
            self.client,
            encode_json(self.brief),
            models_of(self.needs),
            "" if self.memory.stated is None else str(self.memory.stated),
            "" if self.memory.estimate is None else str(self.memory.estimate),
            "" if self.disk is None else str(self.disk),
            self.webhook,
            self.name,
            *sorted(self.needs),
        ]

    def _stable_parts(self, parts: dict[str, bytes]) -> list[bytes]:
        """What must be equal for two submits under one id to be the same: all but the time that the server adds."""
        extra_data = {key: value for key, value in self.payload.get("extra_data", {}).items() if key != "create_time"}
        return [parts.get("prompt", b""), encode_json(extra_data), encode_json(sorted(self.payload.get("outputs", [])))]


@dataclass(frozen=True)
class Policy:
    """How a workshop's queue is worked off.

    Attributes:
        mode: ``fair`` (who used the least GPU time lately goes next), ``round_robin`` (who was served longest ago) or
            ``fifo`` (the lowest number).
        paused: whether no further job is begun.
        per_person: most jobs of one person that have not ended; None for no limit.
        in_all: most queued jobs of all; None for no limit.
        per_minute: most submits of one person within a minute; None for no limit.
        affinity: seconds for which somebody may be passed over for jobs whose models a worker has loaded already; the
            groups of people who wait for the same models share it. 0 for never.
    """

    mode: QueueMode = "fair"
    paused: bool = False
    per_person: int | None = 500
    in_all: int | None = 20_000
    per_minute: int | None = None
    affinity: float = 1200.0

    def arguments(self) -> list[str]:
        """The arguments of ``configure.lua`` behind the first."""
        limits = {"per_person": self.per_person, "in_all": self.in_all, "per_minute": self.per_minute}
        pairs = {"mode": self.mode, "paused": "1" if self.paused else ""}
        pairs |= {name: "" if most is None else str(most) for name, most in limits.items()}
        pairs["affinity_ms"] = str(int(self.affinity * 1000))
        return [word for pair in pairs.items() for word in pair]

    @classmethod
    def from_fields(cls, fields: dict[bytes, bytes]) -> Policy:
        """From the hash in the store; what is not there is as ``fair`` without limits."""
        mode = fields.get(b"mode", b"").decode()
        limits = {name: fields.get(name.encode()) for name in ("per_person", "in_all", "per_minute")}
        return cls(
            cast(QueueMode, mode) if mode in get_args(QueueMode) else "fair",
            fields.get(b"paused") == b"1",
            affinity=int(fields.get(b"affinity_ms") or cls.affinity * 1000) / 1000,
            **{name: int(most) if most else None for name, most in limits.items()},
        )


@lru_cache(maxsize=1_000)
def models_of(needs: frozenset[str]) -> str:
    """A name for the models among these needs; empty when there are none."""
    models = sorted(need for need in needs if need.startswith("model:"))
    return hashlib.sha1("\n".join(models).encode(), usedforsecurity=False).hexdigest()[:16] if models else ""


@lru_cache(maxsize=1_000)
def lane_of(needs: frozenset[str], memory: MemoryNeed = MemoryNeed()) -> str:
    """The name of the lane that jobs of one kind share: with the same needs, and sizes that take as much memory."""
    words = [*sorted(needs), f"sizes {memory.sizes}", f"stated {memory.stated or ''}"]
    return hashlib.sha1("\n".join(words).encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class ClaimedJob:
    """A job bound to this worker's claim.

    Attributes:
        secrets: sealed, see ``sealing.py``.
        memory: bytes of a GPU's memory that it is taken to need; None when nothing is known.
    """

    job_id: str
    user: str
    number: float
    payload: dict[str, Any]
    secrets: bytes
    envelope: dict[str, Any]
    attempt: int
    claim: str
    memory: int | None

    @classmethod
    def from_fields(cls, fields: Sequence[bytes]) -> ClaimedJob:
        """From the reply of ``claim.lua``."""
        job_id, user, number, payload, secrets, envelope, attempt, claim, memory = fields
        return cls(
            job_id.decode(),
            user.decode(),
            plain_number(number),
            json.loads(payload),
            secrets,
            json.loads(envelope),
            int(attempt),
            claim.decode(),
            int(float(memory)) if memory else None,
        )

    @classmethod
    def from_inbox(cls, item: bytes) -> ClaimedJob:
        """From an item of the worker's inbox: each field behind its length, four bytes, big-endian."""
        fields = []
        start = 0
        while start < len(item):
            (length,) = struct.unpack_from(">I", item, start)
            fields.append(item[start + 4 : start + 4 + length])
            start += 4 + length
        return cls.from_fields(fields)


@dataclass(frozen=True)
class ActiveJob:
    """A job that has not ended, as lists show it."""

    job_id: str
    state: State
    number: float
    client: str

    @property
    def is_running(self) -> bool:
        """Whether a worker has it."""
        return self.state in RUNNING


@dataclass(frozen=True)
class StoredJob:
    """The parts of a job that never change once they are there; ``result`` comes with its end."""

    number: float
    payload: dict[str, Any]
    result: dict[str, Any] | None


def plain_number(value: bytes | str) -> float:
    """A queue number as ComfyUI shows it: whole numbers without a point."""
    number = float(value)
    return int(number) if number.is_integer() else number
