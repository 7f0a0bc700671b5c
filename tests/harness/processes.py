"""Real processes for the tests: a store, and a ComfyUI in one mode.

Nothing outlives the test process: on Linux each child asks the kernel for SIGKILL when its parent dies.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import redis

from .discovery import ComfyInstall
from .package import ROOT

PR_SET_PDEATHSIG = 1
READY_SECONDS = 90.0
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class ProcessFailed(Exception):
    """A process did not come up; the message holds the end of its log."""


def die_with_parent() -> None:
    """Ask the kernel (Linux) to kill the calling process when the thread that forked it ends."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def free_port() -> int:
    """Return a loopback TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tail(log: Path, lines: int = 40) -> str:
    """Return the last lines of a log file, or a note that there is none."""
    if not log.is_file():
        return f"({log} does not exist)"
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def store_program() -> str:
    """The server that a store is, if nothing else is said."""
    return shutil.which("valkey-server") or shutil.which("redis-server") or "redis-server"


class RedisServer:
    """A store of its own: one server process, one folder, one address that a restart keeps.

    Args:
        folder: holds data, socket and log; must be short enough for a unix socket when ``port`` is None.
        port: a TCP port of 127.0.0.1; None for a unix socket, 0 for a free port.
        fsync: ``appendfsync``: ``always`` as in production, or ``no`` where a test needs speed alone.
        program: the server binary, else ``valkey-server`` or ``redis-server`` of the PATH.
        options: further settings, as in ``{"maxmemory": "20mb"}``.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = 0,
        fsync: Literal["always", "everysec", "no"] = "always",
        program: str | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.port = free_port() if port == 0 else port
        self.socket = folder / "s.sock"
        self.log = folder / "store.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._users: dict[str, str] = {}
        self._fsync = fsync
        self._options = dict(options or {})
        self._program = program or store_program()

    @property
    def url(self) -> str:
        """Address of the store for ``COMFYUME_REDIS_URL``."""
        return f"unix://{self.socket}" if self.port is None else f"redis://127.0.0.1:{self.port}"

    def start(self, timeout: float = 20.0) -> RedisServer:
        """Start the server and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        address = ["--port", str(self.port or 0), "--bind", "127.0.0.1"]
        if self.port is None:
            address += ["--unixsocket", str(self.socket), "--unixsocketperm", "700"]
        durable = ["--appendonly", "yes", "--appendfsync", self._fsync, "--aof-use-rdb-preamble", "yes", "--save", ""]
        if self._users:
            (self.folder / "users.acl").write_text("".join(self._users.values()), encoding="utf-8")
            durable += ["--aclfile", str(self.folder / "users.acl")]
        extra = [word for name, value in self._options.items() for word in (f"--{name}", value)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self._program, *address, *durable, "--dir", str(self.folder), *extra],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl call, no lock taken
            )
        deadline = time.monotonic() + timeout
        while True:
            with contextlib.suppress(redis.RedisError), self.client() as client:
                client.ping()
                return self
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise ProcessFailed(f"the store in {self.folder} did not start:\n{tail(self.log)}")
            time.sleep(0.02)

    def worker_url(self, workshop: str) -> str:
        """Return the address for a workshop's workers: their user may do no more than they need, over restarts too."""
        # Not at the top: what waits for the worker of ComfyUI's own tests imports this module alone.
        from comfyume.job_queue.rights import WorkerUser, hash_of, new_password

        user, password = WorkerUser(workshop, workshop), new_password()
        rules = user.rules(hash_of(password))
        self._users[user.name] = f"user {user.name} {' '.join(rules)}\n"
        if self.process is not None:
            with self.client() as client:
                client.execute_command("ACL", "SETUSER", user.name, *rules)
        return user.url(self.url, password)

    def client(self, **options: object) -> redis.Redis:
        """Return a synchronous client of this store."""
        return redis.Redis.from_url(self.url, decode_responses=True, **options)  # type: ignore[no-any-return]

    def stop(self) -> None:
        """End the server in good order."""
        _end(self.process, signal.SIGTERM)
        self.process = None

    def kill(self) -> None:
        """End the server with SIGKILL."""
        _end(self.process, signal.SIGKILL)
        self.process = None

    def restart(self, *, kill: bool = False) -> RedisServer:
        """Start again on the same folder and address, after a stop or a kill."""
        if kill:
            self.kill()
        else:
            self.stop()
        return self.start()

    def __enter__(self) -> RedisServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class ComfyProcess:
    """One ComfyUI process with a base directory, database, output and temp folder of its own.

    Args:
        install: the checkout to run.
        base: its base directory, made here; ``custom_nodes/comfyume`` in it links to this repository.
        mode: ``COMFYUME_MODE``; ``vanilla`` leaves the extension out.
        env: further environment; ``COMFYUME_*`` of the test's own environment is never inherited.
        args: further arguments of ``main.py``.
        node_packs: folders or single files linked into ``custom_nodes``.
        model_files: path below ``models`` to content, as in ``{"checkpoints/a.safetensors": b""}``.
    """

    def __init__(
        self,
        install: ComfyInstall,
        base: Path,
        *,
        mode: str = "standalone",
        store_url: str | None = None,
        workshop: str | None = None,
        port: int | None = None,
        listen: str = "127.0.0.1",
        output_directory: Path | None = None,
        env: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
        node_packs: Iterable[Path] = (),
        model_files: Mapping[str, bytes] | None = None,
    ) -> None:
        self.install = install
        self.base = base.resolve()
        self.mode = mode
        self.listen = listen
        self.port = port or free_port()
        self.output = (output_directory or self.base / "output").resolve()
        self.temp = self.base / "temp"
        self.log = self.base / "comfyui.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._args = list(args)
        self._node_packs = list(node_packs)
        self._model_files = dict(model_files or {})
        self.settings = {
            name: value
            for name, value in {"MODE": mode, "REDIS_URL": store_url, "WORKSHOP": workshop}.items()
            if value is not None and mode != "vanilla"
        }
        self._env = dict(env or {})

    @property
    def address(self) -> str:
        """``host:port`` of this process."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """``http://host:port`` of this process."""
        return f"http://{self.address}"

    @property
    def pid(self) -> int:
        """The id of the running process."""
        assert self.process is not None
        return self.process.pid

    @property
    def environment(self) -> dict[str, str]:
        """What the process is started with."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("COMFYUME_")}
        return {
            **inherited,
            **{f"COMFYUME_{name}": value for name, value in self.settings.items()},
            "PYTHONUNBUFFERED": "1",
            "HF_HUB_OFFLINE": "1",
            **self._env,
        }

    @property
    def command(self) -> list[str]:
        """The command line, to be run in the checkout."""
        return [
            *(str(self.install.python), "main.py", "--listen", self.listen, "--port", str(self.port), "--cpu"),
            *("--base-directory", str(self.base), "--database-url", f"sqlite:///{self.base / 'comfyui.db'}"),
            *("--output-directory", str(self.output), "--disable-auto-launch"),
            *self.install.main_args,
            *self._args,
        ]

    def prepare(self) -> None:
        """Make the base directory: folders, links to the extension and the node packs, model files."""
        for folder in ("custom_nodes", "models", "input", "output", "temp", "user"):
            (self.base / folder).mkdir(parents=True, exist_ok=True)
        self.output.mkdir(parents=True, exist_ok=True)
        links = {} if self.mode == "vanilla" else {"comfyume": ROOT}
        links |= {pack.name: pack.resolve() for pack in self._node_packs}
        for name, target in links.items():
            link = self.base / "custom_nodes" / name
            if not link.is_symlink():
                link.symlink_to(target)
        for name, content in self._model_files.items():
            file = self.base / "models" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)

    def start(self) -> ComfyProcess:
        """Start the process; :meth:`wait_ready` waits for it."""
        self.prepare()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.install.path,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl call, no lock taken
            )
        return self

    def wait_ready(self, timeout: float = READY_SECONDS) -> ComfyProcess:
        """Wait until the process answers HTTP.

        Raises:
            ProcessFailed: it ended, or was silent for ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        while not answers(self.url):
            if self.process is None or self.process.poll() is not None:
                raise ProcessFailed(f"ComfyUI ({self.mode}) ended while starting:\n{tail(self.log)}")
            if time.monotonic() > deadline:
                raise ProcessFailed(f"ComfyUI ({self.mode}) is silent after {timeout} s:\n{tail(self.log)}")
            time.sleep(0.1)
        return self

    def stop(self, timeout: float = 15.0) -> None:
        """End the process with SIGTERM, and with SIGKILL after ``timeout`` seconds."""
        _end(self.process, signal.SIGTERM, timeout)
        self.process = None

    def kill(self) -> None:
        """End the process with SIGKILL."""
        _end(self.process, signal.SIGKILL)
        self.process = None

    def lose(self) -> None:
        """End the process and those that it has started, all at once, as when their machine is lost."""
        children = Path(f"/proc/{self.pid}/task").glob("*/children")
        for child in [int(pid) for file in children for pid in file.read_text().split()]:
            os.kill(child, signal.SIGKILL)
        self.kill()

    def restart(self) -> ComfyProcess:
        """Stop, start on the same port and folders, and wait until it answers."""
        self.stop()
        return self.start().wait_ready()

    def __enter__(self) -> ComfyProcess:
        return self.start().wait_ready()

    def __exit__(self, *_: object) -> None:
        self.stop()


