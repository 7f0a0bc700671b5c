"""A worker that starts without models offers those of the templates as they come, in a real workshop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from comfyume.tests.harness.client import Client, wait_until
from comfyume.tests.harness.discovery import ComfyInstall
from comfyume.tests.harness.model_source import safetensors
from comfyume.tests.harness.pair import Pair

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(240),
    pytest.mark.parametrize("comfyui", ["new"], indirect=True, scope="session"),
]

TEMPLATES = sorted((Path(__file__).resolve().parents[2] / "workflows").glob("*.json"))


def test_a_worker_fetches_the_models_of_the_templates_and_offers_them(comfyui: ComfyInstall, tmp_path: Path) -> None:
    wanted = {
        (model["directory"], model["name"])
        for path in TEMPLATES
        for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]
        for model in node["properties"].get("models", ())
    }
    drive = tmp_path / "drive"
    for number, (folder, name) in enumerate(sorted(wanted)):
        (drive / folder).mkdir(parents=True, exist_ok=True)
        (drive / folder / name).write_bytes(safetensors(number, 1000 * number))
    env = {"COMFYUME_MODELS": str(drive), "COMFYUME_PULL_MODELS": "templates"}
    with Pair(comfyui, tmp_path / "pair", worker_env=env) as pair, Client(pair.frontend.address) as client:
        wait_until(lambda: not any(each["missing"] for each in client.get("/comfyume/templates")), 60)
        wait_until(lambda: [each["pulling"] for each in client.get("/comfyume/workers")] == [""], 20)
        models = pair.worker.base / "models"
        for folder, name in wanted:
            assert (models / folder / name).read_bytes() == (drive / folder / name).read_bytes()
        assert pair.worker.log.read_text().count("has come from") == len(wanted) == 10
