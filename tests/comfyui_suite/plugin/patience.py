"""A plugin of pytest for ComfyUI's own tests: a server has a minute to start, not 20 s.

The tests try to connect five times, 4 s apart, which is too little for a store, a worker and a frontend on a machine
that is slow for a while. So the pauses of that length, of which they have no others, are three times as long from the
second one on; nothing else of the tests is changed.
"""

from __future__ import annotations

import sys
import time

PAUSE = 4
LONGER = 3

_sleep = time.sleep


def _patient(seconds: float) -> None:
    """Sleep; longer where a test waits for its server, and this is not its first try."""
    tries = sys._getframe(1).f_locals.get("i", 0) if seconds == PAUSE else 0
    _sleep(seconds * LONGER if tries else seconds)


time.sleep = _patient
