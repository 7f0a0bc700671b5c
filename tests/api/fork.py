"""A server that sends every request on to several others, byte for byte, and keeps what each of them answered.

Who asks gets the first one's answer. So a tool that tests one server stresses the others with the same requests.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import socketserver
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import BinaryIO

from .exchanges import Answer, Exchange

#: Seconds after which a server that has not answered is taken to hang.
PATIENCE = 10.0
#: Bytes of an answer that are kept.
KEPT = 20_000
#: What is between two neighbours, and not passed on.
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "upgrade"}


class Fork:
    """Listens on a free port of 127.0.0.1.

    Args:
        targets: ``host:port`` by the name under which its answers are kept; the first one's are passed on.
        headers: sent to one target with each request, by its name, unless the request has them.
        patience: seconds after which a server that has not answered is taken to hang.
    """

    def __init__(
        self,
        targets: Mapping[str, str],
        headers: Mapping[str, Mapping[str, str]] | None = None,
        *,
        patience: float = PATIENCE,
    ) -> None:
        self.exchanges: list[Exchange] = []
        self._targets = dict(targets)
        self._patience = patience
        self._headers = {name: dict(own) for name, own in (headers or {}).items()}
        fork = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(ConnectionError):
                    fork._serve(self)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Where to send requests."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Fork:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _serve(self, handler: socketserver.StreamRequestHandler) -> None:
        head, body = _read_request(handler.rfile)
        if not head:
            return
        method, target = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")[:2]
        answers = {name: self._send(name, method, head, body) for name in self._targets}
        self.exchanges.append(Exchange(method, target, head, body[:KEPT], {n: a for n, (a, _) in answers.items()}))
        answer, content = next(iter(answers.values()))
        handler.wfile.write(_written(answer, content, is_head=method == "HEAD"))

    def send_again(self, it: Exchange) -> Exchange:
        """Send a request that was kept once more; one that was cut when it was kept is shorter now."""
        answers = {name: self._send(name, it.method, it.head, it.body)[0] for name in self._targets}
        return replace(it, answers=answers)

    def _send(self, name: str, method: str, head: bytes, body: bytes) -> tuple[Answer, bytes]:
        address = self._targets[name]
        while True:
            sent = _for(address, head, self._headers.get(name, {})) + body
            answer, content = send(address, method, sent, self._patience)
            if answer.status != 429 or answer.why() != "too_much":
                return answer, content
            # More requests in a short time than one person may send: as it asks for, the next one comes later.
            time.sleep(1.0)


def send(address: str, method: str, request: bytes, patience: float) -> tuple[Answer, bytes]:
    """Send a request as it is and read its answer; returns that and its body: all of it, or a stream's first event."""
    host, _, port = address.partition(":")
    began = time.monotonic()
    try:
        with socket.create_connection((host, int(port)), patience) as connection:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                # Who refuses a body early closes before it has read it, and has answered all the same.
                connection.sendall(request)
            response = http.client.HTTPResponse(connection, method=method)
            response.begin()
            content = _first_event(response) if _is_stream(response) else response.read()
    except TimeoutError:
        return Answer(None, seconds=time.monotonic() - began, problem="hangs"), b""
    except (OSError, http.client.HTTPException):
        return Answer(None, seconds=time.monotonic() - began, problem="drops the connection"), b""
    took = time.monotonic() - began
    headers = tuple(response.getheaders())
    return Answer(response.status, response.reason, headers, content[:KEPT], took), content


def _is_stream(response: http.client.HTTPResponse) -> bool:
    return response.headers.get_content_type() == "text/event-stream"


def _first_event(response: http.client.HTTPResponse) -> bytes:
    """The first of the events that an answer brings for as long as somebody reads."""
    lines = [response.readline()]
    while lines[-1] not in (b"\n", b"\r\n", b""):
        lines.append(response.readline())
    return b"".join(lines)


def _read_request(file: BinaryIO) -> tuple[bytes, bytes]:
    """Request line with headers, and the body as it is on the wire."""
    lines = []
    while (line := file.readline()) not in (b"\r\n", b""):
        lines.append(line)
    head = b"".join(lines)
    names = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
    if names.get(b"transfer-encoding", b"").lower() == b"chunked":
        return head, _read_chunks(file)
    return head, file.read(int(names.get(b"content-length", 0)))


def _read_chunks(file: BinaryIO) -> bytes:
    body = b""
    while True:
        line = file.readline()
        size = int(line.partition(b";")[0], 16)
        body += line + file.read(size + 2)
        if size == 0:
            return body


def _for(address: str, head: bytes, headers: Mapping[str, str]) -> bytes:
    """A request's head as the server at an address expects it, to be followed by the body."""
    first, *lines = head.removesuffix(b"\r\n").split(b"\r\n")
    kept = [line for line in lines if line.partition(b":")[0].lower() not in (b"host", b"connection")]
    present = {line.partition(b":")[0].strip().lower() for line in kept}
    own = [f"{name}: {value}".encode() for name, value in headers.items() if name.lower().encode() not in present]
    return b"\r\n".join([first, b"Host: " + address.encode(), b"Connection: close", *kept, *own, b"", b""])


def _written(answer: Answer, content: bytes, *, is_head: bool) -> bytes:
    """An answer as bytes; 504 in place of one that did not come."""
    if answer.status is None:
        answer, content = Answer(504, "Gateway Timeout"), answer.problem.encode()
    lines = [f"HTTP/1.1 {answer.status} {answer.reason}"]
    lines += [f"{name}: {value}" for name, value in answer.headers if name.lower() not in HOP_BY_HOP]
    lines += [f"Content-Length: {len(content)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1") + (b"" if is_head else content)
