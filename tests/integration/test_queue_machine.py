"""The scripts do what a model of the workshop does, whatever happens in whatever order.

``tests/integration/queue_machine/trials.py`` runs the full number of sequences.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from comfyume.tests.integration.queue_machine.mutations import MUTATIONS, Mutation
from comfyume.tests.integration.queue_machine.trials import run_sequences, store_in

# A sequence that fails is shortened for some minutes.
pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

#: Another one finds other sequences; this one, so that a run means the same everywhere.
SEED = 1


#: What is to be answered in them, and why workers take or leave jobs: a machine that finds nothing to do agrees too.
#: These come hundreds of times; rarer ones, as an end that comes too late, are not sure to come in so few sequences.
ENDS = ("claim job", "claim short", "finish ok", "requeued")
WHYS = ("goes on", "loads", "leaves it", "passed before", "share is up")


def test_the_store_and_the_model_agree_after_every_step(short_folder: Path) -> None:
    with store_in(short_folder / "machine") as server:
        tally = run_sequences(server, sequences=50, steps=50, first_seed=SEED)
    for answer in (*ENDS, *(f"worker {why}" for why in WHYS)):
        assert tally[answer], f"no step was answered with {answer!r}: {tally}"


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.title)
def test_a_mutation_still_fits_the_scripts(mutation: Mutation) -> None:
    assert mutation.places() == 1


def test_a_broken_script_is_noticed(short_folder: Path) -> None:
    """That each of them is, ``trials.py --mutations`` shows; this is the one whose rule decides most often."""
    mutation = next(mutation for mutation in MUTATIONS if mutation.title == "affinity is off")
    with store_in(short_folder / "machine") as server, pytest.raises(AssertionError):
        run_sequences(server, sequences=50, steps=50, first_seed=SEED, is_shortened=False, read=mutation.read)
