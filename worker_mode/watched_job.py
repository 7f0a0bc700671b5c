"""The job that a heartbeat keeps alive, in memory that the worker and its heartbeat process share.

A message through a pipe would wake the heartbeat for each job, at the very moment when the job should begin; this costs
the worker some bytes in its own memory. A version that is odd while they are written tells a reader to look again.
"""

from __future__ import annotations

import mmap
import struct
import time
from pathlib import Path

_HEADER = struct.Struct("<QQ")
_SIZE = 4096


class WatchedJob:
    """A job id and its claim, written by one process and read by another."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(_SIZE))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _SIZE)
        self._version = 0

    def write(self, job_id: str, claim: str) -> None:
        """Name the job; empty strings for none."""
        content = f"{job_id}\n{claim}".encode()
        self._memory[: _HEADER.size] = _HEADER.pack(self._version + 1, len(content))
        self._memory[_HEADER.size : _HEADER.size + len(content)] = content
        self._version += 2
        self._memory[: _HEADER.size] = _HEADER.pack(self._version, len(content))

    def read(self) -> tuple[str, str]:
        """The job id and the claim; empty strings for none."""
        while True:
            version, length = _HEADER.unpack(self._memory[: _HEADER.size])
            content = self._memory[_HEADER.size : _HEADER.size + length]
            again, _ = _HEADER.unpack(self._memory[: _HEADER.size])
            if version == again and version % 2 == 0:
                job_id, _, claim = content.decode().partition("\n")
                return job_id, claim
            time.sleep(0.001)
