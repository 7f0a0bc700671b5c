"""G20: files go into a bucket and come out of it over a bad line; what is there is whole, and the next try goes on."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import SimpleNamespace
from unittest import mock

from comfyume.blobs.bucket import Bucket
from comfyume.blobs.digest import Digest
from comfyume.blobs.errors import BlobError
from comfyume.blobs.object_store import blob_key
from comfyume.blobs.store import BlobFolder
from comfyume.tests.harness.s3 import S3Server
from comfyume.tests.harness.s3_faults import FAULTS, FaultyS3

from .reports import Report
from .stage import Stage

#: S3's smallest part, so that small files have several.
PART = 5 * 1024 * 1024
SIZES = (1_000, 300_000, PART, PART + 1, 2 * PART + 7, 3 * PART + 1_000_000)
#: Faults that stay until somebody does something about them.
LASTING = ("503", "reset up", "lost reply", "expired", "clock off")
OFF = datetime.timedelta(hours=1)
#: By so much pauses between attempts are shorter than in earnest.
HURRY = 40
#: A shorter word on why a transfer has failed would help nobody.
SHORTEST_WORD = 40
PUT, FETCH = "put", "fetch"


async def run(stage: Stage, trials: int) -> list[Report]:
    """Move ``trials`` files, half of them each way, with some requests of each spoiled."""
    random = stage.random("bucket")
    outcomes: dict[str, Counter[str]] = {}
    violations: list[str] = []
    words: set[str] = set()
    with S3Server(stage.folder / "s3") as server, FaultyS3(server.endpoint, random.randrange(2**31)) as line, _hurry():
        for number in range(trials):
            trial = Trial(server, line, stage.folder / str(number), random, number)
            outcome = await asyncio.to_thread(trial.run)
            outcomes.setdefault(trial.fault, Counter())[outcome] += 1
            violations += [f"{trial.fault} ({trial.way}): {sentence}" for sentence in trial.violations]
            words |= trial.words
        inflicted = dict(sorted(line.faults.items()))
    figures = {fault: ", ".join(f"{what} {n}" for what, n in sorted(outcomes[fault].items())) for fault in outcomes}
    figures["requests spoiled"] = ", ".join(f"{fault} {n}" for fault, n in inflicted.items())
    figures["different words to the person"] = str(len(words))
    fault = f"files of 1 kB to 16 MB in and out: {', '.join((*FAULTS, *LASTING[3:]))}; some pass, some stay"
    return [
        Report(
            "G20", "a bucket holds and gives whole files only", fault, trials, violations, dict(sorted(figures.items()))
        )
    ]


@dataclass
class Trial:
    """One file that goes in or out, first over the bad line, then over a good one."""

    server: S3Server
    line: FaultyS3
    folder: Path
    random: Random
    number: int

    def __post_init__(self) -> None:
        self.way = (PUT, FETCH)[self.number % 2]
        lasts = self.random.random() < 0.25
        self.fault = self.random.choice(LASTING) if lasts else "several that pass"
        self.violations: list[str] = []
        self.words: set[str] = set()
        self.folder.mkdir()
        self.content = os.urandom(self.random.choice(SIZES))
        self.digest = Digest.of_bytes(self.content)
        self.key = blob_key(self.digest.sha256)
        self.source = self.folder / "source"
        self.source.write_bytes(self.content)
        self.blobs = BlobFolder(self.folder / "blobs")

    def run(self) -> str:
        """Returns how the first try ended; blocking."""
        if self.way == FETCH:
            self._open(self.server.endpoint).put(self.key, self.source, self.digest)
        with self._spoiled():
            first = self._try()
        if not self._try():
            self.violations.append("over a good line it failed too")
        return "passed" if first else "refused, passed later"

    def _try(self) -> bool:
        try:
            if self.way == PUT:
                self._open(self.line.url).put(self.key, self.source, self.digest)
            else:
                self._open(self.line.url).fetch(self.key, self.blobs, self.digest)
        except BlobError as error:
            self.words.add(str(error).replace(self.digest.sha256, "").partition(" failed: ")[2])
            if len(str(error)) < SHORTEST_WORD:
                self.violations.append(f"it says no more than {error}")
            if self._published() not in (None, self.content):
                self.violations.append("half a file, or another one, is published")
            return False
        if self._published() != self.content:
            self.violations.append("it is said to be there, and is not, or not whole")
        return True

    def _published(self) -> bytes | None:
        """What others find."""
        if self.way == FETCH:
            path = BlobFolder(self.blobs.root).path(self.digest.sha256)
            return None if path is None else path.read_bytes()
        client = self.server.client()
        try:
            body: bytes = client.get_object(Bucket=self.server.bucket, Key=self.key)["Body"].read()
        except client.exceptions.NoSuchKey:
            return None
        return body

    @contextlib.contextmanager
    def _spoiled(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            stack.callback(self.line.heal)
            if self.fault == "clock off":
                stack.enter_context(mock.patch("botocore.auth.get_current_datetime", side_effect=_off))
            elif self.fault in LASTING:
                self.line.insist(self.fault)
            else:
                self.line.spoil(self.random.choices(FAULTS, k=self.random.randint(1, 6)))
            yield

    def _open(self, endpoint: str) -> Bucket:
        return self.server.open(endpoint=endpoint, part=PART)


def _off() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc) + OFF


@contextlib.contextmanager
def _hurry() -> Iterator[None]:
    """Let the pauses of boto3 and of our own be short."""
    quick = SimpleNamespace(sleep=lambda seconds: time.sleep(seconds / HURRY))
    with (
        mock.patch("botocore.endpoint.time", quick),
        mock.patch("comfyume.blobs.bucket._BACKOFF_SECONDS", 0.25 / HURRY),
    ):
        yield
