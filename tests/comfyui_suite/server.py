"""What ``python main.py ...`` starts while ComfyUI's own tests run (see ``shim/python``).

Directly: the same ComfyUI, with a base directory of its own. As a pair: a store and a worker are started as children,
then this process *becomes* the frontend, so that the tests' ``p.kill()`` ends the frontend at once and the kernel ends
its children (``PR_SET_PDEATHSIG``).

The tests try to connect at 4, 8, 12, 16 and 20 s, and send their first prompt as soon as they are in. So worker and
frontend start side by side, and the frontend has one more node pack, ``gate``, which loads only once the worker
is live: custom nodes load before ComfyUI opens its port.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).resolve().parents[1] / "harness" / "package.py"))["register"]()

from comfyume.tests.harness import discovery
from comfyume.tests.harness.processes import ComfyProcess, RedisServer, die_with_parent

WORKER_ID = "suite-worker"
GATE = Path(__file__).parent / "gate"


def main(argv: list[str]) -> None:
    """Start what the environment asks for (``SUITE_DIRECT``) and become the server on the asked port."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--output-directory", type=Path, required=True)
    parser.add_argument("--listen", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--extra-model-paths-config", type=Path)
    parser.add_argument("--cpu", action="store_true")
    asked, cache_args = parser.parse_known_args(argv)

    install = discovery.at(Path.cwd())
    folder = Path(tempfile.mkdtemp(prefix="s", dir=os.environ["SUITE_FOLDER"]))
    nodes_of_the_tests = ["--extra-model-paths-config", str(asked.extra_model_paths_config.resolve())]
    die_with_parent()
    if os.environ.get("SUITE_DIRECT"):
        server = ComfyProcess(
            install,
            folder / "direct",
            mode="vanilla",
            port=asked.port,
            listen=asked.listen,
            output_directory=asked.output_directory,
            args=[*nodes_of_the_tests, *cache_args],
        )
    else:
        store = RedisServer(folder, port=None).start()
        worker = ComfyProcess(
            install,
            folder / "worker",
            mode="worker",
            store_url=store.url,
            env={"COMFYUME_WORKER_ID": WORKER_ID, "COMFYUME_FRONTEND_URL": f"http://127.0.0.1:{asked.port}"},
            # a second less of start-up in the 20 s that the tests wait; none of them uses such a node
            args=[*nodes_of_the_tests, *cache_args, "--disable-api-nodes"],
        ).start()
        server = ComfyProcess(
            install,
            folder / "frontend",
            mode="frontend",
            store_url=store.url,
            port=asked.port,
            listen=asked.listen,
            output_directory=asked.output_directory,
            env={"SUITE_WORKER_URL": worker.url, "SUITE_STORE_URL": store.url, "SUITE_WORKER_ID": WORKER_ID},
            node_packs=[GATE],
        )
    server.prepare()
    os.execve(server.command[0], server.command, server.environment)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[2:])
