"""The two sides of a transfer over real sockets, and files to send."""

from __future__ import annotations

import os
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from comfyume.blobs import http_patience
from comfyume.blobs.digest import Digest, digest_file
from comfyume.blobs.http_server import UploadReceiver
from comfyume.blobs.store import BlobFolder
from comfyume.tests.harness.blob_transfers import BlobFrontend, serving


@pytest.fixture(autouse=True)
def quick_backoff(monkeypatch):
    monkeypatch.setattr(http_patience, "_BACKOFF_SECONDS", 0.01)


@pytest.fixture
async def frontend(tmp_path):
    folder = BlobFolder(tmp_path / "frontend")
    served = BlobFrontend(folder, UploadReceiver(folder, stall_seconds=0.5))
    app = web.Application()
    app.router.add_get("/{name}", served.get)
    app.router.add_put("/{name}", served.put)
    async with serving(app) as url:
        served.url = url
        yield served


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as opened:
        yield opened


@pytest.fixture
def worker(tmp_path):
    return BlobFolder(tmp_path / "worker")


@pytest.fixture
def make(tmp_path):
    def create(size: int, name: str = "source") -> tuple[Path, Digest]:
        path = tmp_path / name
        path.write_bytes(os.urandom(size))
        return path, digest_file(path)

    return create
