"""A minute's worth of the chaos trials; ``python tests/chaos/run.py --full`` runs all of them."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from comfyume.tests.chaos.groups import GROUPS, Group
from comfyume.tests.chaos.stage import Stage

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: "-".join(group.guarantees))
async def test_a_guarantee_holds(group: Group, short_folder: Path) -> None:
    seed = secrets.randbelow(1_000_000)
    stage = Stage(short_folder / "-".join(group.guarantees), seed)
    stage.folder.mkdir()
    try:
        reports = await group.run(stage, group.short)
    finally:
        stage.close()
    for report in reports:
        if report.skipped:
            pytest.skip(report.skipped)
    violations = [f"{report.guarantee}: {violation}" for report in reports for violation in report.violations]
    assert not violations, f"seed {seed}"
    assert all(report.trials for report in reports), "nothing was tried"
