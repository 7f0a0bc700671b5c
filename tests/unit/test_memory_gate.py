"""The memory gate: what a worker has room for, when it unloads, and what it says."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from comfyume.comfyui_seams.answers import Memory
from comfyume.job_queue.jobs import GIB
from comfyume.server_routes.memory_needs import memory_need
from comfyume.worker_mode.memory_gate import MemoryGate


class Device:
    """The part of an engine that the gate asks: a GPU of 24 GiB, some of it in use."""

    def __init__(self, free: float, loaded: float = 0, stuck: float = 0) -> None:
        self.free, self.loaded, self.stuck = free, loaded, stuck
        self.unloads = 0

    def memory(self) -> Memory:
        return Memory(24 * GIB, int(self.free * GIB), int(self.loaded * GIB), "test")

    def unload(self) -> None:
        self.unloads += 1
        self.free, self.loaded = self.free + self.loaded + self.stuck, 0
        self.stuck = 0


def gate(device: Any, mode: Any = "on", margin: float = 2) -> MemoryGate:
    return MemoryGate(device, mode, int(margin * GIB))


def test_loaded_models_count_as_room_and_the_margin_does_not() -> None:
    assert gate(Device(free=4, loaded=18)).room() == 20 * GIB


def test_there_is_never_less_than_no_room() -> None:
    assert gate(Device(free=1)).room() == 0


@pytest.mark.parametrize("mode", ["off", "dry_run"])
def test_a_gate_that_is_not_on_lets_all_jobs_be_claimed(mode: str) -> None:
    assert gate(Device(free=0), mode).room() is None


def test_an_engine_that_knows_nothing_lets_all_jobs_be_claimed_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    class Blind(Device):
        def memory(self) -> Any:
            return None

    assert gate(Blind(free=0)).room() is None
    assert "nobody here can tell the memory" in caplog.text


def test_before_it_gives_up_it_unloads_and_looks_again() -> None:
    device = Device(free=4, loaded=2, stuck=10)
    mine = gate(device)
    assert mine.room() == 4 * GIB
    assert mine.make_room(14 * GIB)
    assert device.unloads == 1
    assert mine.room() == 14 * GIB


def test_it_does_not_unload_again_and_again_for_the_same_need(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "comfyume")
    device = Device(free=4)
    mine = gate(device)
    assert not mine.make_room(46 * GIB)
    assert not mine.make_room(46 * GIB)
    assert device.unloads == 1
    assert caplog.text.count("needs 46.0 GiB; this worker has 2.0 GiB") == 1


def graph(**inputs: Any) -> dict[str, Any]:
    return {"1": {"class_type": "EmptyLatentImage", "inputs": inputs}}


def test_the_estimate_is_the_largest_model_with_something_beside_it() -> None:
    assert memory_need(graph(), [8 * GIB, 18 * GIB]).estimate == int(18 * GIB * 1.1)
    assert memory_need(graph(), []).estimate is None


def test_sizes_decide_the_kind_and_seeds_do_not() -> None:
    base = memory_need(graph(width=1024, height=1024, seed=1), [])
    assert base == memory_need(graph(width=1024, height=1000, seed=2), [])
    assert base != memory_need(graph(width=1536, height=1024, seed=1), [])


@pytest.mark.parametrize(("value", "step"), [(1, 1), (1000, 1024), (1024, 1024), (1025, 1280), (1800, 2048), (97, 112)])
def test_sizes_are_rounded_up_to_few_steps(value: int, step: int) -> None:
    assert memory_need(graph(length=value), []) == memory_need(graph(length=step), [])


def test_a_node_states_the_need() -> None:
    prompt = {"1": {"class_type": "ComfyumeMemoryNeed", "inputs": {"images": ["2", 0], "gib": 31.5}}}
    assert memory_need(prompt, [GIB]).stated == int(31.5 * GIB)


@pytest.mark.parametrize("gib", [0, ["2", 0], None])
def test_a_node_that_states_nothing_counts_for_nothing(gib: Any) -> None:
    prompt = {"1": {"class_type": "ComfyumeMemoryNeed", "inputs": {"images": ["2", 0], "gib": gib}}}
    assert memory_need(prompt, []).stated is None
