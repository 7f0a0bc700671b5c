"""Compares scheduling policies by playing a workshop: who waits how long, how often models are swapped, what GPUs do.

    python benchmarks/simulate.py [--people 20] [--days 3] [--workers 1 3] [--flood 200] [--save FILE]

The scripts that schedule are the real ones on a real store; only the clock is the simulation's.
"""

from __future__ import annotations

import argparse
import runpy
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
runpy.run_path(str(ROOT / "tests" / "harness" / "package.py"))["register"]()

from comfyume.benchmarks.simulator.play import Outcome, simulate  # noqa: E402
from comfyume.benchmarks.simulator.workload import Workshop  # noqa: E402
from comfyume.job_queue.connection import connect  # noqa: E402
from comfyume.job_queue.jobs import Policy  # noqa: E402
from comfyume.tests.harness.processes import RedisServer  # noqa: E402

HEAD = "| policy | prompts | mean wait s | p95 s | median one | slowest | slowest / median | worst p95 | swaps | use |"
#: What is compared, by name.
POLICIES = {
    "fifo, no affinity": Policy("fifo", affinity=0),
    "fifo": Policy("fifo"),
    "round robin": Policy("round_robin"),
    "fair, no affinity": Policy("fair", affinity=0),
    "fair": Policy("fair"),
}


def percentile(values: list[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def row(name: str, outcome: Outcome, flooding: str | None) -> str:
    """One line of the table; whoever floods waits for themselves and counts as nobody's neighbour."""
    waits = {user: values for user, values in outcome.waits.items() if user != flooding}
    means = sorted(statistics.mean(values) for values in waits.values())
    median = statistics.median(means)
    everybody = [wait for values in waits.values() for wait in values]
    worst = max(percentile(values, 0.95) for values in waits.values())
    seconds = [statistics.mean(everybody), percentile(everybody, 0.95), median, means[-1]]
    cells = [str(sum(map(len, outcome.waits.values()))), *(f"{value:.0f}" for value in seconds)]
    cells += [f"{means[-1] / median:.2f}", f"{worst:.0f}", str(outcome.swaps), f"{outcome.use:.0%}"]
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Start a store, play, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--flood", type=int, default=200, help="prompts that one person queues at once, every day")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--affinity", type=float, default=Policy().affinity, help="seconds somebody may be passed over")
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    lines = []
    with (
        tempfile.TemporaryDirectory(prefix="cfm") as folder,
        RedisServer(Path(folder), port=None, fsync="no") as server,
    ):
        client = connect(server.url, timeout=60)
        for workers in options.workers:
            workshop = Workshop(options.people, options.days, flood=options.flood, seed=options.seed)
            flooding = workshop.users()[0] if options.flood else None
            lines += [
                f"### {options.people} people, {workers} workers, {options.days} days",
                "",
                f"One person queues {options.flood} prompts more, once a day. Seed {options.seed}.",
                "",
                HEAD,
                "|---" * (HEAD.count("|") - 1) + "|",
            ]
            for name, policy in POLICIES.items():
                began = time.perf_counter()
                chosen = Policy(policy.mode, affinity=options.affinity if policy.affinity else 0)
                lines.append(row(name, simulate(client, workshop, chosen, workers), flooding))
                print(f"{workers} workers, {name}: {time.perf_counter() - began:.1f} s", file=sys.stderr)
            lines.append("")
    text = "\n".join(lines)
    print(text)
    if options.save:
        options.save.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
