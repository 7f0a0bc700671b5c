"""Requests made from the descriptions of routes end in no error that a plain ComfyUI does not have too.

A few seconds of what ``python tests/api/run.py --full`` does for half an hour.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from comfyume.tests.api import findings, stress
from comfyume.tests.api.stress import Plan, Run, Stage
from comfyume.tests.harness.discovery import ComfyInstall

pytest.importorskip("schemathesis")
pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(400),
    pytest.mark.parametrize("comfyui", ["new"], indirect=True, scope="session"),
]

FEW = Plan(seed=1, examples=2)
#: What ComfyUI's description has of its maker's cloud; on one's own machine there is nothing at these addresses.
CLOUD = "^/api/(feedback|files/mask-layers|history_v2|job/|tasks|user$|vhs/|workflows|userdata/.file./publish)"


@pytest.fixture(scope="module")
def on(comfyui: ComfyInstall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stress.stage(comfyui, tmp_path_factory.mktemp("api")) as running:
        yield running


def assert_all_asked(run: Run, *, but: str = "") -> None:
    """Each operation of a description was asked for."""
    asked = {run.operations.label_of(it.method, it.target) for it in run.exchanges}
    paths = {label: label.partition(" ")[2] for label in run.operations.labels}
    assert not [label for label, path in paths.items() if label not in asked and not (but and re.search(but, path))]


def test_comfyuis_routes_have_no_error_and_no_answer_of_their_own_for_no_reason(
    on: Stage, comfyui: ComfyInstall
) -> None:
    for run in stress.run_comfyuis(on, comfyui, FEW, on.cookie, "--exclude-path-regex", CLOUD):
        assert_all_asked(run, but=CLOUD)
        assert findings.errors(run.exchanges, run.operations, run.send_again) == []
        differences = findings.differences(run.exchanges, run.operations)
        assert [str(difference) for difference in differences if difference.reason is None] == []
    on.still_works()


def test_our_own_routes_answer_as_they_are_described(on: Stage) -> None:
    for run in stress.run_own(on, FEW):
        if run.name == "own":
            assert_all_asked(run)
        assert run.failures == ""
        assert findings.errors(run.exchanges, run.operations, run.send_again) == []
    on.still_works()


def test_the_logs_hold_no_exception_of_ours(on: Stage) -> None:
    assert stress.exceptions(on) == []
