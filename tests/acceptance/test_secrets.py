"""An API key that comes with a prompt reaches the node that asks for it, and lies nowhere else in clear."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path
from typing import Any

import pytest

from comfyume.tests.acceptance.conftest import Room
from comfyume.tests.acceptance.test_native_routes import started
from comfyume.tests.harness import graphs
from comfyume.tests.harness.client import Client, wait_until
from comfyume.tests.harness.discovery import ComfyInstall
from comfyume.tests.harness.pair import Pair

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]


def using_key(*, fails: bool) -> dict[str, Any]:
    return {
        "1": graphs.node("CfmUseKey", fails=fails, number=graphs.number()),
        "2": graphs.node("SaveImage", images=["1", 0], filename_prefix="paid"),
    }


def files_with(text: str, *folders: Path) -> list[str]:
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [str(path) for path in files if text.encode() in path.read_bytes()]


def test_a_key_reaches_its_node_and_is_found_nowhere(room: Room, tmp_path: Path) -> None:
    key, pair = f"comfyui-{uuid.uuid4().hex}", room.pair
    with room.client() as client, pair.store.client() as store:
        gate = tmp_path / "gate"
        first = client.submit(graphs.gated(gate))
        started(client, first)
        paid = client.submit(using_key(fails=False), extra_data={"api_key_comfy_org": key})
        dumped = [bytes(store.dump(name)) for name in store.scan_iter("*")]
        assert dumped
        assert not [each for each in dumped if key.encode() in each]
        store.save()
        shown = [repr(client.queue())]
        gate.touch()
        client.wait(paid)
        failed = client.submit(using_key(fails=True), extra_data={"api_key_comfy_org": key})
        client.wait(failed)
        wait_until(lambda: failed in client.history())
        history = client.history()
        assert history[paid]["outputs"]["1"]["text"] == [hashlib.sha256(key.encode()).hexdigest()]
        assert "the service refused" in repr(history[failed]["status"])
        shown += [repr(history), repr(client.get("/api/jobs")), *(repr(event) for event in client.events)]
        assert not [each for each in shown if key in each]
        picture = client.view(**history[paid]["outputs"]["2"]["images"][0])
        assert picture.startswith(b"\x89PNG")
        assert key.encode() not in picture
        assert [path for path in pair.store.folder.rglob("*") if "aof" in path.name], "the store writes its log"
        assert files_with(key, pair.folder, pair.store.folder) == []


def test_a_worker_with_another_secret_says_what_to_do(comfyui: ComfyInstall, tmp_path: Path) -> None:
    secrets: dict[str, Any] = {
        "frontend_env": {"COMFYUME_SECRET": "correct horse"},
        "worker_env": {"COMFYUME_SECRET": "battery staple"},
    }
    with (
        Pair(comfyui, tmp_path / "pair", worker_node_packs=[graphs.PACK], **secrets) as pair,
        Client(pair.frontend.address) as client,
    ):
        paid = client.submit(using_key(fails=False), extra_data={"api_key_comfy_org": "a key of mine"})
        client.wait(paid)
        wait_until(lambda: paid in client.history())
        assert "Set COMFYUME_SECRET to the same words on both." in repr(client.history(paid))
        assert client.run(graphs.image("free", color=graphs.number() % 2**24))["status"]["completed"]
