"""How long a prompt takes through the workshop and directly, measured in one run by one client, interleaved.

    python benchmarks/latency.py [--runs 300] [--comfyui PATH]

Starts two plain ComfyUI processes (the second one is the A/A control), a frontend and worker with a shared folder, and
a frontend and worker that carry files over HTTP, each with fresh folders and stores that sync every write. Prints a
table of milliseconds and ratios, and with ``--save`` writes it to a file.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).resolve().parent.parent
#: A run over this is one of ComfyUI's own stalls: it collects garbage every ten seconds.
STALL = 0.1


def _register_package() -> None:
    spec = importlib.util.spec_from_file_location(
        "comfyume", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["comfyume"] = module
    spec.loader.exec_module(module)


_register_package()

from comfyume.tests.harness import discovery  # noqa: E402
from comfyume.tests.harness.processes import ComfyProcess, Pair  # noqa: E402

NODE_PACK = ROOT / "benchmarks" / "node_packs" / "benchmark_nodes"


@dataclass(frozen=True)
class Timing:
    """Seconds from the send of a submit: to its answer, to ``execution_start``, and to the last event."""

    answered: float
    started: float
    ended: float


class Arm:
    """One way to run prompts: an address with a client's socket."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.client_id = uuid.uuid4().hex
        self._waiting: dict[str, asyncio.Future[float]] = {}
        self._started: dict[str, float] = {}

    async def open(self, session: aiohttp.ClientSession) -> None:
        """Connect the socket and read it for ever."""
        self._session = session
        self._socket = await session.ws_connect(f"http://{self.address}/ws?clientId={self.client_id}", max_msg_size=0)
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                continue
            now = time.perf_counter()
            event = json.loads(message.data)
            data = event.get("data") or {}
            prompt_id = data.get("prompt_id")
            if event["type"] == "execution_start":
                self._started[prompt_id] = now
            elif event["type"] == "executing" and data.get("node") is None and prompt_id in self._waiting:
                if self._waiting[prompt_id].done():
                    raise RuntimeError(f"{self.name}: the end of {prompt_id} was told twice")
                self._waiting[prompt_id].set_result(now)
            elif event["type"] == "execution_error":
                raise RuntimeError(f"{self.name}: {data}")

    async def run(self, prompt: dict[str, Any]) -> Timing:
        """Run one prompt to its last event."""
        prompt_id = str(uuid.uuid4())
        self._waiting[prompt_id] = asyncio.get_running_loop().create_future()
        body = {"prompt": prompt, "client_id": self.client_id, "prompt_id": prompt_id}
        begin = time.perf_counter()
        async with self._session.post(f"http://{self.address}/prompt", json=body) as response:
            text = await response.text()
            assert response.status == 200, text
        answered = time.perf_counter()
        ended = await asyncio.wait_for(self._waiting[prompt_id], 120)
        del self._waiting[prompt_id]
        return Timing(answered - begin, self._started.pop(prompt_id) - begin, ended - begin)


def picture(color: int) -> dict[str, Any]:
    """The trivial prompt; a color that was not seen makes it run."""
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": color}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "ComfyUI"}},
    }


def slow_picture(color: int, seconds: float) -> dict[str, Any]:
    """The trivial prompt with a wait in it."""
    prompt = picture(color)
    prompt["3"] = {"class_type": "BenchmarkSleep", "inputs": {"image": ["1", 0], "seconds": seconds}}
    prompt["2"]["inputs"]["images"] = ["3", 0]
    return prompt


async def interleaved(arms: Sequence[Arm], runs: int, prompt: Any) -> dict[str, list[Timing]]:
    """Run each arm once a round, in a random order that differs from round to round."""
    timings: dict[str, list[Timing]] = {arm.name: [] for arm in arms}
    for index in range(runs):
        for arm in random.sample(arms, len(arms)):
            timings[arm.name].append(await arm.run(prompt(index)))
        if index % 100 == 99:
            print(f"  {index + 1} of {runs} rounds", file=sys.stderr)
    return timings


