"""What a workshop costs so far, will cost by its end, and would cost with GPUs that are always on.

The rules are such that anybody can check a figure by hand:

- So far: each worker's hours by its price; the server's hours since the counting began, or since the workshop began if
  that is earlier; what files took of a disk or a bucket, for as long as they were there; the GiB that left the server.
- By the end: the workers that are here now stay until then, and so do the server and the files that are kept now.
  Traffic goes on as it was on average in each hour so far, of at least one hour.
- Always on: as many GPUs as were ever here at once, from the workshop's begin to its end, at what an hour has cost on
  average.

What has no price is counted, but costs nothing here: it is in no sum.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from .meter import HOUR_MS, Reading, WorkerHours

What = Literal["gpu", "server", "storage", "traffic"]
#: Hours for which prices of storage are told: a year's twelfth.
HOURS_OF_A_MONTH = 730.0
#: Hours of a workshop whose end nobody has said.
USUAL_HOURS = 72.0
HOUR = HOUR_MS / 1000
GIB = 2**30


@dataclass(frozen=True)
class Prices:
    """What is paid, in one currency; None where nobody has said. What a worker costs is with the worker.

    Attributes:
        server_hour: for an hour of the server.
        storage_gib_month: for a GiB that is kept for a month.
        traffic_gib: for a GiB that leaves the server.
    """

    currency: str
    server_hour: float | None = None
    storage_gib_month: float | None = None
    traffic_gib: float | None = None


@dataclass(frozen=True)
class Line:
    """One thing that costs: how much of it, in hours, GiB months or GiB, and what that costs.

    Attributes:
        price: of one hour, GiB month or GiB; of GPUs the average; None where none is set.
        cost: None without a price.
    """

    what: What
    amount: float
    amount_by_end: float
    price: float | None
    cost: float | None
    cost_by_end: float | None


@dataclass(frozen=True)
class WorkerLine:
    """What one worker costs at one price."""

    worker: str
    price_hour: float | None
    hours: float
    cost: float | None
    is_here: bool


@dataclass(frozen=True)
class AlwaysOn:
    """So many GPUs from the workshop's begin to its end: hours of all together, and what they cost."""

    gpus: int
    hours: float
    price_hour: float | None
    cost: float | None


@dataclass(frozen=True)
class Bill:
    """All of it. Moments are Unix seconds.

    Attributes:
        since: from when the server counts.
        is_end_known: whether somebody has said when the workshop ends.
        cost, cost_by_end: of all that has a price; None if nothing has one.
        unpriced_hours: hours of workers that nobody has said the price of.
        to_people, to_workers: bytes that left the server; `from_workers` came in and are not paid for here.
        gib: what is kept now.
    """

    now: float
    currency: str
    begins: float
    ends: float
    since: float
    is_end_known: bool
    lines: tuple[Line, ...]
    cost: float | None
    cost_by_end: float | None
    workers: tuple[WorkerLine, ...]
    unpriced_hours: float
    always_on: AlwaysOn
    to_people: int
    to_workers: int
    from_workers: int
    gib: float


def bill_of(reading: Reading, prices: Prices, begins: float | None, ends: float | None) -> Bill:
    """The costs, by the rules above.

    Args:
        begins: of the workshop, Unix seconds; when the counting began, if nobody has said.
        ends: likewise; after three days, if nobody has said.
    """
    begin = reading.began if begins is None else begins
    end = begin + USUAL_HOURS * HOUR if ends is None else ends
    since = min(reading.began, begin)
    left = max(0.0, end - reading.now) / HOUR
    gpu = _gpus(reading, left)
    server_hours = (reading.now - since) / HOUR
    kept, gib = sum(reading.gib_hours.values()), sum(reading.gib.values())
    sent = (reading.moved.to_people + reading.moved.to_workers) / GIB
    an_hour = sent / max(1.0, (reading.now - reading.began) / HOUR)
    lines = (
        gpu,
        _line("server", server_hours, server_hours + left, prices.server_hour),
        _line(
            "storage",
            kept / HOURS_OF_A_MONTH,
            (kept + gib * left) / HOURS_OF_A_MONTH,
            prices.storage_gib_month,
        ),
        _line("traffic", sent, sent + an_hour * left, prices.traffic_gib),
    )
    hours = reading.most * max(0.0, end - begin) / HOUR
    return Bill(
        reading.now,
        prices.currency,
        begin,
        end,
        since,
        ends is not None,
        lines,
        _sum(line.cost for line in lines),
        _sum(line.cost_by_end for line in lines),
        tuple(
            WorkerLine(
                each.worker,
                each.price_hour,
                each.hours,
                _cost(each),
                each.worker in reading.here and reading.here[each.worker] == each.price_hour,
            )
            for each in reading.workers
        ),
        sum(each.hours for each in reading.workers if each.price_hour is None),
        AlwaysOn(reading.most, hours, gpu.price, None if gpu.price is None else hours * gpu.price),
        reading.moved.to_people,
        reading.moved.to_workers,
        reading.moved.from_workers,
        gib,
    )


def _line(what: What, amount: float, by_end: float, price: float | None) -> Line:
    if price is None:
        return Line(what, amount, by_end, None, None, None)
    return Line(what, amount, by_end, price, amount * price, by_end * price)


def _gpus(reading: Reading, left: float) -> Line:
    """Hours of all workers; only those with a price are in the costs."""
    here = [price for price in reading.here.values() if price is not None]
    priced = [each for each in reading.workers if each.price_hour is not None]
    hours = sum(each.hours for each in reading.workers)
    by_end = hours + left * len(reading.here)
    cost = _sum(_cost(each) for each in priced)
    if cost is None and not here:
        return Line("gpu", hours, by_end, None, None, None)
    cost = cost or 0.0
    priced_hours = sum(each.hours for each in priced)
    # At first nothing has been counted yet.
    price = cost / priced_hours if priced_hours else sum(here) / len(here)
    return Line("gpu", hours, by_end, price, cost, cost + left * sum(here))


def _cost(worker: WorkerHours) -> float | None:
    return None if worker.price_hour is None else worker.hours * worker.price_hour


def _sum(costs: Iterable[float | None]) -> float | None:
    known = [cost for cost in costs if cost is not None]
    return sum(known) if known else None
