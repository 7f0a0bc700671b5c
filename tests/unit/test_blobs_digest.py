"""Digests are right, shared between callers, and forgotten when the file changes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import time

import pytest

from comfyume.blobs import digest as digest_module
from comfyume.blobs.digest import Digest, DigestCache, digest_file
from comfyume.blobs.errors import InvalidDigest


def _age(path, seconds=10):
    then = time.time_ns() - seconds * 1_000_000_000
    os.utime(path, ns=(then, then))


@pytest.fixture
def computations(monkeypatch):
    class Seen(list):
        started = threading.Event()

    seen = Seen()

    def counting(path):
        seen.append(path)
        seen.started.set()
        time.sleep(0.05)
        return digest_file(path)

    monkeypatch.setattr(digest_module, "digest_file", counting)
    return seen


@pytest.mark.parametrize("size", [0, 1, 1024 * 1024, 3 * 1024 * 1024 + 17])
def test_a_file_has_the_digest_of_its_bytes(tmp_path, size):
    data = os.urandom(size)
    path = tmp_path / "file"
    path.write_bytes(data)
    assert digest_file(path) == Digest(hashlib.sha256(data).hexdigest(), size) == Digest.of_bytes(data)


@pytest.mark.parametrize("sha256", ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 64 + "\n", "../" + "0" * 61])
def test_what_is_no_sha256_is_refused(sha256):
    with pytest.raises(InvalidDigest):
        Digest(sha256, 0)


def test_a_negative_size_is_refused():
    with pytest.raises(InvalidDigest):
        Digest("0" * 64, -1)


@pytest.mark.asyncio
async def test_a_file_is_hashed_once_until_it_changes(tmp_path, computations):
    path = tmp_path / "file"
    path.write_bytes(b"one")
    _age(path)
    cache = DigestCache()
    assert await cache.of(path) == await cache.of(str(path)) == Digest.of_bytes(b"one")
    assert len(computations) == 1
    path.write_bytes(b"two")
    assert await cache.of(path) == Digest.of_bytes(b"two")


@pytest.mark.asyncio
async def test_a_file_younger_than_the_clocks_tick_is_not_remembered(tmp_path, computations):
    path = tmp_path / "file"
    path.write_bytes(b"one")
    cache = DigestCache()
    await cache.of(path)
    assert len(cache) == 0


@pytest.mark.asyncio
async def test_callers_at_once_share_one_computation_even_if_the_first_is_cancelled(tmp_path, computations):
    path = tmp_path / "file"
    path.write_bytes(b"one")
    _age(path)
    cache = DigestCache()
    callers = [asyncio.create_task(cache.of(path)) for _ in range(20)]
    assert await asyncio.to_thread(computations.started.wait, 5)
    callers[0].cancel()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [Digest.of_bytes(b"one")] * 19
    assert len(computations) == 1


@pytest.mark.asyncio
async def test_the_least_recently_asked_is_forgotten_first(tmp_path, computations):
    paths = [tmp_path / str(number) for number in range(3)]
    for path in paths:
        path.write_bytes(path.name.encode())
        _age(path)
    cache = DigestCache(capacity=2)
    for path in (paths[0], paths[1], paths[0], paths[2]):
        await cache.of(path)
    assert len(cache) == 2
    await cache.of(paths[0])
    assert len(computations) == 3
    await cache.of(paths[1])
    assert len(computations) == 4


@pytest.mark.asyncio
async def test_a_missing_file_is_an_error_and_leaves_nothing_behind(tmp_path):
    cache = DigestCache()
    with pytest.raises(FileNotFoundError):
        await cache.of(tmp_path / "none")
    assert not cache._computing
