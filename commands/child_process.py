"""Child processes that write to a log, end in order, and never outlive this process."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .errors import CommandError

#: Seconds that a child has after SIGTERM before it gets SIGKILL.
GRACE = 10.0
LOG_LINES_SHOWN = 25
_PR_SET_PDEATHSIG = 1


class ChildProcess:
    """One child with a name that people know, its log, and its end."""

    def __init__(self, name: str, command: Sequence[str], log: Path, environ: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            # A session of its own: the terminal's Ctrl-C reaches this process alone, which then ends its children
            # in order. Start children from the main thread: Linux sends the death signal when the thread ends.
            self.process = subprocess.Popen(
                list(command),
                cwd=folder,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(),  # noqa: PLW1509 - this process has one thread
            )

    def raise_if_dead(self) -> None:
        """Raise when the child has ended, with the end of its log.

        Raises:
            CommandError: the child has ended by itself.
        """
        status = self.process.poll()
        if status is not None:
            how = f"by {signal.Signals(-status).name}" if status < 0 else f"with exit status {status}"
            raise CommandError(f"The {self.name} ended {how}. The end of its log ({self.log}):\n{self.log_end()}")

    def log_end(self, lines: int = LOG_LINES_SHOWN) -> str:
        """Return the last lines of the log, indented."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - 64 * 1024))
            text = file.read().decode("utf-8", "replace")
        return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])

    def ask_to_stop(self) -> None:
        """Send SIGTERM, if the child still runs."""
        if self.process.poll() is None:
            self.process.terminate()

    def wait_or_kill(self, deadline: float) -> None:
        """Wait for the end until `deadline` (of `time.monotonic`), then kill the child and all it has started."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=max(0.0, deadline - time.monotonic()))
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def stop_all(children: Sequence[ChildProcess], grace: float = GRACE) -> None:
    """Ask all children to end, wait at most `grace` seconds together, and kill those that remain."""
    deadline = time.monotonic() + grace
    for child in children:
        child.ask_to_stop()
    for child in children:
        child.wait_or_kill(deadline)


def die_with_parent() -> Callable[[], None] | None:
    """Return what a child calls before it starts its program, so that Linux kills it when this process is gone."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def arrange() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent ended before the line above
            os._exit(1)

    return arrange
