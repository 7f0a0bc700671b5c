"""`comfyume cost`, as an instructor uses it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from comfyume.tests.harness.room import Room
from comfyume.tests.integration.conftest import Run
from comfyume.tests.integration.test_meter import GIB, Moved, frontend, gpu, pass_hours

pytestmark = pytest.mark.integration


@pytest.fixture
async def counted(room: Room) -> Room:
    """Ten hours of one GPU and 100 GiB, and 20 GiB that were sent."""
    await gpu(room)
    await frontend(room).count(Moved(), {"disk": 100 * GIB})
    pass_hours(room, 10)
    meter = frontend(room)
    await meter.count(Moved(to_people=20 * GIB), {"disk": 100 * GIB})
    room.raw.hincrby(room.key("meter"), "began", -36_000_000)
    return room


def cells(line: str) -> list[str]:
    return re.split(r"\s{2,}", line.strip())


def test_without_prices_it_counts_and_says_so(counted: Any, comfyume: Run) -> None:
    status, said, _ = comfyume("cost")
    assert status == 0
    lines = said.splitlines()
    assert cells(lines[1]) == ["GPUs", "10.0 h", "12.00", "72.0 h", "86.40"]
    assert cells(lines[2]) == ["server", "10.0 h", "no price set", "72.0 h", "no price set"]
    assert cells(lines[3])[:3] == ["files", "1.4 GiB months", "no price set"]
    assert cells(lines[4])[:3] == ["sent", "20.0 GiB", "no price set"]
    assert cells(lines[5]) == ["together", "12.00", "86.40"]
    assert "1 from" in lines[7]
    assert lines[7].endswith("72.0 hours at 1.20 an hour: 86.40")
    assert "set COMFYUME_WORKSHOP_ENDS" in said
    assert "COMFYUME_PRICE_SERVER_HOUR, COMFYUME_PRICE_STORAGE_GIB_MONTH, COMFYUME_PRICE_TRAFFIC_GIB" in said


def test_with_prices_it_sums_up(counted: Any, comfyume: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SERVER_HOUR", "0.05"), ("STORAGE_GIB_MONTH", "0.0365"), ("TRAFFIC_GIB", "0.1")):
        monkeypatch.setenv(f"COMFYUME_PRICE_{name}", value)
    monkeypatch.setenv("COMFYUME_CURRENCY", "EUR")
    monkeypatch.setenv("COMFYUME_WORKSHOP_ENDS", "2001-01-01 18:00")
    said = comfyume("cost")[1].splitlines()
    assert cells(said[0])[:2] == ["so far", "EUR"]
    assert "by 2001-01-01 18:00" in said[0]
    # 12.00 + 0.50 + 1000 / 730 * 0.0365 + 2.00; it is over, so nothing is added.
    assert cells(said[5]) == ["together", "14.55", "14.55"]
    assert "no price" not in "\n".join(said)
    made = json.loads(comfyume("cost", "--json")[1])
    assert made["cost"] == pytest.approx(14.55, abs=0.001)
    assert made["currency"] == "EUR"


def test_a_workshop_that_nobody_has_counted_begins_now(comfyume: Run) -> None:
    status, said, _ = comfyume("cost")
    assert status == 0
    assert cells(said.splitlines()[1]) == ["GPUs", "0.0 h", "no price set", "0.0 h", "no price set"]
    assert cells(said.splitlines()[5]) == ["together", "no price set", "no price set"]
