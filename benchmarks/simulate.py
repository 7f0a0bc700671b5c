"""Compares scheduling policies by playing a workshop: who waits how long, how often models are swapped, what GPUs do.

    python benchmarks/simulate.py [--people 20] [--days 3] [--workers 1 3] [--seeds 1 2 3] [--flood 200] [--save FILE]
    python benchmarks/simulate.py --record FOLDER      also plays what was asked for under one policy, and keeps it
    python benchmarks/simulate.py --play FILE...       plays recordings

The scripts that schedule are the real ones on a real store; only the clock is the simulation's.
"""

from __future__ import annotations

import argparse
import runpy
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

import redis

ROOT = Path(__file__).resolve().parent.parent
runpy.run_path(str(ROOT / "tests" / "harness" / "package.py"))["register"]()

from comfyume.benchmarks.simulator.play import Outcome, People, simulate  # noqa: E402
from comfyume.benchmarks.simulator.recording import Recording  # noqa: E402
from comfyume.benchmarks.simulator.workload import Crowd, Workshop  # noqa: E402
from comfyume.job_queue.connection import connect  # noqa: E402
from comfyume.job_queue.jobs import Policy  # noqa: E402
from comfyume.tests.harness.processes import RedisServer  # noqa: E402

HEAD = (
    "| policy | workshop | prompts | mean wait s | p95 s | median one | slowest | slowest / median "
    "| worst p95 against fifo | swaps | swaps against fifo | per prompt | use |"
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


@dataclass(frozen=True)
class Scene:
    """What is played under each policy, each time by new people.

    Attributes:
        flooding: people whose waits are left out.
    """

    name: str
    people: Callable[[], People]
    flooding: tuple[str, ...]

    @classmethod
    def same_hours(cls, workshop: Workshop) -> Scene:
        """People who ask for more when they have their results, until the workshop is over."""
        flooding = tuple(workshop.users()[:1]) if workshop.flood else ()
        return cls(str(workshop.seed), lambda: Crowd(workshop), flooding)

    @classmethod
    def same_work(cls, workshop: Workshop) -> Scene:
        """People who ask for more when they have their results, each for as much as under the policy played first."""
        flooding = tuple(workshop.users()[:1]) if workshop.flood else ()
        first = Crowd(workshop)
        crowds = chain([first], (Crowd(workshop, work=first.asks) for _ in count()))
        return cls(str(workshop.seed), lambda: next(crowds), flooding)

    @classmethod
    def recorded(cls, name: str, recording: Recording) -> Scene:
        """The same prompts at the same times."""
        return cls(name, lambda: recording, recording.flooding)


def percentile(values: list[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def row(name: str, outcome: Outcome, plain: Outcome, flooding: tuple[str, ...]) -> str:
    """One line of the table; whoever floods waits for themselves and counts as nobody's neighbour.

    ``plain`` is what comes of first come, first served without regard to models, which each
    person's wait is compared with.
    """
    waits = {user: values for user, values in outcome.waits.items() if user not in flooding}
    means = sorted(statistics.mean(values) for values in waits.values())
    median = statistics.median(means)
    everybody = [wait for values in waits.values() for wait in values]
    # Less than a second is as good as no wait.
    usual = {user: max(percentile(plain.waits[user], 0.95), 1) for user in waits}
    worst = max(percentile(values, 0.95) / usual[user] for user, values in waits.items())
    seconds = [statistics.mean(everybody), percentile(everybody, 0.95), median, means[-1]]
    swaps = outcome.swaps / plain.swaps
    cells = [str(len(outcome.asked)), *(f"{value:.0f}" for value in seconds)]
    cells += [f"{means[-1] / median:.2f}", f"{worst:.2f}", str(outcome.swaps), f"{swaps:.3f}"]
    cells += [f"{swaps * len(plain.asked) / len(outcome.asked):.3f}", f"{outcome.use:.0%}"]
    return f"| {name} | {' | '.join(cells)} |"


class Comparison:
    """Policies compared on one store."""

    def __init__(self, client: redis.Redis, options: argparse.Namespace) -> None:
        self._client = client
        self._affinity = options.affinity
        self._names = [name for name in POLICIES if name == PLAIN or not options.policies or name in options.policies]

    def of(self, title: str, workers: int, scenes: list[Scene]) -> tuple[list[str], dict[str, list[Outcome]]]:
        """The lines of a table, and what came of each scene under each policy."""
        lines = [f"### {title}", "", HEAD, "|---" * (HEAD.count("|") - 1) + "|"]
        outcomes: dict[str, list[Outcome]] = {name: [] for name in self._names}
        for name in self._names:
            policy = Policy(POLICIES[name].mode, affinity=self._affinity if POLICIES[name].affinity else 0)
            for number, scene in enumerate(scenes):
                began = time.perf_counter()
                outcome = simulate(self._client, scene.people(), policy, workers)
                outcomes[name].append(outcome)
                lines.append(row(f"{name} | {scene.name}", outcome, outcomes[PLAIN][number], scene.flooding))
                print(f"{title}, {name}, {scene.name}: {time.perf_counter() - began:.1f} s", file=sys.stderr)
        return [*lines, ""], outcomes


def tables(comparison: Comparison, options: argparse.Namespace) -> Iterator[str]:
    """Play what the options ask for; gives the lines of all tables."""
    for workers in options.workers:
        length = f"{options.days} day{'s' * (options.days > 1)} of {options.hours:g} hours"
        title = f"{options.people:,} people, {workers} worker{'s' * (workers > 1)}, {length}"
        if options.play:
            recorded = [Scene.recorded(path.stem, Recording.read(path)) for path in options.play]
            yield from comparison.of(f"Recorded, {workers} worker{'s' * (workers > 1)}", workers, recorded)[0]
            continue
        workshops = [
            Workshop(options.people, options.days, options.hours, options.flood, seed) for seed in options.seeds
        ]
        yield from comparison.of(f"{title}, the same work", workers, [Scene.same_work(each) for each in workshops])[0]
        generated = [Scene.same_hours(workshop) for workshop in workshops]
        lines, outcomes = comparison.of(f"{title}, the same hours", workers, generated)
        yield from lines
        for policy in options.record_under if options.record else ():
            recorded = []
            for scene, outcome in zip(generated, outcomes[policy], strict=True):
                recording = Recording.of(outcome.asked, scene.flooding)
                words = [f"{options.people} people", f"{workers} workers", policy.replace(",", ""), scene.name]
                recording.write(options.record / f"{' '.join(words).replace(' ', '-')}.jsonl")
                recorded.append(Scene.recorded(scene.name, recording))
            yield from comparison.of(f"{title}, recorded under {policy}", workers, recorded)[0]


def main() -> None:
    """Start a store, play, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--hours", type=float, default=8.0, help="of each day")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--flood", type=int, default=200, help="prompts that one person queues at once, every day")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 2, 3], help="each is another workshop of the same sort"
    )
    parser.add_argument("--policies", nargs="+", choices=POLICIES, help="some of them; the first is always played")
    parser.add_argument("--affinity", type=float, default=Policy().affinity, help="seconds somebody may be passed over")
    parser.add_argument("--record", type=Path, metavar="FOLDER", help="keep what was asked for, and play that as well")
    parser.add_argument(
        "--record-under", nargs="+", choices=POLICIES, default=[PLAIN], help="policies under which it was asked for"
    )
    parser.add_argument("--play", type=Path, nargs="+", metavar="FILE", help="recordings to play instead")
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    if options.record and options.policies and not {*options.record_under} <= {PLAIN, *options.policies}:
        parser.error("--record-under names a policy that --policies leaves out")
    if options.record:
        options.record.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="cfm") as folder,
        RedisServer(Path(folder), port=None, fsync="no") as server,
    ):
        client = connect(server.url, timeout=60)
        text = "\n".join(tables(Comparison(client, options), options))
    print(text)
    if options.save:
        options.save.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
