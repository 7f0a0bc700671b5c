"""Python reads this file when it starts, if its folder is on the path: the process then has a wrong clock that jumps.

``CHAOS_CLOCK`` is by how many seconds it is wrong; every three seconds the sign changes.
"""

from __future__ import annotations

import os
import time

_offset = float(os.environ.get("CHAOS_CLOCK", "0"))
_time, _time_ns = time.time, time.time_ns


def _wrong_by() -> float:
    return _offset if int(time.monotonic() / 3) % 2 else -_offset


time.time = lambda: _time() + _wrong_by()
time.time_ns = lambda: _time_ns() + int(_wrong_by() * 1_000_000_000)
