"""The measuring itself: what a held loop and taken memory look like in the figures."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from comfyume.tests.harness import loop_lag
from comfyume.tests.harness.loop_lag import Look
from comfyume.tests.harness.memory import forget_peak, memory_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

MIB = 1024


async def test_a_loop_that_is_held_is_seen_and_a_free_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node pack itself, on this test's loop."""
    monkeypatch.setenv(loop_lag.VARIABLE, str(tmp_path / "lag.bin"))
    server = SimpleNamespace(PromptServer=SimpleNamespace(instance=SimpleNamespace(loop=asyncio.get_running_loop())))
    monkeypatch.setitem(sys.modules, "server", server)
    spec = importlib.util.spec_from_file_location("cfm_lag", loop_lag.PACK / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    pack: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pack)
    times = []
    for held in (0.0, 0.3):
        times.append(time.monotonic())
        await asyncio.sleep(0.1)
        end = time.thread_time() + held
        while time.thread_time() < end:
            pass
        await asyncio.sleep(0.1)
    times.append(time.monotonic())
    periods = [
        await asyncio.to_thread(loop_lag.during, tmp_path / "lag.bin", began, ended) for began, ended in pairwise(times)
    ]
    free, held_loop = map(loop_lag.lag, periods)
    pack.looking.cancel()
    assert held_loop.longest >= held_loop.own_p99 >= 0.25
    assert free.own_p99 < 0.25


def test_a_stall_counts_for_as_long_as_it_lasts() -> None:
    looks = [Look(0.0, 0.001, 0.0, 0.0, 0.0)] * 900 + [Look(0.0, 0.5, 0.5, 0.0, 0.5)]
    lag = loop_lag.lag(looks)
    assert lag.p50 == 0.001
    assert lag.longest == 0.5
    assert 0.4 < lag.p99 < 0.5, "a tenth of the time went by in it"


def test_what_the_loop_waited_for_a_core_can_be_left_out() -> None:
    lag = loop_lag.lag([Look(0.0, 0.11, 0.0, 0.1, 0.0)] * 100)
    assert lag.p99 == 0.11
    assert lag.own_p99 == pytest.approx(0.01)


def test_memory_that_a_process_takes_is_seen_and_the_peak_stays() -> None:
    pid = os.getpid()
    forget_peak(pid)
    before = memory_of(pid)
    block = os.urandom(1) * (50 * MIB * 1024)
    during = memory_of(pid)
    del block
    after = memory_of(pid)
    for name in ("resident", "proportional", "private", "anonymous"):
        assert 45 * MIB < getattr(during, name) - getattr(before, name) < 60 * MIB
    assert after.resident < during.resident - 45 * MIB
    # Linux adds the peak up with less care.
    assert after.peak >= during.resident - MIB
