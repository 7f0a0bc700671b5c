"""Files that are put away into a real bucket, and come back."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from comfyume.blobs.cold_storage import ColdStorage
from comfyume.blobs.digest import digest_file
from comfyume.blobs.errors import BlobMissing, DigestMismatch
from comfyume.blobs.object_pruning import prune
from comfyume.blobs.store import BlobFolder
from comfyume.tests.harness.s3 import S3Server

MIB = 1024 * 1024
OLD = time.time_ns() - 10**12


@pytest.fixture
def bucket(s3: S3Server, request: pytest.FixtureRequest):
    return s3.open(prefix=request.node.name)


@pytest.fixture
def storage(tmp_path: Path, bucket) -> ColdStorage:
    return ColdStorage(tmp_path / "output", tmp_path / "cold", BlobFolder(tmp_path / "returning"), lambda: bucket)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "output" / "ines" / "film_00001_.mp4"
    path.parent.mkdir(parents=True)
    path.write_bytes(os.urandom(9 * MIB))
    os.utime(path, ns=(OLD, OLD))
    return path


def test_a_file_keeps_its_name_and_time_and_comes_back(storage: ColdStorage, film: Path) -> None:
    content, digest = film.read_bytes(), digest_file(film)
    assert storage.digest_of(film) is None
    assert storage.put_away(film) == 9 * MIB
    assert (film.stat().st_size, film.stat().st_mtime_ns) == (0, OLD)
    assert storage.put_away(film) == 0
    assert storage.digest_of(film) == digest
    storage.bring(film)
    assert film.read_bytes() == content
    assert film.stat().st_mtime_ns == OLD
    assert storage.digest_of(film) is None
    storage.bring(film)
    assert film.read_bytes() == content


def test_a_file_that_took_the_place_of_a_cold_one_is_not_touched(storage: ColdStorage, film: Path) -> None:
    storage.put_away(film)
    for content in (b"", b"new"):
        film.unlink()
        film.write_bytes(content)
        assert storage.digest_of(film) is None
        storage.bring(film)
        assert film.read_bytes() == content


def test_a_file_that_is_written_to_while_it_is_put_away_stays(
    storage: ColdStorage, film: Path, bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = bucket.put

    def write_meanwhile(*arguments):
        put(*arguments)
        film.write_bytes(b"another film")

    monkeypatch.setattr(bucket, "put", write_meanwhile)
    assert storage.put_away(film) == 0
    assert film.read_bytes() == b"another film"
    assert storage.digest_of(film) is None


def test_what_the_bucket_lost_or_changed_stays_cold(storage: ColdStorage, film: Path, bucket) -> None:
    digest = digest_file(film)
    storage.put_away(film)
    bucket.write(storage.key_of(digest), b"x" * digest.size)
    with pytest.raises(DigestMismatch):
        storage.bring(film)
    bucket.delete(storage.key_of(digest))
    with pytest.raises(BlobMissing):
        storage.bring(film)
    assert storage.digest_of(film) == digest


def test_objects_of_deleted_files_are_removed_and_of_no_others(storage: ColdStorage, film: Path, bucket) -> None:
    other = film.with_name("other.mp4")
    other.write_bytes(os.urandom(MIB))
    storage.put_away(film)
    storage.put_away(other)
    assert storage.tidy(rest=0) == 0
    film.unlink()
    assert storage.tidy(rest=3600) == 0
    assert storage.tidy(rest=0) == 9 * MIB
    storage.bring(other)
    assert other.stat().st_size == MIB


def test_links_do_not_lead_records_elsewhere(storage: ColdStorage, film: Path, tmp_path: Path) -> None:
    (tmp_path / "output" / "link").symlink_to(film.parent)
    storage.put_away(film)
    assert storage.digest_of(tmp_path / "output" / "link" / film.name) is not None
    with pytest.raises(ValueError, match="subpath"):
        storage.put_away(tmp_path / "output" / ".." / _made(tmp_path / "elsewhere").name)


def _made(path: Path) -> Path:
    path.write_bytes(b"x")
    return path


def test_old_objects_go_and_then_the_oldest_until_the_rest_is_small_enough(bucket) -> None:
    for number in range(4):
        bucket.write(f"blobs/{number}", bytes(1000))
        time.sleep(1.05)  # the server tells times in seconds
    assert prune(bucket, "blobs/", older_than=3600) == 0
    assert prune(bucket, "blobs/", older_than=3600, most_bytes=2500, keep={"blobs/0"}) == 2000
    assert [each.key for each in bucket.listing("blobs/")] == ["blobs/0", "blobs/3"]
    assert prune(bucket, "blobs/", older_than=0) == 2000
