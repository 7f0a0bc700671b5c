"""Fixtures of the acceptance tests: a room whose worker has more than its frontend, and a plain ComfyUI beside it."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from comfyume.tests.harness import discovery, graphs
from comfyume.tests.harness.client import Client
from comfyume.tests.harness.pair import Pair
from comfyume.tests.harness.processes import ComfyProcess
from comfyume.tests.harness.proxy import Proxy


def safetensors(metadata: dict[str, str]) -> bytes:
    """A safetensors file with metadata and no tensor."""
    header = json.dumps({"__metadata__": metadata}).encode()
    return struct.pack("<Q", len(header)) + header


MODEL_FILES = {
    "checkpoints/first.safetensors": safetensors({"modelspec.title": "the first"}),
    "checkpoints/sub/second.safetensors": safetensors({"modelspec.title": "the second"}),
    "embeddings/charm.pt": b"",
}


#: ComfyUI runs output nodes in the order of a set of strings; with this, two processes do so alike.
SAME_ORDER = {"PYTHONHASHSEED": "0"}


@dataclass(frozen=True)
class Room:
    """A frontend with nothing, a worker with a node pack and models, and a proxy through which its files travel."""

    pair: Pair
    proxy: Proxy

    @property
    def frontend(self) -> ComfyProcess:
        return self.pair.frontend

    @property
    def worker(self) -> ComfyProcess:
        return self.pair.worker

    @property
    def is_new(self) -> bool:
        return self.pair.frontend.install.label == "new"

    def client(self, **options: object) -> Client:
        return Client(self.frontend.address, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def room(comfyui: discovery.ComfyInstall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """The room that all tests of a version share; leave it running."""
    with Proxy() as proxy:
        pair = Pair(
            comfyui,
            tmp_path_factory.mktemp(f"room-{comfyui.label}"),
            env=SAME_ORDER,
            worker_env={"COMFYUME_FRONTEND_URL": proxy.url},
            worker_node_packs=[graphs.PACK],
            worker_model_files=MODEL_FILES,
        )
        proxy.target = pair.frontend.port
        with pair:
            yield Room(pair, proxy)


@pytest.fixture(scope="session")
def vanilla(comfyui: discovery.ComfyInstall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyProcess]:
    """ComfyUI without the extension, with what the room's worker has, to compare with."""
    base = tmp_path_factory.mktemp(f"vanilla-{comfyui.label}")
    process = ComfyProcess(
        comfyui, base, mode="vanilla", env=SAME_ORDER, node_packs=[graphs.PACK], model_files=MODEL_FILES
    )
    with process:
        yield process


@pytest.fixture
def client(room: Room) -> Iterator[Client]:
    """A browser of the room's frontend."""
    with room.client() as browser:
        yield browser
