"""Has work on a backup done by ``backup_program.py``: hashing lets the event loop alone, boto3 does not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("backup_program.py")
#: Bytes of a line: a list of snapshots, with what is not in them.
LONGEST = 16 * 1024 * 1024
SILENT = {"error": "It ended without a word; the log of this machine may tell why."}
#: Called with how far a snapshot has come.
Heard = Callable[[dict[str, int]], Awaitable[None]]


async def _nobody(_progress: dict[str, int]) -> None:
    return


async def run(work: str, asked: Mapping[str, Any], heard: Heard = _nobody) -> dict[str, Any]:
    """Have this done; what is told of it, with ``error`` where it did not work. Cancelling it ends the process.

    Args:
        work: a name in ``WORKS`` of the program, which needs the rest.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PROGRAM), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LONGEST
    )
    stdin, stdout = process.stdin, process.stdout
    try:
        if stdin is None or stdout is None:
            return SILENT
        stdin.write(json.dumps({"work": work, **asked}).encode() + b"\n")
        await stdin.drain()
        while line := await stdout.readline():
            told: dict[str, Any] = json.loads(line)
            if "progress" not in told:
                return told
            await heard(told["progress"])
        return SILENT
    except ConnectionError:
        return SILENT
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
