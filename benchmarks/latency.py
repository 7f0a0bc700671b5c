"""How long a prompt takes through the workshop and directly, measured in one run by one client, interleaved.

    python benchmarks/latency.py [--runs 300] [--launches 2] [--comfyui PATH]

For each way in which files travel (a shared folder, HTTP) it starts two plain ComfyUI processes, the second of them
the A/A control, and a frontend with a worker and a store that syncs every write, all with fresh folders. It does so
several times and pools the runs: one process can be a tenth faster than the next one that does the same. Prints a table
of milliseconds and ratios, and with ``--save`` writes it to a file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import runpy
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).resolve().parent.parent
#: The ways in which files travel.
TRANSPORTS = {"shared": "Shared folder", "http": "HTTP"}
#: A run that takes this much longer than the fastest direct one is a stall of ComfyUI: it collects garbage every 10 s.
STALL = 0.1


runpy.run_path(str(ROOT / "tests" / "harness" / "package.py"))["register"]()

from comfyume.tests.harness import discovery  # noqa: E402
from comfyume.tests.harness.pair import Pair  # noqa: E402
from comfyume.tests.harness.processes import ComfyProcess  # noqa: E402

NODE_PACK = ROOT / "benchmarks" / "node_packs" / "benchmark_nodes"


@dataclass(frozen=True)
class Timing:
    """Seconds from the send of a submit.

    Attributes:
        answered: to its answer.
        begun: to the begin of the execution, by ComfyUI's own stamp, which it cuts to whole milliseconds.
        started: to the arrival of ``execution_start``.
        ended: to the arrival of the last event.
    """

    answered: float
    begun: float
    started: float
    ended: float


class Arm:
    """One way to run prompts: an address with a client's socket."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.client_id = uuid.uuid4().hex
        self._waiting: dict[str, asyncio.Future[float]] = {}
        self._started: dict[str, tuple[float, float]] = {}

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
                self._started[prompt_id] = (now, data["timestamp"] / 1000)
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
        wall = time.time()
        begin = time.perf_counter()
        async with self._session.post(f"http://{self.address}/prompt", json=body) as response:
            text = await response.text()
            assert response.status == 200, text
        answered = time.perf_counter()
        ended = await asyncio.wait_for(self._waiting[prompt_id], 120)
        del self._waiting[prompt_id]
        started, stamp = self._started.pop(prompt_id)
        return Timing(answered - begin, stamp - wall, started - begin, ended - begin)


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


@dataclass
class Measured:
    """What one way of carrying files gave, by arm."""

    trivial: dict[str, list[Timing]] = field(default_factory=dict)
    slow: dict[str, list[Timing]] = field(default_factory=dict)
    at_once: dict[str, list[float]] = field(default_factory=dict)

    def add(self, other: Measured) -> None:
        """Pool the runs of another launch."""
        for mine, its in ((self.trivial, other.trivial), (self.slow, other.slow), (self.at_once, other.at_once)):
            for name, values in its.items():
                mine.setdefault(name, []).extend(values)  # type: ignore[attr-defined, arg-type]


async def measure(servers: dict[str, str], runs: int, slow_runs: int, rounds: int) -> Measured:
    """All comparisons of one launch; ``servers`` gives the address of each arm."""
    arms = [Arm(name, address) for name, address in servers.items()]
    async with aiohttp.ClientSession() as session:
        for arm in arms:
            await arm.open(session)
        await interleaved(arms, 20, lambda index: picture(2_000_000 + index))
        return Measured(
            await interleaved(arms, runs, picture),
            await interleaved(arms, slow_runs, lambda index: slow_picture(3_000_000 + index, 2.0)),
            await makespans(arms, rounds, 20),
        )


