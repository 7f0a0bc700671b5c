"""Objects by key, in a real bucket and in a folder: what both promise."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from comfyume.blobs.digest import Digest, digest_file
from comfyume.blobs.errors import BlobMissing, DigestMismatch, UnsafeName
from comfyume.blobs.object_folder import FolderObjects
from comfyume.blobs.object_store import ObjectStore, blob_key
from comfyume.blobs.store import BlobFolder
from comfyume.tests.harness.s3 import S3Server

MIB = 1024 * 1024
SIZES = [0, 1, 5 * MIB, 8 * MIB, 8 * MIB + 1, 20 * MIB + 3]


@pytest.fixture(params=["bucket", "folder"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "folder":
        return FolderObjects(tmp_path / "objects")
    server: S3Server = request.getfixturevalue("s3")
    return server.open(prefix=request.node.name)


def make_file(path: Path, size: int) -> Digest:
    path.write_bytes(os.urandom(size))
    return digest_file(path)


@pytest.mark.parametrize("size", SIZES)
def test_a_file_goes_in_and_comes_out_and_is_not_sent_twice(objects: ObjectStore, tmp_path: Path, size: int) -> None:
    digest = make_file(tmp_path / "film", size)
    key, moved = blob_key(digest.sha256), []
    assert objects.size_of(key) is None
    assert objects.put(key, tmp_path / "film", digest, moved.append)
    assert sum(moved) == size
    assert objects.size_of(key) == size
    assert not objects.put(key, tmp_path / "film", digest)
    back: list[int] = []
    path = objects.fetch(key, BlobFolder(tmp_path / "blobs"), digest, back.append)
    assert path.read_bytes() == (tmp_path / "film").read_bytes()
    assert sum(back) == size
    assert objects.fetch(key, BlobFolder(tmp_path / "blobs"), digest, back.append) == path
    assert sum(back) == size


def test_small_objects_are_written_over_listed_and_deleted(objects: ObjectStore) -> None:
    for key in ("a/1", "a/2", "ab/3", "b"):
        objects.write(key, key.encode())
    objects.write("a/1", b"new")
    assert objects.read("a/1") == b"new"
    assert [(each.key, each.size) for each in objects.listing("a")] == [("a/1", 3), ("a/2", 3), ("ab/3", 4)]
    assert [each.key for each in objects.listing("a/")] == ["a/1", "a/2"]
    objects.delete("a/1")
    objects.delete("a/1")
    with pytest.raises(BlobMissing):
        objects.read("a/1")
    assert [each.key for each in objects.listing("")] == ["a/2", "ab/3", "b"]


def test_what_is_not_there_is_missing(objects: ObjectStore, tmp_path: Path) -> None:
    digest = Digest.of_bytes(b"nothing")
    with pytest.raises(BlobMissing, match=digest.sha256):
        objects.fetch(blob_key(digest.sha256), BlobFolder(tmp_path / "blobs"), digest)


@pytest.mark.parametrize("size", [1000, 20 * MIB])
def test_a_file_that_is_not_what_was_said_is_not_stored(objects: ObjectStore, tmp_path: Path, size: int) -> None:
    digest = make_file(tmp_path / "film", size)
    with open(tmp_path / "film", "r+b") as file:
        file.seek(size // 2)
        file.write(b"changed")
    with pytest.raises(DigestMismatch):
        objects.put(blob_key(digest.sha256), tmp_path / "film", digest)
    assert list(objects.listing("")) == []


@pytest.mark.parametrize("size", [1000, 20 * MIB])
def test_an_object_with_another_content_is_refused(objects: ObjectStore, tmp_path: Path, size: int) -> None:
    digest = make_file(tmp_path / "film", size)
    blobs = BlobFolder(tmp_path / "blobs")
    for content in (b"x" * size, b"x" * (size - 1)):
        objects.write("film", content)
        with pytest.raises(DigestMismatch):
            objects.fetch("film", blobs, digest)
        assert blobs.path(digest.sha256) is None


@pytest.mark.parametrize("key", ["", "/a", "../a", "a//b", "a/../b", "a\\b", "a\0"])
def test_keys_lead_nowhere_else(objects: ObjectStore, key: str) -> None:
    with pytest.raises(UnsafeName):
        objects.write(key, b"x")
