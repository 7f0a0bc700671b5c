"""One request with the answers that it got, and which operation of a description it was made from."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: What the type of each problem of ours begins with.
PROBLEM = "urn:comfyume:"


@dataclass(frozen=True)
class Answer:
    """What one server made of a request.

    Attributes:
        status: of HTTP; None where none came.
        problem: why none came: ``hangs`` or ``drops the connection``; else empty.
        body: its first bytes.
        seconds: until it was whole.
    """

    status: int | None
    reason: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    seconds: float = 0.0
    problem: str = ""

    @property
    def status_class(self) -> str:
        """``2xx`` to ``5xx``, or what went wrong."""
        return self.problem if self.status is None else f"{self.status // 100}xx"

    @property
    def is_error_of_the_server(self) -> bool:
        """Whether the server could not answer, or says that the fault is its own."""
        return self.status is None or self.status >= 500

    @property
    def shows_traceback(self) -> bool:
        """Whether somebody is shown where in the code an error arose."""
        return b"Traceback (most recent call last)" in self.body

    def why(self) -> str:
        """The kind of an error, as the answer names it, a problem's with underscores; empty where it names none."""
        if self.status is None or self.status < 400:
            return ""
        try:
            body = json.loads(self.body)
        except ValueError:
            return ""
        body = body if isinstance(body, dict) else {}
        if str(body.get("type")).startswith(PROBLEM):
            return str(body["type"]).removeprefix(PROBLEM).replace("-", "_")[:60]
        error = body.get("error")
        if isinstance(error, dict):
            error = error.get("type") or error.get("code") or error.get("message")
        return str(error)[:60] if isinstance(error, str) else ""

    def told(self) -> str:
        """Status and kind in a few words."""
        return " ".join(word for word in (self.problem or str(self.status), self.why()) if word)


@dataclass(frozen=True)
class Exchange:
    """A request and its answers.

    Attributes:
        method: as sent, and ``target`` too: path and query.
        head: request line and headers, as they were sent; the rest of the request is ``body``.
        answers: by the server's name.
    """

    method: str
    target: str
    head: bytes
    body: bytes
    answers: Mapping[str, Answer] = field(default_factory=dict)

    def __str__(self) -> str:
        answers = ", ".join(f"{name}: {answer.told()}" for name, answer in self.answers.items())
        return f"{self.method} {self.target[:300]} {self.body[:300]!r} -> {answers}"


class Operations:
    """The operations of an OpenAPI description."""

    def __init__(self, description: Mapping[str, Any]) -> None:
        self.labels = [
            f"{method.upper()} {path}"
            for path, item in description["paths"].items()
            for method in item
            if method in ("get", "put", "post", "delete", "options", "head", "patch", "trace")
        ]
        # The path with the fewest parameters wins, as in the specification.
        paths = sorted(description["paths"], key=lambda path: path.count("{"))
        self._patterns = [(re.compile(re.sub(r"\\\{.*?\\\}", "[^/]*", re.escape(path))), path) for path in paths]

    def label_of(self, method: str, target: str) -> str:
        """Method and path template of a request; the path as it is, where no template fits."""
        path = target.partition("?")[0]
        return f"{method} {next((name for pattern, name in self._patterns if pattern.fullmatch(path)), path)}"
