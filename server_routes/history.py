"""``/comfyume/history``: what the workshop's jobs took and cost, for the instructor; also as files to keep."""

from __future__ import annotations

import asyncio
import csv
import io
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from aiohttp import web

from ..comfyui_seams import server
from ..job_queue.ledger import Ledger, LedgerEntry
from .bodies import BodyRefused, guarded

#: Jobs of a period that one answer lists; the sums are over all.
MOST_LISTED = 500
DAY = 86_400.0
#: Columns of the table.
COLUMNS = (
    *("job", "user", "name", "state", "submitted", "started", "ended", "waited", "ran", "worker", "level", "attempt"),
    *("files", "frames", "price_hour", "cost"),
)


class History:
    """Sums up the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def mount(self) -> None:
        """Add the routes."""
        for path, handler in (
            ("/comfyume/history", self.summary),
            ("/comfyume/history.csv", self.as_csv),
            ("/comfyume/history.json", self.as_json),
        ):
            server.add_route("GET", path, guarded(handler))

    async def summary(self, request: web.Request) -> web.Response:
        """``totals``, and the same for each of the ``people`` and ``workers``; the last ``jobs``, the newest first.

        ``from`` and ``to`` are Unix seconds, the last day without them; ``user`` leaves out all others.
        """
        entries = await self._entries(request)
        return web.json_response(await asyncio.to_thread(_summary, entries))

    async def as_csv(self, request: web.Request) -> web.Response:
        """All jobs of the period as a table."""
        entries = await self._entries(request)
        table = await asyncio.to_thread(_table, [_row(entry) for entry in entries])
        return web.Response(text=table, content_type="text/csv", headers=_as_file("history.csv"))

    async def as_json(self, request: web.Request) -> web.Response:
        """All jobs of the period."""
        rows = [_row(entry) for entry in await self._entries(request)]
        return web.json_response(rows, headers=_as_file("history.json"))

    async def _entries(self, request: web.Request) -> list[LedgerEntry]:
        now = time.time()
        begin, end = _moment(request, "from", now - DAY), _moment(request, "to", now)
        user = request.query.get("user")
        entries = await self._ledger.between(begin, end)
        return [entry for entry in entries if user is None or entry.user == user]


def _moment(request: web.Request, name: str, otherwise: float) -> float:
    text = request.query.get(name)
    if text is None:
        return otherwise
    try:
        moment = float(text)
    except ValueError:
        moment = -1.0
    if not 0 <= moment < 1e11:
        raise BodyRefused(f"{name} must be a moment in Unix seconds.")
    return moment


def _as_file(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}


def _row(entry: LedgerEntry) -> dict[str, Any]:
    told = asdict(entry)
    told["job"], told["started"] = told.pop("job_id"), told.pop("claimed")
    told |= {"waited": _rounded(entry.waited), "ran": _rounded(entry.ran), "cost": _rounded(entry.cost, 5)}
    return {name: told[name] for name in COLUMNS}


def _rounded(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)


def _table(rows: Iterable[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows({name: _safe(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _safe(value: Any) -> Any:
    """A spreadsheet takes a text that begins like this for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _summary(entries: Sequence[LedgerEntry]) -> dict[str, Any]:
    people = _grouped(entries, lambda entry: entry.user)
    workers = _grouped([entry for entry in entries if entry.worker], lambda entry: str(entry.worker))
    return {
        "totals": sums(entries),
        "people": [{"user": name, **sums(group)} for name, group in people.items()],
        "workers": [{"worker": name, **sums(group)} for name, group in workers.items()],
        "jobs": [_row(entry) for entry in reversed(entries[-MOST_LISTED:])],
    }


def _grouped(entries: Iterable[LedgerEntry], name_of: Any) -> dict[str, list[LedgerEntry]]:
    groups: dict[str, list[LedgerEntry]] = {}
    for entry in entries:
        groups.setdefault(name_of(entry), []).append(entry)
    return dict(sorted(groups.items()))


def sums(entries: Sequence[LedgerEntry]) -> dict[str, Any]:
    """Counts, waits and runs in seconds, and cost; None where nothing is known of it."""
    states = {"done": 0, "error": 0, "cancelled": 0, "quarantined": 0}
    for entry in entries:
        states[entry.state] = states.get(entry.state, 0) + 1
    waits = sorted(entry.waited for entry in entries if entry.waited is not None)
    costs = [entry.cost for entry in entries if entry.cost is not None]
    frames = sum(entry.frames for entry in entries)
    cost = sum(costs) if costs else None
    return {
        "jobs": len(entries),
        "states": states,
        "files": sum(entry.files for entry in entries),
        "frames": frames,
        "wait_p50": _rounded(percentile(waits, 50)),
        "wait_p95": _rounded(percentile(waits, 95)),
        "gpu_seconds": _rounded(sum(entry.ran for entry in entries)),
        "cost": _rounded(cost, 5),
        "cost_per_frame": _rounded(cost / frames, 5) if cost is not None and frames else None,
    }


def percentile(ordered: Sequence[float], percent: float) -> float | None:
    """The smallest value that so many percent do not exceed (nearest rank); None of nothing."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else None
