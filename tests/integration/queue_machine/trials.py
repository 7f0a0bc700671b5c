"""Runs many sequences of the queue's machine on a store of its own, and prints what came of them.

    python tests/integration/queue_machine/trials.py [--sequences 10000] [--steps 50] [--seed N] [--minutes M]
    python tests/integration/queue_machine/trials.py --mutations [--only PATTERN] [--seed N]

The normal tests run a few of them. A sequence that fails is made as short as possible and printed as a program; the
same seed finds it again.
"""

from __future__ import annotations

import argparse
import random
import re
import runpy
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import redis
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).resolve().parents[2] / "harness" / "package.py"))["register"]()

from comfyume.job_queue.errors import QueueError
from comfyume.job_queue.scripts import source
from comfyume.tests.harness.processes import RedisServer
from comfyume.tests.integration.queue_machine.machine import QueueMachine
from comfyume.tests.integration.queue_machine.mutations import MUTATIONS, Mutation

#: Sequences that Hypothesis plans together; each batch has the next seed.
BATCH = 250


def store_in(folder: Path) -> RedisServer:
    """A store that asks waiting workers in the same order each time, so that a seed means the same sequences."""
    return RedisServer(folder, port=None, fsync="no", options={"hash-max-ziplist-value": "1024"})


def run_sequences(
    server: RedisServer,
    *,
    sequences: int,
    steps: int,
    first_seed: int,
    is_shortened: bool = True,
    read: Callable[[str], str] = source,
    tally: Counter[str] | None = None,
) -> Counter[str]:
    """Run sequences of this many steps.

    Args:
        is_shortened: whether the shortest sequence is looked for that shows a disagreement.
        read: gives the text of a script.
        tally: counts the answers, else a new one does.

    Returns:
        How often each answer was given; ``sequences`` and ``steps`` among them.

    Raises:
        AssertionError: the store and the model disagree; the shortest sequence that shows it is printed.
    """
    tally = Counter() if tally is None else tally
    with redis.Redis.from_url(server.url) as client:
        attributes = {"url": server.url, "client": client, "tally": tally, "read": staticmethod(read)}
        run_state_machine_as_test(
            seed(first_seed)(type("SeededMachine", (QueueMachine,), attributes)),  # type: ignore[arg-type]
            settings=settings(
                max_examples=sequences,
                stateful_step_count=steps,
                deadline=None,
                report_multiple_bugs=is_shortened,
                database=None,
                phases=[Phase.generate, Phase.shrink] if is_shortened else [Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
    return tally


def try_mutations(
    server: RedisServer, mutations: Sequence[Mutation], *, sequences: int, steps: int, first_seed: int
) -> int:
    """Break the scripts on purpose, and print after how many sequences it was noticed; returns how many were not."""
    missed = 0
    for mutation in mutations:
        tally: Counter[str] = Counter()
        verdict = "MISSED"
        try:
            run_sequences(
                server,
                sequences=sequences,
                steps=steps,
                first_seed=first_seed,
                is_shortened=False,
                read=mutation.read,
                tally=tally,
            )
        except AssertionError as disagreement:
            verdict = "noticed"
            reason = str(disagreement).partition("\n")[0]
        except (redis.RedisError, QueueError) as error:
            # A script that cannot run shows nothing.
            verdict = "FAILS"
            reason = str(error)
        else:
            reason = "-"
        missed += verdict != "noticed"
        print(f"{verdict:8}{tally['sequences']:4} {mutation.rule:12}{mutation.title} ({reason[:90]})", flush=True)
    return missed


def main() -> None:
    """Start a store, run batches until all sequences were run or the time is over, print figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--minutes", type=float, default=180.0, help="no further batch is begun after so long")
    parser.add_argument("--long", action="store_true", help="print the first sequence that fails as it is")
    parser.add_argument("--mutations", action="store_true", help="break the scripts on purpose, and see each noticed")
    parser.add_argument(
        "--only", default="", help="of the mutations those whose 'rule: title' this pattern is found in"
    )
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    if options.mutations:
        with tempfile.TemporaryDirectory(prefix="cfm") as folder, store_in(Path(folder)) as server:
            sys.exit(
                try_mutations(
                    server,
                    [
                        mutation
                        for mutation in MUTATIONS
                        if re.search(options.only, f"{mutation.rule}: {mutation.title}")
                    ],
                    sequences=min(BATCH, options.sequences),
                    steps=options.steps,
                    first_seed=options.seed,
                )
                > 0
            )
    tally: Counter[str] = Counter()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cfm") as folder, store_in(Path(folder)) as server:
        batch = 0
        while tally["sequences"] < options.sequences and time.monotonic() - began < options.minutes * 60:
            size = min(BATCH, options.sequences - tally["sequences"])
            tally += run_sequences(
                server,
                sequences=size,
                steps=options.steps,
                first_seed=options.seed + batch,
                is_shortened=not options.long,
            )
            batch += 1
            print(f"{tally['sequences']} sequences, {time.monotonic() - began:.0f} s", flush=True)
    seconds = time.monotonic() - began
    print(f"\n{tally.pop('sequences')} sequences, {tally.pop('steps')} steps, {seconds:.0f} s, seed {options.seed}")
    for answer, count in sorted(tally.items()):
        print(f"{count:9} {answer}")


if __name__ == "__main__":
    main()
