"""G5: a node holds the interpreter's lock for longer than the lease while the machine is busy; nobody takes the job."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

from comfyume.tests.harness.processes import die_with_parent
from comfyume.tests.harness.script_engine import Script

from . import checks
from .reports import Report
from .room import LEASE
from .stage import Stage

WORKERS_SHORT = 2
WORKERS = 16
#: Seconds for which a node holds the lock.
HOLDS_SHORT = 2.5 * LEASE
HOLDS = 60.0


async def run(stage: Stage, trials: int) -> list[Report]:
    """Hold the lock ``trials`` times, on all workers at once."""
    gil, workers = (HOLDS, WORKERS) if stage.is_full else (HOLDS_SHORT, WORKERS_SHORT)
    async with stage.room("busy") as room:
        await room.add_workers(min(workers, trials))
        with all_cores_busy():
            for start in range(0, trials, workers):
                at_once = min(workers, trials - start)
                jobs = [await room.submit(Script(steps=1, seconds=0.01, gil=gil)) for _ in range(at_once)]
                await room.all_ended(jobs, timeout=gil + room.patience)
        await room.take_stock()
    history = room.record.history
    return [
        Report(
            "G5",
            "a healthy worker is never taken for lost",
            f"a node that holds the interpreter's lock for {gil:g} s, {gil / LEASE:g} leases, "
            f"on {min(workers, trials)} workers at once; all cores at 100%",
            len(checks.acknowledged(history)),
            checks.sound(history) + checks.losses_have_a_cause(history, 0),
            {"given to another worker": str(len(history.of("requeued")))},
        )
    ]


@contextlib.contextmanager
def all_cores_busy() -> Iterator[None]:
    """One process for each core that computes without end."""
    burners = [
        subprocess.Popen(
            [sys.executable, "-c", "while True: pass"],
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, no lock taken
        )
        for _ in range(os.cpu_count() or 1)
    ]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
