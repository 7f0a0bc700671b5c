"""The memory gate on a real ComfyUI: what does not fit waits, and what fits goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from comfyume.tests.harness import graphs
from comfyume.tests.harness.client import Client, wait_until
from comfyume.tests.harness.discovery import ComfyInstall
from comfyume.tests.harness.pair import Pair
from comfyume.tests.harness.processes import ComfyProcess

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(240),
    pytest.mark.parametrize("comfyui", ["new"], indirect=True, scope="session"),
]


def stating(gib: float) -> dict[str, Any]:
    graph = dict(graphs.image("large", color=graphs.number() % 2**24))
    saves = next(node for node in graph.values() if node["class_type"] == "SaveImage")
    graph["need"] = {"class_type": "ComfyumeMemoryNeed", "inputs": {"images": saves["inputs"]["images"], "gib": gib}}
    saves["inputs"]["images"] = ["need", 0]
    return graph


def test_a_job_that_does_not_fit_waits_for_memory_while_others_go_on(comfyui: ComfyInstall, tmp_path: Path) -> None:
    # A margin that no machine has leaves no room for any need.
    env = {"COMFYUME_VRAM_MARGIN": "1000000"}
    with (
        Pair(comfyui, tmp_path / "pair", worker_env=env, worker_node_packs=[graphs.PACK]) as pair,
        Client(pair.frontend.address) as client,
    ):
        large = client.submit(stating(1))
        wait_until(lambda: "needs 1.0 GiB; this worker has 0.0 GiB" in pair.worker.log.read_text(), 20)
        assert "ComfyUI (cpu) tells of" in pair.worker.log.read_text()
        assert client.run(graphs.image("light", color=graphs.number() % 2**24))["status"]["completed"]
        assert [row[1] for row in client.queue()["queue_pending"]] == [large]
        roomy = ComfyProcess(
            comfyui,
            tmp_path / "roomy",
            mode="worker",
            store_url=pair.store.url,
            workshop=pair.workshop,
            env={
                "COMFYUME_WORKER_ID": "roomy",
                "COMFYUME_FRONTEND_URL": pair.frontend.url,
                "COMFYUME_VRAM_MARGIN": "0",
            },
            node_packs=[graphs.PACK],
        )
        with roomy:
            wait_until(lambda: large in client.history(), 60)
        assert client.history(large)[large]["status"]["completed"]


def test_a_dry_run_says_what_would_have_waited(comfyui: ComfyInstall, tmp_path: Path) -> None:
    env = {"COMFYUME_VRAM_MARGIN": "1000000", "COMFYUME_VRAM_GATE": "dry_run"}
    with (
        Pair(comfyui, tmp_path / "pair", worker_env=env, worker_node_packs=[graphs.PACK]) as pair,
        Client(pair.frontend.address) as client,
    ):
        assert client.run(stating(1))["status"]["completed"]
        assert "dry run of the memory gate" in pair.worker.log.read_text()
        assert "needs 1.0 GiB, this worker has 0.0 GiB; it would have waited" in pair.worker.log.read_text()
