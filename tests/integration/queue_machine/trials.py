"""Runs many sequences of the queue's machine on a store of its own, and prints what came of them.

    python tests/integration/queue_machine/trials.py [--sequences 10000] [--steps 50] [--seed N] [--minutes M]

The normal tests run a few of them. A sequence that fails is made as short as possible and printed as a program; the
same seed finds it again.
"""

from __future__ import annotations

import argparse
import random
import runpy
import tempfile
import time
from collections import Counter
from pathlib import Path

import redis
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).resolve().parents[2] / "harness" / "package.py"))["register"]()

from comfyume.tests.harness.processes import RedisServer
from comfyume.tests.integration.queue_machine.machine import QueueMachine

#: Sequences that Hypothesis plans together; each batch has the next seed.
BATCH = 250


def store_in(folder: Path) -> RedisServer:
    """A store that asks waiting workers in the same order each time, so that a seed means the same sequences."""
    return RedisServer(folder, port=None, fsync="no", options={"hash-max-ziplist-value": "1024"})


def run_sequences(server: RedisServer, *, sequences: int, steps: int, first_seed: int) -> Counter[str]:
    """Run sequences of this many steps.

    Returns:
        How often each answer was given; ``sequences`` and ``steps`` among them.

    Raises:
        AssertionError: the store and the model disagree; the shortest sequence that shows it is printed.
    """
    tally: Counter[str] = Counter()
    with redis.Redis.from_url(server.url) as client:
        attributes = {"url": server.url, "client": client, "tally": tally}
        run_state_machine_as_test(
            seed(first_seed)(type("SeededMachine", (QueueMachine,), attributes)),  # type: ignore[arg-type]
            settings=settings(
                max_examples=sequences,
                stateful_step_count=steps,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    return tally


def main() -> None:
    """Start a store, run batches until all sequences were run or the time is over, print figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--minutes", type=float, default=60.0, help="no further batch is begun after so long")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    tally: Counter[str] = Counter()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cfm") as folder, store_in(Path(folder)) as server:
        batch = 0
        while tally["sequences"] < options.sequences and time.monotonic() - began < options.minutes * 60:
            size = min(BATCH, options.sequences - tally["sequences"])
            tally += run_sequences(server, sequences=size, steps=options.steps, first_seed=options.seed + batch)
            batch += 1
            print(f"{tally['sequences']} sequences, {time.monotonic() - began:.0f} s", flush=True)
    seconds = time.monotonic() - began
    print(f"\n{tally.pop('sequences')} sequences, {tally.pop('steps')} steps, {seconds:.0f} s, seed {options.seed}")
    for answer, count in sorted(tally.items()):
        print(f"{count:9} {answer}")


if __name__ == "__main__":
    main()
