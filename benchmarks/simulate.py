"""Compares scheduling policies by playing a workshop: who waits how long, how often models are swapped, what GPUs do.

    python benchmarks/simulate.py [--people 20] [--days 3] [--workers 1 3] [--seeds 1 2 3] [--flood 200] [--save FILE]

The scripts that schedule are the real ones on a real store; only the clock is the simulation's.
"""

from __future__ import annotations

import argparse
import runpy
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import redis

ROOT = Path(__file__).resolve().parent.parent
runpy.run_path(str(ROOT / "tests" / "harness" / "package.py"))["register"]()

from comfyume.benchmarks.simulator.play import Outcome, simulate  # noqa: E402
from comfyume.benchmarks.simulator.workload import Workshop  # noqa: E402
from comfyume.job_queue.connection import connect  # noqa: E402
from comfyume.job_queue.jobs import Policy  # noqa: E402
from comfyume.tests.harness.processes import RedisServer  # noqa: E402

HEAD = (
    "| policy | seed | prompts | mean wait s | p95 s | median one | slowest | slowest / median "
    "| worst p95 against fifo | swaps | swaps against fifo | use |"
)
#: What all else is compared with: first come, first served, whatever is loaded.
PLAIN = "fifo, no affinity"
#: What is compared, by name.
POLICIES = {
    PLAIN: Policy("fifo", affinity=0),
    "fifo": Policy("fifo"),
    "round robin": Policy("round_robin"),
    "fair, no affinity": Policy("fair", affinity=0),
    "fair": Policy("fair"),
}


def percentile(values: list[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def row(name: str, outcome: Outcome, plain: Outcome, flooding: str | None) -> str:
    """One line of the table; whoever floods waits for themselves and counts as nobody's neighbour.

    ``plain`` is what comes of first come, first served without regard to models, which each
    person's wait is compared with.
    """
    waits = {user: values for user, values in outcome.waits.items() if user != flooding}
    means = sorted(statistics.mean(values) for values in waits.values())
    median = statistics.median(means)
    everybody = [wait for values in waits.values() for wait in values]
    worst = max(percentile(values, 0.95) / percentile(plain.waits[user], 0.95) for user, values in waits.items())
    seconds = [statistics.mean(everybody), percentile(everybody, 0.95), median, means[-1]]
    cells = [str(sum(map(len, outcome.waits.values()))), *(f"{value:.0f}" for value in seconds)]
    cells += [f"{means[-1] / median:.2f}", f"{worst:.2f}", str(outcome.swaps)]
    cells += [f"{outcome.swaps / plain.swaps:.3f}", f"{outcome.use:.0%}"]
    return f"| {name} | {' | '.join(cells)} |"


def table(client: redis.Redis, options: argparse.Namespace, workers: int) -> Iterator[str]:
    """Play with this many workers under each policy; gives the lines."""
    yield f"### {options.people} people, {workers} worker{'s' * (workers > 1)}, {options.days} days"
    yield ""
    yield HEAD
    yield "|---" * (HEAD.count("|") - 1) + "|"
    plain: dict[int, Outcome] = {}
    for name, policy in POLICIES.items():
        if name != PLAIN and options.policies and name not in options.policies:
            continue
        chosen = Policy(policy.mode, affinity=options.affinity if policy.affinity else 0)
        for seed in options.seeds:
            workshop = Workshop(options.people, options.days, flood=options.flood, seed=seed)
            began = time.perf_counter()
            outcome = simulate(client, workshop, chosen, workers)
            plain.setdefault(seed, outcome)
            flooding = workshop.users()[0] if options.flood else None
            yield row(f"{name} | {seed}", outcome, plain[seed], flooding)
            print(f"{workers} workers, {name}, {seed}: {time.perf_counter() - began:.1f} s", file=sys.stderr)
    yield ""


def main() -> None:
    """Start a store, play, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--flood", type=int, default=200, help="prompts that one person queues at once, every day")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 2, 3], help="each is another workshop of the same sort"
    )
    parser.add_argument("--policies", nargs="+", choices=POLICIES, help="some of them; the first is always played")
    parser.add_argument("--affinity", type=float, default=Policy().affinity, help="seconds somebody may be passed over")
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="cfm") as folder,
        RedisServer(Path(folder), port=None, fsync="no") as server,
    ):
        client = connect(server.url, timeout=60)
        text = "\n".join(line for workers in options.workers for line in table(client, options, workers))
    print(text)
    if options.save:
        options.save.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
