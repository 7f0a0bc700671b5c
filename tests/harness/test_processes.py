"""The harness itself, tried with a plain ComfyUI and a plain store."""

from __future__ import annotations

from pathlib import Path

import pytest

from comfyume.tests.harness.client import Client, RequestRefused
from comfyume.tests.harness.discovery import ComfyInstall
from comfyume.tests.harness.processes import ComfyProcess, ProcessFailed, RedisServer, is_listed

PROMPT = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 255}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "harness"}},
}


@pytest.mark.acceptance
def test_the_client_runs_a_prompt_on_a_plain_comfyui(comfyui: ComfyInstall, tmp_path: Path) -> None:
    with ComfyProcess(comfyui, tmp_path / "base", mode="vanilla") as process, Client(process.address) as client:
        assert client.events[0].kind == "status"
        entry = client.run(PROMPT)
        image = entry["outputs"]["2"]["images"][0]
        assert client.view(**image).startswith(b"\x89PNG")
        assert (process.output / image["filename"]).is_file()
        assert client.upload(b"abc", "a.png")["name"] == "a.png"
        assert (process.base / "input" / "a.png").read_bytes() == b"abc"
        assert client.queue() == {"queue_running": [], "queue_pending": []}
        with pytest.raises(RequestRefused) as refused:
            client.submit({"1": {"class_type": "NoSuchNode", "inputs": {}}})
        assert refused.value.status == 400
        assert "error" in refused.value.body


@pytest.mark.acceptance
def test_a_comfyui_that_ends_while_starting_is_reported_at_once(comfyui: ComfyInstall, tmp_path: Path) -> None:
    process = ComfyProcess(comfyui, tmp_path / "base", mode="vanilla", args=["--no-such-option"])
    with pytest.raises(ProcessFailed, match=r"(?s)ended while starting.*no-such-option"), process:
        pass


def test_settings_of_the_tests_own_environment_do_not_reach_comfyui(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFYUME_MODE", "off")
    monkeypatch.setenv("COMFYUME_LEASE", "2")
    install = ComfyInstall("new", tmp_path, Path("python"))
    process = ComfyProcess(install, tmp_path / "base", mode="worker", env={"COMFYUME_WORKER_ID": "w"})
    ours = {name: value for name, value in process.environment.items() if name.startswith("COMFYUME_")}
    assert ours == {"COMFYUME_MODE": "worker", "COMFYUME_WORKER_ID": "w"}


@pytest.mark.integration
def test_a_store_keeps_its_data_and_address_over_a_kill(own_store: RedisServer) -> None:
    url = own_store.url
    with own_store.client() as client:
        client.set("job", "queued")
    own_store.restart(kill=True)
    assert own_store.url == url
    with own_store.client() as client:
        assert client.get("job") == "queued"


@pytest.mark.integration
def test_a_worker_is_listed_by_key_or_by_member(own_store: RedisServer) -> None:
    assert not is_listed(own_store.url, "worker0")
    with own_store.client() as client:
        client.sadd("workers", "worker0")
        client.set("presence:worker1", "")
    assert is_listed(own_store.url, "worker0")
    assert is_listed(own_store.url, "worker1")
    assert not is_listed(own_store.url, "worker2")