def launch(install: discovery.ComfyInstall, folder: Path, transport: str, counts: tuple[int, int, int]) -> Measured:
    """Start an arm of each kind, measure, stop them."""
    plain = [
        ComfyProcess(install, folder / f"plain{index}", mode="vanilla", node_packs=[NODE_PACK]) for index in (0, 1)
    ]
    pair = Pair(install, folder / "pair", transport=transport, worker_node_packs=[NODE_PACK])
    try:
        for process in plain:
            process.start().wait_ready()
        pair.start()
        names = ["direct", "direct again (A/A)", f"pair, {transport}"]
        addresses = [process.address for process in [*plain, pair.frontend]]
        return asyncio.run(measure(dict(zip(names, addresses, strict=True)), *counts))
    finally:
        for item in [pair, *plain]:
            item.stop()


def report(title: str, timings: dict[str, list[Timing]]) -> list[str]:
    """A table in Markdown: milliseconds, and ratios to the first arm."""
    base = [timing.ended for timing in next(iter(timings.values()))]
    lines = [
        f"### {title}, {len(base)} runs each",
        "",
        "| | p50 ms | p95 ms | p99 ms | p99 calm | stalls | p50 ratio | p95 ratio | begun p50 ms | begin seen p50 ms |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, values in timings.items():
        ended = [timing.ended for timing in values]
        calm = [value for value in ended if value < min(base) + STALL] or ended
        begun = statistics.median(timing.begun - timing.answered for timing in values)
        seen = statistics.median(timing.started - timing.answered for timing in values)
        lines.append(
            f"| {name} | {percentile(ended, 0.5) * 1e3:.2f} | {percentile(ended, 0.95) * 1e3:.2f} "
            f"| {percentile(ended, 0.99) * 1e3:.2f} | {percentile(calm, 0.99) * 1e3:.2f} | {len(ended) - len(calm)} "
            f"| {percentile(ended, 0.5) / percentile(base, 0.5):.3f} "
            f"| {percentile(ended, 0.95) / percentile(base, 0.95):.3f} | {begun * 1e3:.2f} | {seen * 1e3:.2f} |"
        )
    early = sum(timing.ended < timing.answered for values in timings.values() for timing in values)
    return [
        *lines,
        "",
        f"Last event before the answer to the submit: {early} times. `begun` and `begin seen` count from that answer.",
        "",
    ]


def report_all(transport: str, measured: Measured) -> list[str]:
    """The tables of one way of carrying files."""
    spans = measured.at_once
    base = statistics.median(next(iter(spans.values())))
    rounds = len(next(iter(spans.values())))
    lines = [
        f"## {transport}",
        "",
        *report("Trivial prompt", measured.trivial),
        *report("Prompt of 2 s", measured.slow),
        f"### Twenty prompts at once, {rounds} rounds",
        "",
        "| | median ms | ratio |",
        "|---|---|---|",
    ]
    for name, values in spans.items():
        lines.append(f"| {name} | {statistics.median(values) * 1e3:.1f} | {statistics.median(values) / base:.2f} |")
    return [*lines, ""]


def main() -> None:
    """Start the processes, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=300, help="of the trivial prompt, in each launch")
    parser.add_argument("--slow-runs", type=int, default=5, help="of a prompt of 2 s, in each launch")
    parser.add_argument("--rounds", type=int, default=10, help="of twenty prompts at once, in each launch")
    parser.add_argument("--launches", type=int, default=2)
    parser.add_argument("--transport", choices=TRANSPORTS, action="append")
    parser.add_argument("--comfyui", type=Path)
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    install = discovery.at(options.comfyui) if options.comfyui else discovery.find("new")
    counts = (options.runs, options.slow_runs, options.rounds)
    lines = [f"ComfyUI {install.version}", ""]
    for transport in options.transport or TRANSPORTS:
        measured = Measured()
        for index in range(options.launches):
            print(f"{transport}: launch {index + 1} of {options.launches}", file=sys.stderr)
            with tempfile.TemporaryDirectory(prefix="comfyume-latency-") as folder:
                measured.add(launch(install, Path(folder), transport, counts))
        lines += report_all(TRANSPORTS[transport], measured)
    text = "\n".join(lines)
    print(text)
    if options.save:
        options.save.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
