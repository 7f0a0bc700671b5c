"""`comfyume cost`: what a workshop costs so far, will cost by its end, and would cost with GPUs that are always on."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence

import redis.asyncio

from ..job_queue.costs import Bill, Line
from ..job_queue.keys import Keys
from ..job_queue.meter import Meter
from ..workshop_costs import bill, told
from . import workshop_store

#: What each line is called, and in which unit it is counted.
WORDS = {
    "gpu": ("GPUs", "h"),
    "server": ("server", "h"),
    "storage": ("files", "GiB months"),
    "traffic": ("sent", "GiB"),
}
#: What gives each line its price.
SETTINGS = {
    "server": "PRICE_SERVER_HOUR",
    "storage": "PRICE_STORAGE_GIB_MONTH",
    "traffic": "PRICE_TRAFFIC_GIB",
}
NO_PRICE = "no price set"
RULES = """\
By the end: the workers that are here now stay until then, and so do the server and the files that are kept now; as much
is sent in each hour as on average so far. Always on: as many GPUs as were here at once, at what an hour has cost."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    workshop_store.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="as GET /comfyume/cost tells it")


def run(options: argparse.Namespace) -> int:
    """Print what the workshop costs."""
    settings = workshop_store.loaded_settings()

    async def work(client: redis.asyncio.Redis, keys: Keys) -> None:
        costs = bill(await Meter(client, keys).read(), settings)
        print(json.dumps(told(costs), indent=2) if options.json else "\n".join(lines_of(costs)))

    return workshop_store.run_on_store(options, work)


def lines_of(costs: Bill) -> list[str]:
    """A table for a terminal, and by which rules it was made."""
    by_end = f"by {_moment(costs.ends)}"
    rows = [("", "so far", costs.currency, by_end, costs.currency), *(_row(line) for line in costs.lines)]
    rows.append(("together", "", _money(costs.cost), "", _money(costs.cost_by_end)))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [_aligned(row, widths) for row in rows]
    always = costs.always_on
    price = f"at {_money(always.price_hour)} an hour: {_money(always.cost)}"
    if always.price_hour is None:
        price = f"an hour: {NO_PRICE}"
    span = f"from {_moment(costs.begins)} to {_moment(costs.ends)}"
    comparison = f"GPUs always on: {always.gpus} {span}, {always.hours:.1f} hours {price}"
    return [*lines, "", comparison, *_notes(costs), "", RULES]


def _row(line: Line) -> tuple[str, str, str, str, str]:
    name, unit = WORDS[line.what]
    return (
        name,
        f"{_amount(line.amount)} {unit}",
        _money(line.cost),
        f"{_amount(line.amount_by_end)} {unit}",
        _money(line.cost_by_end),
    )


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    figures = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
    return "  ".join([row[0].ljust(widths[0]), *figures])


def _notes(costs: Bill) -> list[str]:
    notes = []
    if not costs.is_end_known:
        notes.append("Nobody has said when the workshop ends, so three days are taken: set COMFYUME_WORKSHOP_ENDS.")
    if costs.unpriced_hours:
        hours = _amount(costs.unpriced_hours)
        notes.append(f"{hours} GPU hours have no price and are in no sum: set COMFYUME_PRICE_HOUR on the workers.")
    missing = [f"COMFYUME_{SETTINGS[line.what]}" for line in costs.lines if line.price is None and line.what != "gpu"]
    if missing:
        notes.append(f"What has no price is in no sum. Here it comes from {', '.join(missing)}.")
    return notes


def _amount(value: float) -> str:
    return f"{value:.1f}" if value >= 1 or not value else f"{value:.2g}"


def _money(value: float | None) -> str:
    return NO_PRICE if value is None else f"{value:.2f}"


def _moment(unix: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(unix))
