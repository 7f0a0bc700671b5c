"""What is wrong with a frontend's answers is found, and what is meant is not."""

from __future__ import annotations

import http.client
import socketserver
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from comfyume.tests.api import findings
from comfyume.tests.api.exchanges import Exchange, Operations
from comfyume.tests.api.fork import Fork

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
SERVER_ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
TRACEBACK = b"HTTP/1.1 400 Bad\r\nContent-Length: 33\r\n\r\nTraceback (most recent call last)"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
REFUSED_BODY = b'{"error": {"type": "not_allowed"}}'
REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n%s" % (len(REFUSED_BODY), REFUSED_BODY)
DROPS = b""
PROBLEM_BODY = b'{"type": "urn:comfyume:not-allowed", "status": 403}'
PROBLEM = b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n%s" % (len(PROBLEM_BODY), PROBLEM_BODY)
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: 1\n\ndata: 2\n\n"
HANGS = None
PATIENCE = 0.5

OPERATIONS = Operations({"paths": {"/api/userdata/{file}": {"get": {}}, "/api/queue": {"get": {}, "post": {}}}})


class Answers(socketserver.ThreadingTCPServer):
    """A server that answers a path with these bytes; it closes where there are none, and waits where there is None."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, answers: Mapping[str, bytes | None]) -> None:
        self.heads: list[bytes] = []
        self.is_over = threading.Event()
        server = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                head = b"".join(iter(self.rfile.readline, b"\r\n"))
                server.heads.append(head)
                answer = answers[head.split(b" ")[1].decode()]
                if answer is None:
                    server.is_over.wait()
                else:
                    self.wfile.write(answer)

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


@contextmanager
def answering(answers: Mapping[str, bytes | None]) -> Iterator[Answers]:
    with Answers(answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.is_over.set()
        server.shutdown()
        thread.join()


@contextmanager
def forked(ours: bytes | None, theirs: bytes | None, path: str = "/api/queue", method: str = "GET") -> Iterator[Fork]:
    """A fork through which one request has gone that the two servers answer so."""
    with answering({path: ours}) as frontend, answering({path: theirs}) as vanilla:
        targets = {"frontend": frontend.address, "vanilla": vanilla.address}
        with Fork(targets, {"frontend": {"Cookie": "ada"}}, patience=PATIENCE) as fork:
            connection = http.client.HTTPConnection(fork.url.removeprefix("http://"), timeout=10)
            connection.request(method, path)
            connection.getresponse().read()
            connection.close()
            assert b"\r\nCookie: ada\r\n" in frontend.heads[0]
            assert b"Cookie" not in vanilla.heads[0]
            yield fork


def errors(fork: Fork) -> list[str]:
    return findings.errors(fork.exchanges, OPERATIONS, fork.send_again)


@pytest.mark.parametrize(
    ("ours", "what"),
    [
        (SERVER_ERROR, "500"),
        (HANGS, "hangs"),
        (DROPS, "drops the connection"),
        (TRACEBACK, "shows where in the code"),
    ],
)
def test_what_the_frontend_alone_cannot_answer_is_found(ours: bytes | None, what: str) -> None:
    with forked(ours, OK) as fork:
        (error,) = errors(fork)
    assert error.startswith(f"1 times GET /api/queue: {what}")
    assert "once more" in error


@pytest.mark.parametrize(("ours", "theirs"), [(SERVER_ERROR, SERVER_ERROR), (OK, SERVER_ERROR), (OK, DROPS)])
def test_what_a_plain_comfyui_cannot_answer_either_is_none_of_ours(ours: bytes, theirs: bytes) -> None:
    with forked(ours, theirs) as fork:
        assert errors(fork) == []


def test_both_shapes_of_an_error_say_the_same_word() -> None:
    for refused in (REFUSED, PROBLEM):
        with forked(refused, OK) as fork:
            assert fork.exchanges[0].answers["frontend"].told() == "403 not_allowed"


def test_of_a_stream_of_events_the_first_is_kept() -> None:
    with forked(STREAM, OK) as fork:
        assert fork.exchanges[0].answers["frontend"].body == b"data: 1\n\n"


def reasons(*exchanges: Exchange) -> list[str]:
    """Why the answers to these are not alike; one that has no reason has ``no reason``."""
    return [difference.reason or "no reason" for difference in findings.differences(exchanges, OPERATIONS)]


@pytest.mark.parametrize(("ours", "theirs"), [(OK, OK), (REFUSED, NOT_FOUND)])
def test_answers_of_one_class_are_alike(ours: bytes, theirs: bytes) -> None:
    with forked(ours, theirs) as fork:
        assert reasons(*fork.exchanges) == []


@pytest.mark.parametrize(
    ("ours", "theirs", "method", "path", "reason"),
    [
        (OK, NOT_FOUND, "GET", "/api/queue", "no reason"),
        (REFUSED, OK, "GET", "/api/queue", "no reason"),
        (REFUSED, OK, "POST", "/api/free", "is for the instructor"),
        (REFUSED, OK, "OPTIONS", "/api/queue", "nobody has said"),
        (REFUSED, OK, "HEAD", "/api/assets/hash/x", "by their content"),
        (NOT_FOUND, OK, "GET", "/api/userdata/a%5Cb", "backslash"),
        (NOT_FOUND, OK, "GET", "/api/userdata/a", "no reason"),
        (REFUSED, OK, "GET", "/api/userdata/a%0Ab", "line break"),
    ],
)
def test_an_answer_of_another_class_needs_a_reason(
    ours: bytes, theirs: bytes, method: str, path: str, reason: str
) -> None:
    with forked(ours, theirs, path, method) as fork:
        (found,) = reasons(*fork.exchanges)
    assert reason in found


def test_a_file_that_only_one_of_the_two_took_differs_from_then_on() -> None:
    with forked(NOT_FOUND, OK, "/api/userdata/a/move/b%5C", "POST") as fork:
        (moved,) = fork.exchanges
    later = Exchange("GET", "/api/userdata/a", b"", b"", moved.answers)
    other = Exchange("GET", "/api/userdata/c", b"", b"", moved.answers)
    assert reasons(moved, later) == ["has a backslash, a NUL or an empty part in its address", findings.FOLLOWS]
    assert reasons(later) == reasons(other) == ["no reason"]


def test_an_exception_in_a_log_is_ours_unless_a_plain_comfyui_has_it_at_the_same_place(tmp_path: Path) -> None:
    def log(name: str, *places: tuple[str, str]) -> Path:
        text = "".join(
            "\x1b[31m[ERROR]\x1b[0m Error handling request\n"
            "\x1b[33m[WARNING]\x1b[0m Traceback (most recent call last):\n"
            f'  File "/x/first.py", line 1, in f\n    first()\n  File "{place}", line 5, in g\n    fail()\n'
            f"{kind}: it failed\n[INFO] all is well\n"
            for kind, place in places
        )
        path = tmp_path / name
        path.write_text(text)
        return path

    ours = "/base/custom_nodes/comfyume/server_routes/visits.py"
    theirs = findings.exceptions_in(log("vanilla", ("ValueError", "/comfy/server.py"), ("KeyError", ours)))
    same = ("ValueError", "/comfy/server.py")
    found = findings.exceptions_in(log("frontend", same, same, ("TypeError", "/comfy/server.py"), ("KeyError", ours)))
    assert findings.new_exceptions(found, theirs) == [
        "in the log, 1 times: TypeError at /comfy/server.py:5",
        f"in the log, 1 times: KeyError at {ours}:5",
    ]
