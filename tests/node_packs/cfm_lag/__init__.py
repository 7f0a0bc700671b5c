"""Measures how late ComfyUI's event loop is, all the time, in the file that ``CFM_LAG`` names.

Read it with ``tests/harness/loop_lag.py``, which says what the numbers are.
"""

import asyncio
import os
import time
from array import array

from server import PromptServer

NODE_CLASS_MAPPINGS = {}
#: Seconds between two looks.
PAUSE = 0.005
#: Looks that are written together; about half a second of them.
TOGETHER = 100


def seconds_without_core(schedule: int) -> float:
    """How long this thread has waited for a core so far (Linux: schedstat's second number, in nanoseconds)."""
    return int(os.pread(schedule, 100, 0).split()[1]) / 1e9


async def look() -> None:
    """Sleep shortly, for ever, and note how much longer it took."""
    looks = array("d")
    schedule = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
    with open(os.environ["CFM_LAG"], "ab", buffering=0) as file:  # noqa: ASYNC230 - some kilobytes each half second
        while True:
            computed, cpu = time.thread_time(), time.process_time()
            waited, began = seconds_without_core(schedule), time.monotonic()
            await asyncio.sleep(PAUSE)
            ended = time.monotonic()
            late = ended - began - PAUSE
            computed, cpu = time.thread_time() - computed, time.process_time() - cpu
            looks.extend((ended, late, computed, seconds_without_core(schedule) - waited, cpu))
            if len(looks) >= 5 * TOGETHER:
                file.write(looks.tobytes())
                del looks[:]


looking = PromptServer.instance.loop.create_task(look())