def answers(url: str) -> bool:
    """Say whether the ComfyUI at ``url`` answers HTTP; a refusal is an answer too, also that its store is away."""
    try:
        with urllib.request.urlopen(f"{url}/system_stats", timeout=5):
            return True
    except urllib.error.HTTPError as error:
        return error.code in (401, 403, 503)
    except (OSError, ValueError):
        return False


def known_workers(frontend_url: str) -> int:
    """How many live workers a frontend knows; 0 while it does not answer."""
    try:
        with urllib.request.urlopen(f"{frontend_url}/comfyume/health", timeout=5) as response:
            return int(json.load(response)["workers"])
    except (OSError, ValueError):
        return 0


def is_listed(store_url: str, worker_id: str) -> bool:
    """Say whether the store knows the worker: its id is in the name of a key, or in a set, sorted set or hash.

    This asks for no particular layout, so that the harness does not repeat the store's keys.
    """
    readers = {"set": "smembers", "hash": "hgetall", "zset": "zrange"}
    with contextlib.suppress(redis.RedisError), redis.Redis.from_url(store_url, decode_responses=True) as client:
        for key in client.scan_iter(count=1000):
            if worker_id in key:
                return True
            reader = readers.get(client.type(key))
            if reader and worker_id in str(getattr(client, reader)(key, *((0, -1) if reader == "zrange" else ()))):
                return True
    return False


def _end(process: subprocess.Popen[bytes] | None, first: signal.Signals, timeout: float = 10.0) -> None:
    if process is None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(first)
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)
