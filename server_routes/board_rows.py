"""Rows of the live board, in the words of the API: what pages are told of jobs and workers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..job_queue.board import Board, BoardJob, BoardWorker
from ..job_queue.forecast import Expected

#: Seconds, and the part of what is left, by which an expected start must move to be told anew.
LEAST_MOVE = 5.0
LEAST_PART = 0.15
#: What lists of jobs tell of one that waits, beside its position.
WAITS = ("held", "starts_at", "need", "why", "lacks")

Row = dict[str, Any]


@dataclass(frozen=True)
class Rows:
    """What people can be told at one moment; see ``docs/openapi.yaml`` for the fields.

    Attributes:
        now: the store's clock, Unix seconds; no part of what is compared.
        here: names of the people whose page is open.
        order: ids of the queued jobs in the order in which they are expected to begin.
    """

    now: float = field(default=0.0, compare=False)
    has_store: bool = True
    queue: Row = field(default_factory=dict)
    jobs: Mapping[str, Row] = field(default_factory=dict)
    workers: Mapping[str, Row] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    here: tuple[str, ...] = ()

    def live_workers(self) -> int:
        """How many workers are there."""
        return sum(worker["state"] != "lost" for worker in self.workers.values())

    def for_instructor(self, revision: int) -> Row:
        """All of it."""
        return {
            "revision": revision,
            "now": self.now,
            "store": self.has_store,
            "queue": self.queue,
            "workers": list(self.workers.values()),
            "jobs": list(self.jobs.values()),
            "order": list(self.order),
            "here": list(self.here),
        }

    @cached_property
    def _places(self) -> dict[str, int]:
        return {job_id: place for place, job_id in enumerate(self.order, 1)}

    @cached_property
    def _by_user(self) -> dict[str, list[Row]]:
        users: dict[str, list[Row]] = {}
        for row in self.jobs.values():
            users.setdefault(row["user"], []).append(row)
        return users

    def change_since(self, former: Rows, revision: int) -> Row:
        """What is other than before, for an instructor's page."""
        change: Row = {"revision": revision, "now": self.now, "store": self.has_store}
        if self.queue != former.queue:
            change["queue"] = self.queue
        if self.here != former.here:
            change["here"] = list(self.here)
        for name, new, old in (("jobs", self.jobs, former.jobs), ("workers", self.workers, former.workers)):
            changed = [row for key, row in new.items() if old.get(key) != row]
            gone = [key for key in old if key not in new]
            if changed or gone:
                change[name] = {"set": changed, "gone": gone}
        order = _order_since(self.order, former.order, {row["id"] for row in change.get("jobs", {}).get("set", ())})
        if order:
            change.setdefault("jobs", {"set": [], "gone": []}).update(order)
        return change

    def waits(self, job_id: str) -> Row | None:
        """Where a queued job stands and what it waits for; None for one that does not wait."""
        row = self.jobs.get(job_id)
        if row is None or row["state"] != "queued":
            return None
        return {name: row[name] for name in WAITS} | {"position": _position(row, self._places)}

    def for_person(self, user: str) -> Row:
        """What is theirs, and what concerns everybody."""
        places = self._places
        own = self._by_user.get(user, [])
        return {
            "now": self.now,
            "store": self.has_store,
            "workers": self.live_workers(),
            "paused": self.queue.get("paused", False),
            "queued": self.queue.get("queued", 0),
            "jobs": [_own(row, places) for row in sorted(own, key=lambda row: _place(row, places))],
        }


def _place(row: Row, places: Mapping[str, int]) -> tuple[bool, float]:
    return row["state"] != "running", places.get(row["id"], float("inf"))


def _position(row: Row, places: Mapping[str, int]) -> int | None:
    # In a pause nobody can say when it begins, but after which others.
    return places.get(row["id"]) if row["starts_at"] is not None or row["why"] == "paused" else None


def _own(row: Row, places: Mapping[str, int]) -> Row:
    shown = {key: value for key, value in row.items() if key not in ("user", "level")}
    return shown | {"position": _position(row, places)}


