"""Whole transfers in processes of their own, which may be killed in the middle."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from comfyume.blobs.digest import CHUNK, Digest
from comfyume.blobs.store import BlobFolder

from .processes import die_with_parent
from .s3 import S3Server

Way = Literal["put", "fetch"]
PROGRAM = Path(__file__).with_name("bucket_program.py")


@dataclass(frozen=True)
class Outcome:
    """What a transfer took, in all its processes.

    Attributes:
        seconds: of the process that ended it.
        grown: the most by which the memory of that process grew, in bytes.
        sent: bytes of parts that were sent, by all of them, up to what the killed ones told last.
        cuts: how many processes were killed.
    """

    seconds: float
    grown: int
    sent: int
    cuts: int


class TransferBroken(Exception):
    """A transfer ended by itself, without success; the message is what it said."""


def transfer(
    server: S3Server,
    way: Way,
    file: Path,
    digest: Digest,
    *,
    by: Literal["comfyume", "boto3"] = "comfyume",
    cuts: Sequence[int] = (),
) -> Outcome:
    """Move a file, and kill the process whenever one of ``cuts`` (bytes across, rising) is reached."""
    sent, done = 0, 0
    for cut in (*cuts, None):
        command = [sys.executable, PROGRAM, by, way, server.endpoint, server.bucket, file, digest.sha256, digest.size]
        process = subprocess.Popen(
            [str(word) for word in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl call, no lock taken
        )
        last, told, was_cut = "", 0, False
        # A fetch tells what came in this process, a put what is across.
        before = BlobFolder(file).partial_length(digest.sha256) if way == "fetch" and by == "comfyume" else 0
        assert process.stdout is not None
        for line in process.stdout:
            last = line
            if line.startswith("{"):
                break
            across, told = map(int, line.split())
            if cut is not None and before + across >= cut:
                process.kill()
                was_cut = True
                break
        _, said = process.communicate()
        sent += told
        if was_cut:
            done += 1
        elif not last.startswith("{"):
            raise TransferBroken(said)
        else:
            return Outcome(sent=sent, cuts=done, **json.loads(last))
    raise AssertionError("the last one is not cut")


def make_file(path: Path, size: int) -> Digest:
    """A file of pieces that are all different, and its digest."""
    piece = os.urandom(CHUNK - 8)
    hasher = hashlib.sha256()
    with path.open("wb") as file:
        for number in range(-(-size // CHUNK)):
            data = (number.to_bytes(8, "big") + piece)[: size - number * CHUNK]
            hasher.update(data)
            file.write(data)
    return Digest(hasher.hexdigest(), size)
