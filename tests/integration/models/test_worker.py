"""A worker fills its models while it works: in the order of need, told in figures, and ended in good order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from comfyume.model_vault.here import LocalModels
from comfyume.settings import Settings
from comfyume.tests.harness.model_source import SourceServer, safetensors
from comfyume.tests.harness.models_at_hand import until
from comfyume.worker_mode.model_pulls import ModelPulls

SETTINGS = Settings(models_hosts=("127.0.0.1", "localhost"), pull_models="templates")


def template(folder: Path, source: SourceServer, name: str, **files: bytes) -> None:
    folder.mkdir(exist_ok=True)
    models = []
    for file, content in files.items():
        source.files[f"{file}.safetensors"] = content
        models.append({"name": f"{file}.safetensors", "url": source.url(f"{file}.safetensors"), "directory": "vae"})
    graph = {"nodes": [{"id": 1, "type": "x", "properties": {"models": models}}]}
    (folder / f"{name}.json").write_text(json.dumps(graph))


def test_models_come_in_the_background_and_the_card_tells_how_far_it_is(tmp_path: Path, source: SourceServer) -> None:
    template(tmp_path / "templates", source, "A-large", shared=safetensors(1), large=safetensors(2, 2_000_000))
    template(tmp_path / "templates", source, "B-small", shared=safetensors(1), small=safetensors(3, 1000))
    source.rate = 2_000_000
    come: list[set[str]] = []
    folder = tmp_path / "models" / "vae"
    pulls = ModelPulls(
        SETTINGS, tmp_path / "models", tmp_path / "templates", lambda: come.append({p.stem for p in folder.iterdir()})
    )
    assert pulls.told == ""
    pulls.start()
    until(lambda: len(come) == 2)
    # The small template is complete first, while the large one still comes.
    assert come[-1] == {"small", "shared"}
    assert pulls.told == "⇣ 2/3 · 0.0/0.0 GB"
    until(lambda: len(come) == 3)
    assert pulls.told == ""
    assert {p.stem: p.read_bytes() for p in folder.iterdir()} == {
        name.partition(".")[0]: content for name, content in source.files.items()
    }


def test_what_cannot_be_had_is_told_and_asked_for_again(
    tmp_path: Path, source: SourceServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("comfyume.worker_mode.model_pulls.AGAIN", 0.2)
    template(tmp_path / "templates", source, "A", a=safetensors(1), b=safetensors(2))
    source.gated.add("b.safetensors")
    pulls = ModelPulls(SETTINGS, tmp_path / "models", tmp_path / "templates", lambda: None)
    pulls.start()
    until(lambda: pulls.told.endswith("✕ 1"))
    assert "accept its conditions" in caplog.text
    source.gated.clear()
    until((tmp_path / "models/vae/b.safetensors").exists)
    until(lambda: pulls.told == "")


def test_a_disk_without_room_and_a_neighbour_that_pulls_are_waited_for(
    tmp_path: Path, source: SourceServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("comfyume.worker_mode.model_pulls.AGAIN", 0.2)
    monkeypatch.setattr("comfyume.worker_mode.model_pulls.NEIGHBOUR", 0.2)
    monkeypatch.setattr("comfyume.model_vault.pull.SPARE", 2**60)
    template(tmp_path / "templates", source, "A", a=safetensors(1))
    pulls = ModelPulls(SETTINGS, tmp_path / "models", tmp_path / "templates", lambda: None)
    pulls.start()
    until(lambda: pulls.told.endswith("✕ 1"))
    with LocalModels(tmp_path / "models").locked():
        until(lambda: pulls.told == "")
        monkeypatch.setattr("comfyume.model_vault.pull.SPARE", 0)
        assert not source.sent
    until((tmp_path / "models/vae/a.safetensors").exists)


def test_a_worker_that_ends_does_not_wait_for_its_models(tmp_path: Path, source: SourceServer) -> None:
    template(tmp_path / "templates", source, "A", a=safetensors(1, 3_000_000))
    source.rate = 500_000
    pulls = ModelPulls(SETTINGS, tmp_path / "models", tmp_path / "templates", lambda: None)
    pulls.start()
    until(lambda: source.sent["a.safetensors"] > 500_000)
    pulls.stop()
    until(lambda: source._open == 0, 5)
    arrived = sum(p.stat().st_size for p in (tmp_path / "models").rglob("*.partial"))
    assert arrived > 0
    source.rate = None
    again = ModelPulls(SETTINGS, tmp_path / "models", tmp_path / "templates", lambda: None)
    again.start()
    until((tmp_path / "models/vae/a.safetensors").exists)
    assert source.sent["a.safetensors"] < 3_000_000 + 600_000
