"""What a frontend costs beside ComfyUI itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from comfyume.tests.harness import discovery
from comfyume.tests.harness.client import Client
from comfyume.tests.harness.memory import memory_of
from comfyume.tests.harness.pair import Pair
from comfyume.tests.harness.processes import ComfyProcess

BROWSERS = 20
#: A frontend may use this much more memory than ComfyUI with as many browsers.
MOST = 1.15
PICTURE = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "ComfyUI"}},
}


def with_browsers(process: ComfyProcess) -> int:
    """Memory of a process in kB with its browsers connected, each of which has asked for the nodes and run a prompt."""
    clients = [Client(process.address) for _ in range(BROWSERS)]
    try:
        for number, client in enumerate(clients):
            client.get("/object_info")
            client.run({**PICTURE, "1": {**PICTURE["1"], "inputs": {**PICTURE["1"]["inputs"], "color": number}}})
        return memory_of(process.pid).resident
    finally:
        for client in clients:
            client.close()


@pytest.mark.acceptance
def test_a_frontend_with_twenty_browsers_is_hardly_larger_than_comfyui(
    comfyui: discovery.ComfyInstall, tmp_path: Path
) -> None:
    vanilla = ComfyProcess(comfyui, tmp_path / "vanilla", mode="vanilla")
    try:
        vanilla.start().wait_ready()
        alone = with_browsers(vanilla)
    finally:
        vanilla.stop()
    with Pair(comfyui, tmp_path / "pair") as pair:
        shared = with_browsers(pair.frontend)
    print(f"{comfyui.version}: ComfyUI {alone / 1024:.0f} MiB, frontend {shared / 1024:.0f} MiB, {shared / alone:.3f}")
    assert shared <= MOST * alone
