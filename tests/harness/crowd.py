"""A crowd of people at one server, played by a process of its own so that it shares no interpreter with the test.

Each person has a browser's session with its cookies, a socket, and does what ComfyUI's page does: it fetches its lists
when told that the queue has changed, and looks at each picture that was made.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from .graphs import Graph
from .processes import die_with_parent, tail

PROGRAM = Path(__file__).with_name("crowd_program.py")


class CrowdFailed(Exception):
    """The crowd could not do what it was to do; the message holds why."""


@dataclass(frozen=True)
class Visitor:
    """One person who takes part.

    Attributes:
        password: what they sign in with; empty for a server where nobody does.
        features: what their page says that it can show.
        opens: the paths that their page fetches as it opens, all at once.
    """

    name: str
    password: str
    prompts: Sequence[Graph]
    features: dict[str, bool] = field(default_factory=dict)
    opens: Sequence[str] = ()


@dataclass(frozen=True)
class Step:
    """What all did at once: from when until when, by ``time.monotonic``, in seconds."""

    name: str
    began: float
    ended: float

    @property
    def took(self) -> float:
        """How long the last one took."""
        return self.ended - self.began


@dataclass(frozen=True)
class Line:
    """One thing that a person did or heard.

    Attributes:
        what: ``event`` and ``binary`` are what the socket brought; all others are requests.
        began, ended: by ``time.monotonic``, in seconds.
    """

    what: str
    person: str
    began: float
    ended: float
    data: dict[str, Any]

    @property
    def took(self) -> float:
        """Seconds until a request was answered."""
        return self.ended - self.began

    @property
    def content(self) -> bytes:
        """The bytes of a binary message or a picture."""
        return base64.b64decode(self.data["content"])


class Crowd:
    """The running process. Take `step` after `step`, then `finish`."""

    def __init__(self, address: str, visitors: Sequence[Visitor], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log, self._errors = folder / "log.jsonl", folder / "errors.txt"
        plan = folder / "plan.json"
        plan.write_text(json.dumps({"address": address, "people": [asdict(each) for each in visitors]}))
        self._command = [sys.executable, str(PROGRAM), str(plan), str(self._log)]

    def __enter__(self) -> Crowd:
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl call, no lock taken
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def step(self, name: str) -> Step:
        """Let all people do the next thing, and wait for the last of them.

        Raises:
            CrowdFailed: somebody could not.
        """
        self._go_on()
        assert self._process.stdout is not None
        words = self._process.stdout.readline()
        if not words:
            raise CrowdFailed(f"{name}: {tail(self._errors)}")
        told = json.loads(words)
        assert told["step"] == name
        return Step(name, told["began"], told["ended"])

    def finish(self) -> list[Line]:
        """Let all leave; returns what they did and heard, in order.

        Raises:
            CrowdFailed: they heard nothing more before.
        """
        self._go_on()
        if self._process.wait(60) != 0:
            raise CrowdFailed(tail(self._errors))
        lines = []
        for text in self._log.read_text().splitlines():
            data = json.loads(text)
            what, person, began, ended = (data.pop(name) for name in ("what", "person", "began", "ended"))
            lines.append(Line(what, person, began, ended, data))
        return lines

    def _go_on(self) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise CrowdFailed(tail(self._errors)) from None
