"""A machine without models, servers that have some, and vaults."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from comfyume.blobs.object_folder import FolderObjects
from comfyume.model_vault import fetching
from comfyume.model_vault import sources as sources_module
from comfyume.model_vault.here import LocalModels
from comfyume.model_vault.places import Vault
from comfyume.tests.harness.model_source import SourceServer
from comfyume.tests.harness.s3 import S3Server


@pytest.fixture(autouse=True)
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr(sources_module, "_PAUSES", (0.01,))


@pytest.fixture
def source() -> Iterator[SourceServer]:
    with SourceServer() as server:
        yield server


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(params=["bucket", "folder"])
def vault(request: pytest.FixtureRequest, tmp_path: Path) -> Vault:
    if request.param == "folder":
        (tmp_path / "vault").mkdir()
        return Vault(FolderObjects(tmp_path / "vault"))
    server: S3Server = request.getfixturevalue("s3")
    return Vault(server.open(prefix=hashlib.sha256(request.node.name.encode()).hexdigest()))


@pytest.fixture
def here(tmp_path: Path) -> LocalModels:
    return LocalModels(tmp_path / "models")
