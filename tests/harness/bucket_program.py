"""One transfer between a file and a bucket, in a process that can be killed: by comfyume, or by boto3 alone.

    python bucket_program.py {comfyume,boto3} {put,fetch} ENDPOINT BUCKET FILE SHA256 SIZE

Prints how many bytes are across and how many were sent, as they are, and at the end one line of JSON: the ``seconds``,
and by how many bytes the memory has ``grown`` beside what a client takes that has asked for something.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
runpy.run_path(str(ROOT / "tests" / "harness" / "package.py"))["register"]()

import boto3  # noqa: E402

from comfyume.blobs.bucket import Bucket, BucketAddress  # noqa: E402
from comfyume.blobs.digest import Digest  # noqa: E402
from comfyume.blobs.object_store import blob_key  # noqa: E402
from comfyume.blobs.store import BlobFolder  # noqa: E402
from comfyume.tests.harness.memory import forget_peak, memory_of  # noqa: E402
from comfyume.tests.harness.s3 import KEY, SECRET  # noqa: E402


def by_comfyume(address: BucketAddress, way: str, file: Path, digest: Digest, moved: Callable[[int], None]) -> Any:
    """The transfer, to be called, and its client."""
    bucket = Bucket(address)
    bucket.size_of("nothing")
    key = blob_key(digest.sha256)
    if way == "put":
        return lambda: bucket.put(key, file, digest, moved), bucket._client
    return lambda: bucket.fetch(key, BlobFolder(file), digest, moved), bucket._client


def by_boto3(address: BucketAddress, way: str, file: Path, digest: Digest, moved: Callable[[int], None]) -> Any:
    """The same by what boto3 has for it, as it is without options."""
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=address.endpoint,
        region_name=address.region,
        aws_access_key_id=address.key,
        aws_secret_access_key=address.secret,
    )
    client.list_buckets()
    if way == "put":
        return lambda: client.upload_file(str(file), address.bucket, "plain", Callback=moved), client
    return lambda: client.download_file(address.bucket, "plain", str(file), Callback=moved), client


def main(words: list[str]) -> None:
    """Move the file."""
    program, way, endpoint, bucket, file, sha256, size = words
    address = BucketAddress(bucket, endpoint=endpoint, region="us-east-1", path_style=True, key=KEY, secret=SECRET)
    across = sent = 0
    lock = threading.Lock()

    def moved(count: int) -> None:
        nonlocal across
        with lock:
            across += count
            print(across, sent, flush=True)

    def count(params: dict[str, Any], **_: Any) -> None:
        nonlocal sent
        sent += int(params["headers"]["Content-Length"])

    begin = by_comfyume if program == "comfyume" else by_boto3
    transfer, client = begin(address, way, Path(file), Digest(sha256, int(size)), moved)
    if program == "comfyume":
        client.meta.events.register("before-call.s3.UploadPart", count)
    before = memory_of(os.getpid()).resident
    forget_peak(os.getpid())
    start = time.monotonic()
    transfer()
    seconds = time.monotonic() - start
    grown = (memory_of(os.getpid()).peak - before) * 1024
    print(json.dumps({"seconds": seconds, "grown": grown}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
