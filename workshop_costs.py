"""What a workshop costs by the prices in the settings, for the panel and the command line alike."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from .job_queue.costs import Bill, Prices, bill_of
from .job_queue.meter import Reading
from .settings import Settings

#: Digits behind the point that scripts are told.
DIGITS = 6


def bill(reading: Reading, settings: Settings) -> Bill:
    """What the counted costs; see ``job_queue/costs.py`` for the rules."""
    prices = Prices(
        settings.currency, settings.price_server_hour, settings.price_storage_gib_month, settings.price_traffic_gib
    )
    return bill_of(reading, prices, _unix(settings.workshop_begins), _unix(settings.workshop_ends))


def told(costs: Bill) -> dict[str, Any]:
    """As JSON has it; see ``Cost`` in ``docs/openapi.yaml``."""
    rounded: dict[str, Any] = _rounded(asdict(costs))
    return rounded


def _unix(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, tuple) else value
