"""A folder of blobs holds whole files only."""

from __future__ import annotations

import errno
import os
import time

import pytest

from comfyume.blobs import filing
from comfyume.blobs.arriving import ArrivingBlob
from comfyume.blobs.digest import Digest
from comfyume.blobs.errors import BlobMissing, DigestMismatch, InvalidDigest
from comfyume.blobs.store import BlobFolder

DATA = b"some content"
DIGEST = Digest.of_bytes(DATA)


@pytest.fixture
def folder(tmp_path):
    return BlobFolder(tmp_path / "blobs")


def test_a_blob_is_found_under_its_hash_once_committed(folder):
    partial = folder.partial(DIGEST.sha256)
    partial.parent.mkdir(parents=True)
    partial.write_bytes(DATA)
    assert folder.path(DIGEST.sha256) is None
    path = folder.commit(DIGEST.sha256)
    assert path == folder.path(DIGEST.sha256) == folder.root / DIGEST.sha256[:2] / DIGEST.sha256
    assert path.read_bytes() == DATA
    assert not partial.exists()


def test_wrong_bytes_are_not_committed_and_not_kept(folder):
    partial = folder.partial(DIGEST.sha256)
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"other")
    with pytest.raises(DigestMismatch):
        folder.commit(DIGEST.sha256)
    assert not partial.exists()
    assert folder.path(DIGEST.sha256) is None
    with pytest.raises(DigestMismatch):
        folder.add(b"other", DIGEST)


@pytest.mark.parametrize("sha256", ["", "../../etc/passwd", "A" * 64, "0" * 63])
def test_what_is_no_hash_names_no_file(folder, sha256):
    for method in (folder.path, folder.partial, folder.commit, folder.discard):
        with pytest.raises(InvalidDigest):
            method(sha256)


def test_a_blob_damaged_through_a_link_is_dropped(folder, tmp_path):
    folder.add(DATA, DIGEST)
    linked = tmp_path / "input" / "image.png"
    folder.link_to(DIGEST.sha256, linked)
    time.sleep(0.02)
    linked.write_bytes(DATA[::-1])
    assert folder.path(DIGEST.sha256) is None
    assert linked.exists()
    with pytest.raises(BlobMissing):
        folder.link_to(DIGEST.sha256, tmp_path / "again.png")


def test_another_object_checks_what_it_finds(folder):
    folder.add(DATA, DIGEST).write_bytes(b"damaged while nobody looked")
    assert BlobFolder(folder.root).path(DIGEST.sha256) is None


@pytest.mark.parametrize("links", [True, False])
def test_linking_gives_the_content_and_never_overwrites(folder, tmp_path, monkeypatch, links):
    if not links:

        def refuse(*_args, **_kwargs):
            raise OSError(errno.EXDEV, "another file system")

        monkeypatch.setattr(filing.os, "link", refuse)
    path = folder.add(DATA, DIGEST)
    destination = tmp_path / "input" / "image.png"
    folder.link_to(DIGEST.sha256, destination)
    assert destination.read_bytes() == DATA
    assert os.path.samefile(path, destination) == links
    other = tmp_path / "input" / "other.png"
    other.write_bytes(b"other")
    with pytest.raises(FileExistsError):
        folder.link_to(DIGEST.sha256, other)
    assert other.read_bytes() == b"other"
    if links:
        folder.link_to(DIGEST.sha256, destination)
    assert sorted(path.name for path in destination.parent.iterdir()) == ["image.png", "other.png"]


def test_pruning_removes_the_longest_unused_first_and_keeps_the_mtime_of_use_apart(folder):
    digests = []
    for number in range(4):
        data = bytes([number]) * 100
        digests.append(Digest.of_bytes(data))
        path = folder.add(data, digests[-1])
        then = time.time_ns() - (100 - number) * 1_000_000_000
        os.utime(path, ns=(then, then))
    mtime = folder.path(digests[0].sha256).stat().st_mtime
    assert mtime < time.time() - 90
    assert folder.prune(200) == 200
    assert [folder.path(digest.sha256) is not None for digest in digests] == [True, False, False, True]
    assert folder.prune(0, unused_seconds=60) == 0
    assert folder.prune(0) == 200


def test_pruning_spares_what_is_arriving_and_takes_what_was_abandoned(folder):
    partial = folder.partial(DIGEST.sha256)
    partial.parent.mkdir(parents=True)
    partial.write_bytes(DATA)
    assert folder.prune(0) == 0
    os.utime(partial, (time.time() - 7200, time.time() - 7200))
    assert folder.prune(0) == len(DATA)
    assert not partial.exists()


def test_a_blob_has_one_writer_who_continues_where_the_last_one_ended(folder):
    first = ArrivingBlob.try_open(folder, DIGEST)
    assert ArrivingBlob.try_open(folder, DIGEST) is None
    first.append(DATA[:5])
    first.close()
    second = ArrivingBlob.try_open(folder, DIGEST)
    assert second.length == 5
    second.append(DATA[5:])
    path = second.commit()
    assert path.read_bytes() == DATA
    second.close()
    assert path.exists()


def test_a_writer_in_another_process_is_respected(folder):
    fcntl = pytest.importorskip("fcntl")
    first = ArrivingBlob.try_open(folder, DIGEST)
    first.append(DATA[:5])
    first.close()
    with open(folder.partial(DIGEST.sha256)) as other:  # as another process holds it
        fcntl.flock(other, fcntl.LOCK_EX)
        assert ArrivingBlob.try_open(folder, DIGEST) is None
    again = ArrivingBlob.try_open(folder, DIGEST)
    assert again is not None
    again.close(remove=True)
    assert folder.partial_length(DIGEST.sha256) == 0


def test_whatever_is_there_is_below_the_root_of_the_machine(tmp_path):
    assert filing.is_below(tmp_path, "/")
    assert not filing.is_below(tmp_path, tmp_path / "folder")
    assert not filing.is_below(f"{tmp_path}-beside", tmp_path)
