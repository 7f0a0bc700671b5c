"""A node pack of the suite's frontend: it finishes loading when the worker behind the frontend is live.

ComfyUI opens its port after the custom nodes have loaded, so nobody can connect before there is a worker.
"""

import importlib
import os
import sys
import time
from pathlib import Path

#: The tests give up after 20 s; a little longer, so that the log tells of it rather than of a refused connection.
SECONDS = 30

NODE_CLASS_MAPPINGS: dict[str, type] = {}


def _wait() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    try:
        processes = importlib.import_module("harness.processes")
    finally:
        sys.path.pop(0)
    deadline = time.monotonic() + SECONDS
    url, store, worker = (os.environ[f"SUITE_{name}"] for name in ("WORKER_URL", "STORE_URL", "WORKER_ID"))
    while time.monotonic() < deadline:
        if processes.answers(url) and processes.is_listed(store, worker):
            return
        time.sleep(0.05)
    print(f"the worker of the suite was not live after {SECONDS} s")


_wait()
