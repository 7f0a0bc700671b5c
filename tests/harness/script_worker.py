"""A worker process with the script engine; run by path, with its settings in the environment.

``python script_worker.py SYSTEM_FOLDER LOG`` runs until SIGTERM. The log gets a line for each run that begins or ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import runpy
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

runpy.run_path(str(Path(__file__).with_name("package.py")))["register"]()

from comfyume import settings as settings_module  # noqa: E402 - importable from here on
from comfyume.blobs import http_client  # noqa: E402
from comfyume.job_queue.worker_queue import Reports  # noqa: E402
from comfyume.tests.harness.script_engine import Script, ScriptEngine  # noqa: E402
from comfyume.worker_mode import transports  # noqa: E402
from comfyume.worker_mode.worker import Worker  # noqa: E402

#: Seconds after which a transfer is given up, and half of which a silent server has; a quarter of an hour without it.
PATIENCE = "CHAOS_TRANSFER_PATIENCE"


def die_behind_finish(engine: ScriptEngine, worker: Worker) -> None:
    """Let a script that wants so die when the store has taken its end, before this process does anything about it."""
    end = Reports.end

    async def end_or_die(self: Reports, *arguments: Any, **options: Any) -> list[bytes]:
        answer = await end(self, *arguments, **options)
        running = worker.executor.running()
        if running is not None:
            engine.die_if(Script.of(running.job.payload["prompt"]), "finish")
        return answer

    Reports.end = end_or_die  # type: ignore[method-assign]


def hurry(patience: float) -> None:
    """Give transfers up sooner."""
    http_client._STALL_SECONDS = patience / 2
    http_client._TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=patience / 2, sock_read=patience / 2)
    transports.upload = partial(http_client.upload, retries=4, away=patience)  # type: ignore[assignment]


async def run(system: Path, log: Path) -> None:
    """Work until SIGTERM."""
    settings = settings_module.load(os.environ)
    if settings.redis_url is None:
        raise SystemExit("COMFYUME_REDIS_URL is not set")
    if PATIENCE in os.environ:
        hurry(float(os.environ[PATIENCE]))
    loop = asyncio.get_running_loop()
    told_to_stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, told_to_stop.set)
    engine = ScriptEngine(loop, log)

    def end() -> None:
        loop.call_soon_threadsafe(told_to_stop.set)

    worker = Worker(settings, settings.redis_url, engine, system=system, loop=loop, end=end)
    die_behind_finish(engine, worker)
    worker.make_ready()
    await worker.start()
    engine.start(worker)
    await told_to_stop.wait()
    await worker.stop()
    engine.stop()


def main() -> None:
    """Run the worker, then end at once: the executing thread may be in the middle of a prompt."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(message)s")
    system, log = Path(sys.argv[1]), Path(sys.argv[2])
    code = 0
    try:
        asyncio.run(run(system, log))
    except SystemExit as error:
        code = 1
        with contextlib.suppress(OSError):
            sys.stderr.write(f"{error}\n")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
