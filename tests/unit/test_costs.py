"""What a workshop costs: every figure here can be checked by hand."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from comfyume.job_queue.costs import Bill, Line, Prices, bill_of
from comfyume.job_queue.meter import Moved, Reading, WorkerHours
from comfyume.settings import Settings
from comfyume.workshop_costs import bill, told

GIB = 2**30
HOUR = 3600.0
BEGAN = 1_000 * HOUR
PRICES = Prices("EUR", server_hour=0.05, storage_gib_month=0.73, traffic_gib=0.09)


def reading(hours: float = 10, **parts: Any) -> Reading:
    """After so many hours of counting: two GPUs of which one has gone, 50 GiB that are kept, 20 GiB sent."""
    usual: dict[str, Any] = {
        "now": BEGAN + hours * HOUR,
        "began": BEGAN,
        "most": 2,
        "workers": (WorkerHours("gpu-0", 1.2, 10.0), WorkerHours("gpu-1", 2.0, 4.0)),
        "here": {"gpu-0": 1.2},
        "moved": Moved(to_people=15 * GIB, to_workers=5 * GIB, from_workers=7 * GIB),
        "gib_hours": {"disk a": 300.0, "bucket b": 65.0},
        "gib": {"disk a": 30.0, "bucket b": 20.0},
    }
    return Reading(**{**usual, **parts})


def costs(told_of: Reading | None = None, prices: Prices = PRICES, **span: float | None) -> Bill:
    begins, ends = (span.get(name) for name in ("begins", "ends"))
    return bill_of(told_of or reading(), prices, begins, ends)


def line(costs_: Bill, what: str) -> Line:
    return next(each for each in costs_.lines if each.what == what)


def test_so_far_each_thing_costs_what_there_was_of_it_by_its_price() -> None:
    now = costs()
    # 10 h at 1.20 and 4 h at 2.00.
    assert line(now, "gpu").amount == 14
    assert line(now, "gpu").cost == pytest.approx(20.0)
    assert line(now, "server").cost == pytest.approx(10 * 0.05)
    # 365 GiB hours are half a GiB month of 730 hours.
    assert line(now, "storage").amount == pytest.approx(0.5)
    assert line(now, "storage").cost == pytest.approx(0.365)
    # What comes in from workers is not paid for here.
    assert line(now, "traffic").cost == pytest.approx(20 * 0.09)
    assert now.cost == pytest.approx(20.0 + 0.5 + 0.365 + 1.8)


def test_by_the_end_who_is_here_stays_and_traffic_goes_on_as_it_was() -> None:
    # Three days from the first count, since nobody has said another end: 62 hours are left.
    later = costs()
    assert (later.begins, later.ends, later.is_end_known) == (BEGAN, BEGAN + 72 * HOUR, False)
    assert line(later, "gpu").amount_by_end == 14 + 62
    assert line(later, "gpu").cost_by_end == pytest.approx(20.0 + 62 * 1.2)
    assert line(later, "server").cost_by_end == pytest.approx(72 * 0.05)
    assert line(later, "storage").cost_by_end == pytest.approx(0.365 + 50 * 62 / 730 * 0.73)
    # 2 GiB an hour so far.
    assert line(later, "traffic").amount_by_end == pytest.approx(20 + 62 * 2)
    assert later.cost_by_end == pytest.approx(20 + 74.4 + 3.6 + 0.365 + 3.1 + 144 * 0.09)


def test_always_on_is_the_most_that_were_here_at_once_over_the_whole_span_at_the_average_price() -> None:
    always = costs(begins=BEGAN + 2 * HOUR, ends=BEGAN + 50 * HOUR).always_on
    # 20.00 for 14 hours.
    assert (always.gpus, always.hours, always.price_hour) == (2, 96, pytest.approx(20 / 14))
    assert always.cost == pytest.approx(96 * 20 / 14)


def test_a_workshop_that_began_before_the_counting_has_had_its_server_since_then() -> None:
    early = costs(begins=BEGAN - 5 * HOUR, ends=BEGAN + 20 * HOUR)
    assert line(early, "server").amount == 15
    assert line(early, "server").amount_by_end == 25
    late = costs(begins=BEGAN + 5 * HOUR, ends=BEGAN + 20 * HOUR)
    assert line(late, "server").amount == 10


def test_when_it_is_over_nothing_is_added() -> None:
    over = costs(ends=BEGAN + 8 * HOUR)
    assert over.cost == over.cost_by_end
    assert all(each.amount == each.amount_by_end for each in over.lines)


def test_the_first_minutes_say_little_of_the_traffic() -> None:
    # 20 GiB in six minutes are taken for 20 GiB an hour, not for 200.
    assert line(costs(reading(0.1), ends=BEGAN + 1.1 * HOUR), "traffic").amount_by_end == pytest.approx(40)


def test_what_has_no_price_is_counted_and_in_no_sum() -> None:
    free = costs(
        reading(workers=(WorkerHours("gpu-0", 1.2, 10.0), WorkerHours("gpu-1", None, 4.0)), here={"gpu-1": None}),
        Prices("EUR", traffic_gib=0.09),
    )
    assert [each.cost for each in free.lines] == [pytest.approx(12.0), None, None, pytest.approx(1.8)]
    assert (line(free, "server").amount, line(free, "server").price) == (10, None)
    assert free.cost == pytest.approx(13.8)
    assert free.unpriced_hours == 4
    # The one that is here costs nothing more that anybody knows of.
    assert line(free, "gpu").amount_by_end == 14 + 62
    assert line(free, "gpu").cost_by_end == pytest.approx(12.0)


def test_without_any_price_there_is_no_sum() -> None:
    nothing = costs(reading(workers=(WorkerHours("gpu-0", None, 10.0),), here={"gpu-0": None}), Prices("USD"))
    assert (nothing.cost, nothing.cost_by_end, nothing.always_on.cost) == (None, None, None)
    assert nothing.always_on.hours == 144


def test_a_worker_that_has_just_come_is_in_what_it_will_cost() -> None:
    first = costs(reading(0, workers=(), here={"gpu-0": 1.2}, most=1, gib_hours={}, moved=Moved()))
    assert line(first, "gpu") == Line("gpu", 0, 72, 1.2, 0.0, pytest.approx(72 * 1.2))


def test_a_price_that_was_changed_counts_from_then_on() -> None:
    changed = costs(reading(workers=(WorkerHours("gpu-0", 1.2, 10.0), WorkerHours("gpu-0", 2.0, 1.0))))
    assert [(each.cost, each.is_here) for each in changed.workers] == [(12.0, True), (2.0, False)]


def test_the_settings_are_the_table_of_prices() -> None:
    settings = Settings(
        currency="EUR", price_server_hour=0.05, workshop_begins="2026-12-03 18:00", workshop_ends="2026-12-06 18:00"
    )
    made = told(bill(reading(), settings))
    assert made["begins"] == datetime(2026, 12, 3, 18).timestamp()  # noqa: DTZ001 - by the clock on the wall
    assert made["ends"] == datetime(2026, 12, 6, 18).timestamp()  # noqa: DTZ001
    assert (made["currency"], made["is_end_known"]) == ("EUR", True)
    assert [each["price"] for each in made["lines"]] == [1.428571, 0.05, None, None]