async def makespans(arms: Sequence[Arm], rounds: int, at_once: int) -> dict[str, list[float]]:
    """Seconds from the first submit of many at once to the last event of the last."""
    result: dict[str, list[float]] = {arm.name: [] for arm in arms}
    color = 1_000_000
    for _ in range(rounds):
        for arm in random.sample(arms, len(arms)):
            begin = time.perf_counter()
            color += at_once
            await asyncio.gather(*(arm.run(picture(color + index)) for index in range(at_once)))
            result[arm.name].append(time.perf_counter() - begin)
    return result


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def report(title: str, timings: dict[str, list[Timing]]) -> list[str]:
    """A table in Markdown: milliseconds, and ratios to the first arm."""
    base = [timing.ended for timing in next(iter(timings.values()))]
    lines = [
        f"### {title}",
        "",
        "| | p50 ms | p95 ms | p99 ms | p99 calm | stalls | p50 ratio | p95 ratio | start after answer, p50 ms |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, values in timings.items():
        ended = [timing.ended for timing in values]
        calm = [value for value in ended if value < STALL] or ended
        starts = statistics.median(timing.started - timing.answered for timing in values)
        lines.append(
            f"| {name} | {percentile(ended, 0.5) * 1e3:.2f} | {percentile(ended, 0.95) * 1e3:.2f} "
            f"| {percentile(ended, 0.99) * 1e3:.2f} | {percentile(calm, 0.99) * 1e3:.2f} | {len(ended) - len(calm)} "
            f"| {percentile(ended, 0.5) / percentile(base, 0.5):.2f} "
            f"| {percentile(ended, 0.95) / percentile(base, 0.95):.2f} | {starts * 1e3:.2f} |"
        )
    early = sum(timing.ended < timing.answered for values in timings.values() for timing in values)
    return [*lines, "", f"Last event before the answer to the submit: {early} times.", ""]


async def measure(arms: Sequence[Arm], runs: int, slow_runs: int, rounds: int) -> list[str]:
    """All comparisons."""
    async with aiohttp.ClientSession() as session:
        for arm in arms:
            await arm.open(session)
        await interleaved(arms, 20, lambda index: picture(2_000_000 + index))
        lines = report(f"Trivial prompt, {runs} runs each", await interleaved(arms, runs, picture))
        slow = await interleaved(arms, slow_runs, lambda index: slow_picture(3_000_000 + index, 2.0))
        lines += report(f"Prompt of 2 s, {slow_runs} runs each", slow)
        spans = await makespans(arms, rounds, 20)
        base = statistics.median(next(iter(spans.values())))
        lines += [f"### Twenty prompts at once, {rounds} rounds", "", "| | median ms | ratio |", "|---|---|---|"]
        for name, values in spans.items():
            lines.append(f"| {name} | {statistics.median(values) * 1e3:.1f} | {statistics.median(values) / base:.2f} |")
        return [*lines, ""]


def main() -> None:
    """Start the processes, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--slow-runs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--comfyui", type=Path)
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    install = discovery.at(options.comfyui) if options.comfyui else discovery.find("new")
    with tempfile.TemporaryDirectory(prefix="comfyume-latency-") as name:
        folder = Path(name)
        plain = [
            ComfyProcess(install, folder / f"plain{index}", mode="vanilla", node_packs=[NODE_PACK]) for index in (0, 1)
        ]
        pairs = [
            Pair(install, folder / transport, transport=transport, worker_node_packs=[NODE_PACK])
            for transport in ("shared", "http")
        ]
        try:
            for process in plain:
                process.start().wait_ready()
            for pair in pairs:
                pair.start()
            names = ["direct", "direct again (A/A)", "pair, shared folder", "pair, HTTP"]
            servers = [*plain, *(pair.frontend for pair in pairs)]
            arms = [Arm(name, server.address) for name, server in zip(names, servers, strict=True)]
            lines = asyncio.run(measure(arms, options.runs, options.slow_runs, options.rounds))
        finally:
            for item in [*pairs, *plain]:
                item.stop()
    text = "\n".join([f"ComfyUI {install.version}", "", *lines])
    print(text)
    if options.save:
        options.save.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
