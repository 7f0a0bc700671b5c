"""The scripts do what a model of the workshop does, whatever happens in whatever order.

``tests/integration/queue_machine/trials.py`` runs the full number of sequences.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from comfyume.tests.integration.queue_machine.trials import run_sequences, store_in

# A sequence that fails is shortened for some minutes.
pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

#: Another one finds other sequences; this one, so that a run means the same everywhere.
SEED = 1


def test_the_store_and_the_model_agree_after_every_step(short_folder: Path) -> None:
    with store_in(short_folder / "machine") as server:
        tally = run_sequences(server, sequences=100, steps=50, first_seed=SEED)
    # It went to the ends that matter, and did not merely find nothing to do.
    for answer in ("claim job", "request spent", "finish known", "finish lost", "append lost", "requeued"):
        assert tally[answer], f"no step was answered with {answer!r}: {tally}"
