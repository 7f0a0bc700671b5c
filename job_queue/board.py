"""The queue and the workers as an instructor sees them, at one moment."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from .jobs import RUNNING, Level, QueueMode, plain_number


@dataclass(frozen=True)
class BoardJob:
    """A job that has not ended. Moments are Unix seconds.

    Attributes:
        name: of its workflow; empty where nobody has told.
        started: when a worker claimed it.
        worker: which has it.
    """

    job_id: str
    user: str
    name: str
    is_running: bool
    number: float
    level: Level
    is_held: bool
    submitted: float
    started: float | None
    worker: str | None
    attempt: int

    @classmethod
    def from_fields(cls, job_id: str, fields: dict[str, str]) -> BoardJob:
        """From the hash in the store, or what ``board.lua`` tells of it."""
        is_running = fields["state"] in RUNNING
        return cls(
            job_id,
            fields["user"],
            fields.get("name", ""),
            is_running,
            plain_number(fields["number"]),
            fields.get("level", "2"),  # type: ignore[arg-type] # the scripts write no other
            "held" in fields,
            int(fields["submitted"]) / 1000,
            int(fields["claimed"]) / 1000 if is_running else None,
            fields["worker"] if is_running else None,
            int(fields.get("attempt", "0")),
        )


@dataclass(frozen=True)
class BoardWorker:
    """A registered worker, or one that was lost a short while ago.

    Attributes:
        lease: seconds for which it still counts as live; not above 0 for one that is silent.
        lost: when it was given up, Unix seconds; None for one that is there, and for a silent one at first.
        job: the id of the one that it has.
        reserved_for: the one person whose jobs it takes.
        price_hour: what an hour of it costs.
        description: see ``Registration``.
        measured: what its devices do, see ``Engine.measure``; empty until it has told.
        seen: when it told.
    """

    name: str
    lease: float
    job: str | None
    is_drained: bool
    reserved_for: str | None
    price_hour: float | None
    description: dict[str, Any]
    measured: dict[str, Any]
    seen: float | None
    lost: float | None = None


@dataclass(frozen=True)
class Board:
    """All of it; ``now`` by the store's clock. ``ended`` is how many jobs have ended so far."""

    now: float
    mode: QueueMode
    is_paused: bool
    jobs: dict[str, BoardJob] = field(default_factory=dict)
    workers: dict[str, BoardWorker] = field(default_factory=dict)
    ended: int = 0

    @classmethod
    def from_reply(cls, reply: bytes) -> Board:
        """From the answer of ``board.lua``. An empty table of Lua's is an object in JSON, so both are taken."""
        value = json.loads(reply)
        jobs = {job["id"]: BoardJob.from_fields(job["id"], job) for job in value["jobs"] or ()}
        workers = {worker["name"]: _worker(worker) for worker in value["workers"] or ()}
        return cls(value["now"] / 1000, value["mode"], value["paused"], jobs, workers, value["ended"])


def _worker(value: dict[str, Any]) -> BoardWorker:
    return BoardWorker(
        value["name"],
        value["lease"] / 1000,
        value.get("job"),
        "drained" in value,
        value.get("reserved"),
        float(value["price"]) if value.get("price") else None,
        json.loads(value.get("description", "{}")),
        json.loads(value.get("measured", "{}")),
        int(value["measured_at"]) / 1000 if "measured_at" in value else None,
        value["lost"] / 1000 if "lost" in value else None,
    )
