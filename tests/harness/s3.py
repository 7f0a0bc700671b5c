"""A server that speaks S3, for the tests: moto's, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import boto3

from comfyume.blobs.bucket import Bucket, BucketAddress

from .processes import ProcessFailed, die_with_parent, free_port, tail

KEY, SECRET = "test-key", "test-secret"


class S3Server:
    """One server process on a loopback port, with one bucket.

    Args:
        folder: holds its log, and what is too large for its memory.
    """

    def __init__(self, folder: Path, bucket: str = "workshop") -> None:
        self.bucket = bucket
        self.port = free_port()
        self._folder = folder
        self._log = folder / "s3.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """The address of the server."""
        return f"http://127.0.0.1:{self.port}"

    def address(self, endpoint: str = "", **changed: Any) -> BucketAddress:
        """The address of the bucket, maybe through another endpoint, as a proxy's."""
        values = {"region": "us-east-1", "path_style": True, "key": KEY, "secret": SECRET, **changed}
        return BucketAddress(self.bucket, endpoint=endpoint or self.endpoint, **values)

    def open(self, *, endpoint: str = "", prefix: str = "", **options: Any) -> Bucket:
        """The bucket as comfyume sees it."""
        return Bucket(self.address(endpoint, prefix=prefix), **options)

    def client(self) -> Any:
        """A client of boto3's own, to look at what is there."""
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
        )

    def keys(self, prefix: str = "") -> list[str]:
        """What the bucket holds."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [each["Key"] for page in pages for each in page.get("Contents", ())]

    def start(self, timeout: float = 60.0) -> S3Server:
        """Start the server, wait until it answers, and make the bucket where it is not."""
        self._folder.mkdir(parents=True, exist_ok=True)
        program = [sys.executable, Path(__file__).with_name("s3_program.py"), "-H", "127.0.0.1", "-p", str(self.port)]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                program,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl call, no lock taken
            )
        deadline = time.monotonic() + timeout
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise ProcessFailed(f"the S3 server did not start:\n{tail(self._log)}")
            time.sleep(0.05)
        self.client().create_bucket(Bucket=self.bucket)
        return self

    def stop(self) -> None:
        """End it; what it held is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.endpoint}/moto-api/data.json", timeout=2):
                return True
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def __enter__(self) -> S3Server:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
