"""Transfers to and from a real S3 server whose processes are killed; ``benchmarks/bucket.py`` does it with 5 GiB."""

from __future__ import annotations

from pathlib import Path

import pytest

from comfyume.blobs.digest import digest_file
from comfyume.blobs.object_store import blob_key
from comfyume.blobs.store import BlobFolder
from comfyume.tests.harness.bucket_transfers import make_file, transfer
from comfyume.tests.harness.s3 import S3Server

MIB = 1024 * 1024
SIZE = 120 * MIB + 17
CUTS = (1 * MIB, 30 * MIB, 70 * MIB, 110 * MIB)

pytestmark = pytest.mark.integration


def test_a_file_goes_in_and_out_through_kills_and_no_part_goes_twice(s3: S3Server, tmp_path: Path) -> None:
    digest = make_file(tmp_path / "film", SIZE)
    put = transfer(s3, "put", tmp_path / "film", digest, cuts=CUTS)
    assert put.cuts == len(CUTS)
    # Only parts that were on their way when a process was killed.
    assert put.sent < SIZE + len(CUTS) * 5 * 8 * MIB
    assert put.grown < 64 * MIB
    client = s3.client()
    assert client.head_object(Bucket=s3.bucket, Key=blob_key(digest.sha256))["ContentLength"] == SIZE
    assert not client.list_multipart_uploads(Bucket=s3.bucket).get("Uploads")
    fetch = transfer(s3, "fetch", tmp_path / "blobs", digest, cuts=CUTS)
    assert fetch.cuts == len(CUTS)
    assert fetch.grown < 64 * MIB
    path = BlobFolder(tmp_path / "blobs").path(digest.sha256)
    assert path is not None
    assert digest_file(path) == digest
    client.delete_object(Bucket=s3.bucket, Key=blob_key(digest.sha256))
