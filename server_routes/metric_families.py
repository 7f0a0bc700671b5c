"""The workshop's figures as Prometheus reads them: their names, labels and buckets.

No label has a person's name, and each has few values: words of ours, and the names of the workers that are there.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from ..job_queue.jobs import Level
from ..job_queue.ledger import LedgerEntry
from .board_rows import Rows

STATES = ("done", "error", "cancelled", "quarantined")
LEVELS: tuple[str, ...] = get_args(Level)
WORKER_STATES = ("idle", "busy", "draining", "lost")
#: Why a queued job waits, by the board's word for it.
WHYS = {"": "turn", **{word: word for word in ("held", "paused", "memory", "models", "nodes", "no_worker")}}
#: Workers whose devices are told, the first by name; all are counted.
MOST_WORKERS = 100
#: Upper bounds of the buckets: seconds that jobs wait or run, queued jobs, seconds that events are under
#: way, seconds by which a loop is late.
SECONDS = (0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)
JOBS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
UNDER_WAY = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
LATE = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Buckets:
    """How often what was observed lay below each bound.

    The library's own histogram would also tell when it began, which Prometheus may take for a new beginning at 0; what
    is counted here goes on over restarts.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect.bisect_left(self._bounds, value)] += 1
        self._sum += value

    def add_to(self, family: HistogramMetricFamily, *labels: str) -> None:
        """Tell of it under these labels."""
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        family.add_metric(labels, list(zip(names, accumulate(self._counts), strict=True)), self._sum)


def _of_levels() -> dict[str, Buckets]:
    return {level: Buckets(SECONDS) for level in LEVELS}


@dataclass
class Totals:
    """What only grows.

    Attributes:
        waits, runs: by level.
        depths: of the queue, one each time that a sample was taken.
        under_way: how long events took from their worker until they left for a browser.
        late: by how much the event loop was late.
    """

    states: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATES, 0))
    waits: dict[str, Buckets] = field(default_factory=_of_levels)
    runs: dict[str, Buckets] = field(default_factory=_of_levels)
    loads: int = 0
    lost: int = 0
    cost: float = 0.0
    depths: Buckets = field(default_factory=lambda: Buckets(JOBS))
    under_way: Buckets = field(default_factory=lambda: Buckets(UNDER_WAY))
    late: Buckets = field(default_factory=lambda: Buckets(LATE))

    def add(self, entry: LedgerEntry) -> None:
        """Count a job that ended."""
        state = _known(entry.state, STATES)
        self.states[state] = self.states.get(state, 0) + 1
        if entry.waited is not None:
            level = _known(entry.level, LEVELS)
            self.waits.setdefault(level, Buckets(SECONDS)).observe(entry.waited)
            self.runs.setdefault(level, Buckets(SECONDS)).observe(entry.ran)
        self.loads += entry.loads
        self.lost += entry.lost
        self.cost += entry.cost or 0.0


def _known(word: str, words: Sequence[str]) -> str:
    """A worker can write what it likes into the ledger, but no new value of a label."""
    return word if word in words else "other"


def families(rows: Rows, totals: Totals, backup: float | None = None) -> Iterator[Metric]:
    """All figures: those of this moment by the board, and those that grow.

    Args:
        backup: when the last snapshot was taken, in Unix seconds; None where none are.
    """
    yield from _of_queue(rows)
    if backup is not None:
        text = "When the last snapshot of the workshop was taken, in Unix seconds; 0 for never."
        yield GaugeMetricFamily("comfyume_backup_last_success_timestamp_seconds", text, backup)
    yield _histogram("queue_depth", "Queued jobs, as sampled every 15 seconds.", {(): totals.depths})
    yield from _of_jobs(totals)
    yield from _of_workers(rows)
    yield _histogram(
        "event_lag_seconds",
        "From when a worker has events of a job until this frontend has sent them to a browser, by the store's clock.",
        {(): totals.under_way},
    )
    yield _histogram(
        "event_loop_lag_seconds",
        "By how much a timer of this frontend was late: so long all its requests and events waited.",
        {(): totals.late},
    )


def _of_queue(rows: Rows) -> Iterator[Metric]:
    waiting = dict.fromkeys(WHYS.values(), 0)
    for row in rows.jobs.values():
        if row["state"] == "queued":
            waiting[WHYS[row["why"]]] += 1
    yield _gauges("jobs_queued", "Jobs that wait, by what they wait for.", "why", waiting)
    yield GaugeMetricFamily("comfyume_jobs_running", "Jobs that a worker has.", rows.queue.get("running", 0))
    paused = rows.queue.get("paused", False)
    yield GaugeMetricFamily("comfyume_queue_paused", "1 while an instructor lets no job begin, else 0.", int(paused))


def _of_jobs(totals: Totals) -> Iterator[Metric]:
    ended = CounterMetricFamily("comfyume_jobs_ended", "Jobs that ended, by their final state.", labels=["state"])
    for state, count in totals.states.items():
        ended.add_metric([state], count)
    yield ended
    for name, text, buckets in (
        ("job_wait_seconds", "From a job's submit to the claim of its last attempt, by its level.", totals.waits),
        ("job_run_seconds", "For how long a worker was taken by a job's last attempt, by its level.", totals.runs),
    ):
        yield _histogram(name, text, {(level,): each for level, each in buckets.items()}, ["level"])
    loads = "Ended jobs for which a worker had to load other models than it had."
    yield CounterMetricFamily("comfyume_model_loads", loads, totals.loads)
    losses = "Attempts at ended jobs that ended with the loss of their worker."
    yield CounterMetricFamily("comfyume_lease_losses", losses, totals.lost)
    cost = "What ended jobs took of workers that have a price, in the unit of the prices."
    yield CounterMetricFamily("comfyume_cost", cost, totals.cost)


def _of_workers(rows: Rows) -> Iterator[Metric]:
    states = dict.fromkeys(WORKER_STATES, 0)
    for worker in rows.workers.values():
        states[worker["state"]] += 1
    yield _gauges("workers", "Workers, by what they do.", "state", states)
    there = sorted((each for each in rows.workers.values() if each["state"] != "lost"), key=lambda each: each["name"])
    use = _of_device("gpu_use_ratio", "Use of a worker's GPU, from 0 to 1.")
    memory_used = _of_device("gpu_memory_used_bytes", "Memory of a worker's GPU that is in use.")
    memory = _of_device("gpu_memory_bytes", "Memory of a worker's GPU.")
    temperature = _of_device("gpu_temperature_celsius", "Temperature of a worker's GPU.")
    for worker in there[:MOST_WORKERS]:
        for index, device in enumerate(worker["devices"]):
            labels = [worker["name"], str(index)]
            memory.add_metric(labels, device["vram_total"])
            if device["vram_free"] is not None:
                memory_used.add_metric(labels, device["vram_total"] - device["vram_free"])
            if device["use"] is not None:
                use.add_metric(labels, device["use"] / 100)
            if device["temperature"] is not None:
                temperature.add_metric(labels, device["temperature"])
    yield from (use, memory_used, memory, temperature)


def _of_device(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"comfyume_{name}", text, labels=["worker", "device"])


def _gauges(name: str, text: str, label: str, values: Mapping[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"comfyume_{name}", text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


def _histogram(
    name: str, text: str, buckets: Mapping[tuple[str, ...], Buckets], labels: Sequence[str] = ()
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(f"comfyume_{name}", text, labels=labels)
    for values, each in buckets.items():
        each.add_to(family, *values)
    return family