def _order_since(new: tuple[str, ...], old: tuple[str, ...], changed: set[str]) -> Row:
    """How to come from one order to the next: the few ids that were put elsewhere, else all."""
    there = set(new)
    kept = [job_id for job_id in old if job_id in there]
    if kept == list(new):
        return {}
    known = set(old)
    moved = [(index, job_id) for index, job_id in enumerate(new) if job_id not in known or job_id in changed]
    moving = {job_id for _, job_id in moved}
    rest = [job_id for job_id in kept if job_id not in moving]
    if rest != [job_id for job_id in new if job_id not in moving]:
        return {"order": list(new)}
    return {"moved": [[job_id, index] for index, job_id in moved]}


def rows_of(
    board: Board | None,
    expected: Mapping[str, Expected],
    progress: Mapping[str, Row],
    former: Rows,
    *,
    has_store: bool,
) -> Rows:
    """The rows of a board; without one those from before.

    Args:
        progress: how far running jobs have come.
        former: the last ones: expected starts that hardly moved stay as they were told.
    """
    if board is None:
        return Rows(has_store=has_store)
    jobs = {
        job.job_id: _job_row(board, job, expected.get(job.job_id), progress.get(job.job_id), former.jobs)
        for job in board.jobs.values()
    }
    workers = {
        worker.name: _worker_row(worker) for worker in sorted(board.workers.values(), key=lambda each: each.name)
    }
    queued = [row for row in jobs.values() if row["state"] == "queued"]
    late = float("inf")
    places = {job_id: told.position or late for job_id, told in expected.items()}
    queued.sort(key=lambda row: (row["held"], places.get(row["id"], late), row["submitted"]))
    counts = {"queued": len(queued), "running": len(jobs) - len(queued), "ended": board.ended}
    queue = {"mode": board.mode, "paused": board.is_paused, **counts}
    return Rows(board.now, has_store, queue, jobs, workers, tuple(row["id"] for row in queued))


def _job_row(
    board: Board, job: BoardJob, expected: Expected | None, progress: Row | None, former: Mapping[str, Row]
) -> Row:
    starts_at = None
    if not job.is_running and expected is not None and expected.starts_in is not None:
        starts_at = _steady(board.now, board.now + expected.starts_in, former.get(job.job_id, {}).get("starts_at"))
    lacks = expected.lacks if expected is not None and not job.is_running else ""
    return {
        "id": job.job_id,
        "user": job.user,
        "name": job.name,
        "state": "running" if job.is_running else "queued",
        "number": job.number,
        "level": job.level,
        "held": job.is_held,
        "submitted": job.submitted,
        "started": job.started,
        "starts_at": starts_at,
        "need": expected.memory if expected is not None else None,
        "why": _why(board, job, expected),
        "lacks": lacks.partition(":")[2],
        "worker": job.worker,
        "progress": progress if job.is_running else None,
    }


def _steady(now: float, told: float, former: float | None) -> float:
    if former is not None and abs(told - former) < max(LEAST_MOVE, LEAST_PART * (told - now)):
        return former
    return round(told, 1)


def _why(board: Board, job: BoardJob, expected: Expected | None) -> str:
    """Why a queued job does not only wait for its turn, as a word."""
    if job.is_running:
        return ""
    if job.is_held:
        return "held"
    if board.is_paused:
        return "paused"
    if expected is None or expected.workers:
        return ""
    kind = expected.lacks.partition(":")[0]
    return {"memory": "memory", "model": "models", "node": "nodes"}.get(kind, "no_worker")


def _worker_row(worker: BoardWorker) -> Row:
    if worker.lease <= 0:
        state = "lost"
    elif worker.is_drained:
        state = "draining"
    else:
        state = "busy" if worker.job is not None else "idle"
    devices = worker.measured.get("devices") or [
        {"name": each["name"], "vram_total": each["vram_total"], "vram_free": None, "use": None, "temperature": None}
        for each in worker.description.get("devices", ())
    ]
    return {
        "name": worker.name,
        "state": state,
        "host": worker.description.get("host", ""),
        "version": worker.description.get("comfyui", ""),
        "job": worker.job,
        "reserved_for": worker.reserved_for,
        "drained": worker.is_drained,
        # In whole steps, so that not every heartbeat is news.
        "lease": max(0, math.ceil(worker.lease / 5) * 5),
        "lost": worker.lost,
        "devices": devices,
        "loaded": worker.measured.get("loaded", []),
        "pulling": worker.measured.get("pulling", ""),
        "seen": worker.seen,
        "price_hour": worker.price_hour,
    }
