"""A TCP proxy before a ComfyUI's port: it counts what workers ask for, and can cut a connection in the middle."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
from types import TracebackType
from typing import Literal

Direction = Literal["up", "down"]
_REQUEST = re.compile(rb"(GET|PUT|POST|DELETE) (/\S*) HTTP/1\.1\r\n")
_CHUNK = 64 * 1024


class Proxy:
    """Relays bytes to ``127.0.0.1:target`` and remembers them.

    Attributes:
        target: the port to relay to; may be set after the start.
        requests: method and path of each request, in order of arrival.
        moved: bytes relayed to the target (``up``) and from it (``down``).
    """

    def __init__(self) -> None:
        self.target = 0
        self.requests: list[tuple[str, str]] = []
        self.moved: dict[Direction, int] = {"up": 0, "down": 0}
        self.cuts = 0
        self._cut: tuple[Direction, int] | None = None
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """What to give a worker as the frontend's address."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut_once(self, direction: Direction, after: int) -> None:
        """Break the first connection that has moved ``after`` further bytes in a direction, by a reset."""
        self._cut = (direction, after)

    def files(self, method: str) -> list[str]:
        """The paths of file requests with a method."""
        return [path for verb, path in self.requests if verb == method and path.startswith("/comfyume/worker/files/")]

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    client.close()
                    continue
                for source, sink, direction in ((client, server, "up"), (server, client, "down")):
                    threading.Thread(target=self._relay, args=(source, sink, direction), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket, direction: Direction) -> None:
        rest = b""
        moved = 0
        try:
            while chunk := source.recv(_CHUNK):
                if direction == "up":
                    rest = self._note_requests(rest + chunk)
                with self._lock:
                    cut = self._cut is not None and self._cut[0] == direction and moved + len(chunk) > self._cut[1]
                    if cut:
                        self._cut = None
                        self.cuts += 1
                if cut:
                    for end in (source, sink):
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    break
                sink.sendall(chunk)
                moved += len(chunk)
                with self._lock:
                    self.moved[direction] += len(chunk)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def _note_requests(self, data: bytes) -> bytes:
        end = 0
        for match in _REQUEST.finditer(data):
            self.requests.append((match[1].decode(), match[2].decode(errors="replace")))
            end = match.end()
        return data[end:][-8192:]

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
