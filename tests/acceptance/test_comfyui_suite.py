"""ComfyUI's own ``tests/execution``, unchanged, through a frontend and a worker that share no folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from comfyume.tests.comfyui_suite.run import ALL, run_suite
from comfyume.tests.harness.discovery import ComfyInstall
from comfyume.tests.harness.processes import tail

#: What passes directly, as measured: v0.33.0 has 274 and 7 skipped, v0.11.0's ``test_execution.py`` has 204.
LEAST_PASSED = {"new": 274, "old": 204}


# ComfyUI's tests wait for some seconds until a server has started, and for no more.
@pytest.mark.acceptance
@pytest.mark.alone
@pytest.mark.seams
@pytest.mark.timeout(1800)
def test_comfyuis_own_tests_pass_through_the_pair(comfyui: ComfyInstall, tmp_path: Path) -> None:
    wanted = "import pytest, pytest_asyncio, websocket"
    if subprocess.run([comfyui.python, "-c", wanted], capture_output=True, check=False).returncode != 0:
        pytest.skip(f"ComfyUI's own tests need pytest, pytest-asyncio and websocket-client for {comfyui.python}")
    select = ALL if comfyui.label == "new" else "test_execution.py"
    result = run_suite(comfyui, select=select, folder=tmp_path)
    print(f"ComfyUI {comfyui.version}, {select}: {result}")
    assert not result.failed, f"{result}: {sorted(result.failed)}\n{tail(result.log)}"
    assert len(result.passed) >= LEAST_PASSED[comfyui.label], str(result)
