"""The workshop's figures for Prometheus, and the dashboard that shows them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from comfyume.commands.source_tree import ROOT
from comfyume.job_queue.board import Board, BoardJob, BoardWorker
from comfyume.job_queue.ledger import LedgerEntry
from comfyume.server_routes import metric_families
from comfyume.server_routes.board_rows import Rows, rows_of
from comfyume.server_routes.metric_families import Buckets, Totals, families

DASHBOARD = ROOT / "docs" / "grafana" / "comfyume.json"
ENTRY = LedgerEntry("1-0", "job", "ada", "", "done", 100.0, 103.0, 110.0, "w1", "2", 1, 1, 1, 36.0, True, 0)
DEVICE = {"name": "GPU", "vram_total": 100, "vram_free": 30, "use": 50, "temperature": 61}
NAMES = {family.name for family in families(Rows(), Totals())}


class Told:
    def __init__(self, rows: Rows, totals: Totals) -> None:
        self._metrics = list(families(rows, totals))

    def collect(self) -> list[Metric]:
        return self._metrics


def registry_of(rows: Rows, *entries: LedgerEntry) -> CollectorRegistry:
    totals = Totals()
    for entry in entries:
        totals.add(entry)
    registry = CollectorRegistry()
    registry.register(Told(rows, totals))  # type: ignore[arg-type]
    return registry


def told(rows: Rows, *entries: LedgerEntry) -> dict[str, dict[tuple[str, ...], float]]:
    """The figures by name and the values of the labels, which the text has in the order of the alphabet."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in parse(generate_latest(registry_of(rows, *entries)).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def board(*jobs: BoardJob, workers: tuple[BoardWorker, ...] = (), is_paused: bool = False) -> Rows:
    all_of_it = Board(0.0, "fair", is_paused, {job.job_id: job for job in jobs}, {each.name: each for each in workers})
    return rows_of(all_of_it, {}, {}, Rows(), has_store=True)


def job(name: str, *, is_running: bool = False, is_held: bool = False) -> BoardJob:
    return BoardJob(name, "ada", "", is_running, 1, "2", is_held, 0.0, None, None, 1)


def worker(name: str, lease: float = 30, **changes: Any) -> BoardWorker:
    measured = {"devices": [{**DEVICE, **changes}], "loaded": []}
    return BoardWorker(name, lease, None, False, "ada", None, {}, measured, 0.0)


def test_what_ended_is_counted_by_state_and_timed_by_level() -> None:
    figures = told(
        Rows(),
        ENTRY,
        replace(ENTRY, state="error", level="front", loads=False, lost=2, price_hour=None),
        replace(ENTRY, state="cancelled", claimed=None, worker=None, loads=False, price_hour=None),
    )
    assert figures["comfyume_jobs_ended_total"] == {("done",): 1, ("error",): 1, ("cancelled",): 1, ("quarantined",): 0}
    waits = figures["comfyume_job_wait_seconds_bucket"]
    assert [waits[bound, "2"] for bound in ("2.0", "5.0", "+Inf")] == [0, 1, 1]
    assert figures["comfyume_job_wait_seconds_sum"]["front",] == 3
    assert figures["comfyume_job_run_seconds_sum"]["2",] == 7
    assert figures["comfyume_job_run_seconds_count"]["0",] == 0
    assert figures["comfyume_model_loads_total"] == {(): 1}
    assert figures["comfyume_lease_losses_total"] == {(): 2}
    assert figures["comfyume_cost_total"] == {(): pytest.approx(0.07)}


def test_the_queue_is_told_by_what_jobs_wait_for() -> None:
    jobs = (job("a", is_running=True), job("b"), job("c", is_held=True))
    figures = told(board(*jobs, is_paused=True))
    assert figures["comfyume_jobs_queued"] == {
        **dict.fromkeys([(word,) for word in ("turn", "memory", "models", "nodes", "no_worker")], 0),
        ("held",): 1,
        ("paused",): 1,
    }
    assert figures["comfyume_jobs_running"] == figures["comfyume_queue_paused"] == {(): 1}


def test_devices_are_told_of_workers_that_are_there_as_far_as_they_are_known() -> None:
    workers = (worker("w1"), worker("w2", use=None, temperature=None, vram_free=None), worker("gone", lease=-1))
    figures = told(board(workers=workers))
    assert board(workers=workers).live_workers() == 2
    assert figures["comfyume_workers"] == {("idle",): 2, ("busy",): 0, ("draining",): 0, ("lost",): 1}
    assert figures["comfyume_gpu_use_ratio"] == {("0", "w1"): 0.5}
    assert figures["comfyume_gpu_memory_used_bytes"] == {("0", "w1"): 70}
    assert figures["comfyume_gpu_memory_bytes"] == {("0", "w1"): 100, ("0", "w2"): 100}
    assert figures["comfyume_gpu_temperature_celsius"] == {("0", "w1"): 61}


def test_labels_stay_few_whatever_workers_call_themselves_and_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_families, "MOST_WORKERS", 3)
    entries = [replace(ENTRY, state=f"state {number}", level=f"level {number}") for number in range(9)]
    figures = told(board(workers=tuple(worker(f"w{number}") for number in range(9))), *entries)
    assert figures["comfyume_jobs_ended_total"]["other",] == 9
    assert len(figures["comfyume_jobs_ended_total"]) == 5
    assert figures["comfyume_job_run_seconds_count"]["other",] == 9
    assert list(figures["comfyume_gpu_memory_bytes"]) == [("0", "w0"), ("0", "w1"), ("0", "w2")]
    assert figures["comfyume_workers"]["idle",] == 9


def test_a_bound_belongs_to_its_bucket_and_what_is_beyond_the_last_to_the_endless_one() -> None:
    totals = Totals(depths=Buckets((0, 1, 10)))
    for depth in (0, 1, 2, 10, 11):
        totals.depths.observe(depth)
    [family] = [family for family in families(Rows(), totals) if family.name == "comfyume_queue_depth"]
    below = {sample.labels["le"]: sample.value for sample in family.samples if sample.name.endswith("_bucket")}
    assert below == {"0.0": 1, "1.0": 2, "10.0": 4, "+Inf": 5}
    assert [sample.value for sample in family.samples if sample.name.endswith("_sum")] == [24]


def test_both_formats_can_be_read_and_name_nobody() -> None:
    registry = registry_of(board(job("a"), workers=(worker("w1"),)), ENTRY)
    text, newer = generate_latest(registry).decode(), openmetrics.generate_latest(registry).decode()
    # The reader of the newer format refuses whatever breaks its rules.
    assert {family.name for family in parse_openmetrics(newer)} == NAMES
    assert all(family.documentation.endswith(".") for family in parse(text))
    assert "ada" not in text + newer
    assert "_created" not in text + newer


def expressions(value: Any) -> Iterator[str]:
    """What the dashboard asks of Prometheus."""
    if isinstance(value, dict):
        yield from (value[name] for name in ("expr", "definition") if name in value)
        value = list(value.values())
    for each in value if isinstance(value, list) else []:
        yield from expressions(each)


def test_the_dashboard_shows_every_figure_and_none_that_is_not_there() -> None:
    asked = set(re.findall(r"comfyume_\w+", " ".join(expressions(json.loads(DASHBOARD.read_text(encoding="utf-8"))))))
    figures = told(board(workers=(worker("w1"),)), ENTRY)
    assert asked <= set(figures)
    shown = {re.sub("_(bucket|total)$", "", name) for name in asked}
    assert shown == NAMES
