"""The heartbeat: a small process beside a worker that renews its lease, whatever the nodes do to the interpreter.

It is run as a script. Its standard input brings one line of JSON, the configuration; the job to keep alive stands in
memory that it shares with the worker. It says what it learns in lines: ``ready`` before its first beat, ``cancel JOB
CLAIM``, ``lost JOB CLAIM``, ``unknown``, or ``back`` when the store answers again. It ends when its standard input
does, so it never outlives its worker, unless a node holds the interpreter for longer than a job may run: then it takes
the worker's place.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
import threading
from pathlib import Path
from typing import Any


def _import_package() -> None:
    """Make the extension importable as ``comfyume``, whatever its folder is called."""
    root = Path(__file__).resolve().parent.parent
    spec = importlib.util.spec_from_file_location(
        "comfyume", root / "__init__.py", submodule_search_locations=[str(root)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{root} is not the comfyume extension")
    module = importlib.util.module_from_spec(spec)
    sys.modules["comfyume"] = module
    spec.loader.exec_module(module)


def _say(*words: str) -> None:
    # A worker that has just ended hears nothing; its end is noticed by itself.
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(" ".join(words) + "\n")
        sys.stdout.flush()


def _complain(message: str) -> None:
    sys.stderr.write(f"[comfyume] {message}\n")
    sys.stderr.flush()


def beat(configuration: dict[str, Any], ended: threading.Event) -> None:
    """Renew at each interval until the worker has ended."""
    # The package can be imported only once main has found it.
    from comfyume.job_queue.connection import connect, store_errors  # noqa: PLC0415
    from comfyume.job_queue.errors import QueueError  # noqa: PLC0415
    from comfyume.job_queue.keys import Keys  # noqa: PLC0415
    from comfyume.job_queue.scripts import Scripts  # noqa: PLC0415
    from comfyume.worker_mode.overdue import Overdue, WorkerProcess  # noqa: PLC0415
    from comfyume.worker_mode.watched_job import WatchedJob  # noqa: PLC0415

    interval = configuration["interval"]
    watched = WatchedJob(Path(configuration["watched"]))
    client = connect(configuration["url"], timeout=max(1.0, interval * 2))
    scripts = Scripts(client)
    keys = Keys(configuration["workshop"])
    overdue = Overdue(client, keys, configuration["job_timeout"], configuration["history"])
    identity = [configuration["worker"], configuration["instance"], configuration["lease_ms"]]
    is_away = False
    _say("ready")
    while not ended.wait(interval):
        job_id, claim = watched.read()
        try:
            with store_errors():
                answer = scripts.run("renew", keys.prefix, *identity, job_id, claim)
                if overdue.look(job_id, claim) and overdue.end(job_id, claim):
                    scripts.run("leave", keys.prefix, *identity[:2], *configuration["history"])
                    _complain(f"job {job_id} ran for too long in a node that lets nothing else run; starting anew")
                    WorkerProcess(**configuration["process"]).replace()
        except QueueError:
            # The store is away; leases last longer than one beat, so the next one may still be in time.
            is_away = True
            continue
        if is_away:
            _say("back")
            is_away = False
        word = answer.decode()
        if word == "unknown":
            _say(word)
        elif word != "ok":
            _say(word, job_id, claim)


def main() -> None:
    """Read the configuration, then beat until the worker is gone."""
    _import_package()
    configuration = json.loads(sys.stdin.readline())
    ended = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    beat(configuration, ended)


if __name__ == "__main__":
    main()
