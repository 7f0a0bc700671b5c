"""How long a server takes to answer, asked again and again over one connection by a process of its own.

Run by path it is that process: ``python pings.py ADDRESS PATH PAUSE``. It asks until its standard input ends, and then
writes the seconds that each answer took as JSON.
"""

from __future__ import annotations

import http.client
import json
import select
import subprocess
import sys
import time
from types import TracebackType


class Pings:
    """Asks while the context lasts; ``times`` are then the seconds of each answer, in order.

    Args:
        pause: seconds from an answer to the next question.
    """

    def __init__(self, address: str, path: str, pause: float = 0.005) -> None:
        self._command = [sys.executable, __file__, address, path, str(pause)]
        self.times: list[float] = []

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Pings:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"asking\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        output, _ = self._process.communicate(timeout=20)
        if kind is None:
            self.times = json.loads(output)


def ask(address: str, path: str, pause: float) -> None:
    connection = http.client.HTTPConnection(address, timeout=20)
    connection.connect()
    opened = connection.sock
    times: list[float] = []
    print("asking", flush=True)
    while not select.select([sys.stdin], [], [], pause)[0]:
        began = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        times.append(time.perf_counter() - began)
        assert answer.status == 200, answer.status
        assert connection.sock is opened, "the connection was closed"
    print(json.dumps(times))


if __name__ == "__main__":
    ask(sys.argv[1], sys.argv[2], float(sys.argv[3]))
