"""A small synchronous client of one ComfyUI server, for tests: HTTP and the browser's web socket."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import websocket

WAIT_SECONDS = 60.0


class RequestRefused(Exception):
    """The server answered with an error status; ``body`` is its JSON, or its text."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        try:
            self.body: Any = json.loads(text)
        except ValueError:
            self.body = text
        super().__init__(f"{status}: {text[:2000]}")


@dataclass(frozen=True)
class Event:
    """One message of the web socket: JSON (``kind`` is its type) or binary (``kind`` is its number as text)."""

    kind: str
    data: Any
    at: float = field(default_factory=time.monotonic)

    @property
    def prompt_id(self) -> str | None:
        """The job it is about, where it says so."""
        return self.data.get("prompt_id") if isinstance(self.data, dict) else None


class Client:
    """One browser's worth of requests.

    Args:
        address: ``host:port``.
        client_id: the browser's id; None makes one.
        headers: sent with every request and with the socket's handshake, as in a cookie.
        connect: open the web socket at once.
    """

    def __init__(
        self,
        address: str,
        *,
        client_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        connect: bool = True,
        timeout: float = WAIT_SECONDS,
    ) -> None:
        self.address = address
        self.client_id = client_id or uuid.uuid4().hex
        self.headers = dict(headers or {})
        self.timeout = timeout
        self.events: list[Event] = []
        self.socket: websocket.WebSocket | None = None
        if connect:
            self.connect()

    def connect(self, feature_flags: Mapping[str, Any] | None = None) -> Event:
        """Open the web socket and return its first event; ``feature_flags`` are sent as the interface sends its own."""
        self.close()
        self.socket = websocket.WebSocket()
        self.socket.connect(
            f"ws://{self.address}/ws?clientId={self.client_id}",
            header=[f"{name}: {value}" for name, value in self.headers.items()],
            timeout=self.timeout,
        )
        if feature_flags is not None:
            self.socket.send(json.dumps({"type": "feature_flags", "data": feature_flags}))
        return self.receive()

    def receive(self, timeout: float | None = None) -> Event:
        """Return the next event.

        Raises:
            TimeoutError: there was none in ``timeout`` seconds.
        """
        if self.socket is None:
            raise RuntimeError("connect the client first")
        self.socket.settimeout(self.timeout if timeout is None else max(timeout, 0.001))
        try:
            message = self.socket.recv()
        except websocket.WebSocketTimeoutException as error:
            last = [event.kind for event in self.events[-10:]]
            raise TimeoutError(f"no event from {self.address}; the last ones: {last}") from error
        if isinstance(message, str):
            parsed = json.loads(message)
            event = Event(parsed["type"], parsed.get("data"))
        else:
            event = Event(str(int.from_bytes(message[:4], "big")), bytes(message[4:]))
        self.events.append(event)
        return event

    def wait_for(self, condition: Callable[[Event], bool], timeout: float | None = None) -> list[Event]:
        """Return the events up to the first that fulfils the condition, that one included."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        seen: list[Event] = []
        while not seen or not condition(seen[-1]):
            seen.append(self.receive(deadline - time.monotonic()))
        return seen

    def submit(
        self,
        prompt: Mapping[str, Any],
        *,
        prompt_id: str | None = None,
        extra_data: Mapping[str, Any] | None = None,
        **body: Any,
    ) -> str:
        """Queue a prompt and return its id. Further keywords go into the request's body.

        Raises:
            RequestRefused: the prompt is not valid, or the server cannot take it.
        """
        request: dict[str, Any] = {"prompt": prompt, "client_id": self.client_id, **body}
        if prompt_id is not None:
            request["prompt_id"] = prompt_id
        if extra_data is not None:
            request["extra_data"] = dict(extra_data)
        return str(self.post("/prompt", request)["prompt_id"])

    def wait(self, prompt_id: str, timeout: float | None = None) -> list[Event]:
        """Return the events received until the job ended (``executing`` with no node, or an error or interruption)."""

        def ended(event: Event) -> bool:
            if event.prompt_id != prompt_id:
                return False
            if event.kind == "executing":
                return event.data.get("node") is None
            return event.kind in ("execution_error", "execution_interrupted")

        return self.wait_for(ended, timeout)

    def run(self, prompt: Mapping[str, Any], **options: Any) -> dict[str, Any]:
        """Queue a prompt, wait for its end and return its entry in the history."""
        prompt_id = self.submit(prompt, **options)
        self.wait(prompt_id)
        return dict(self.history(prompt_id)[prompt_id])

    def history(self, prompt_id: str | None = None, **query: object) -> dict[str, Any]:
        """Return ``/history``, or the entry of one job in it."""
        return dict(self.get("/history" + (f"/{prompt_id}" if prompt_id else ""), **query))

    def queue(self) -> dict[str, Any]:
        """Return ``/queue``: ``queue_running`` and ``queue_pending``."""
        return dict(self.get("/queue"))

    def interrupt(self, prompt_id: str | None = None) -> None:
        """Interrupt one job, or what runs."""
        self.post("/interrupt", {"prompt_id": prompt_id} if prompt_id else {})

    def view(self, filename: str, subfolder: str = "", type: str = "output") -> bytes:  # noqa: A002 - ComfyUI's name
        """Return the content of a file as the browser gets it."""
        query = urllib.parse.urlencode({"filename": filename, "subfolder": subfolder, "type": type})
        return self.request("GET", f"/view?{query}")

    def upload(
        self,
        content: bytes,
        filename: str,
        *,
        route: str = "/upload/image",
        fields: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Upload a file as the interface does; returns its ``name``, ``subfolder`` and ``type``."""
        boundary = uuid.uuid4().hex
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in (fields or {}).items()
        ]
        parts.append(
            f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{filename}"\r\n'
            f"Content-Type: application/octet-stream\r\n\r\n".encode()
            + content
            + f"\r\n--{boundary}--\r\n".encode()
        )
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return dict(json.loads(self.request("POST", route, b"".join(parts), headers)))

    def get(self, path: str, **query: object) -> Any:
        """Return the JSON of a GET request; queries that are None are left out."""
        words = urllib.parse.urlencode({name: value for name, value in query.items() if value is not None})
        return json.loads(self.request("GET", f"{path}?{words}" if words else path))

    def post(self, path: str, body: Any = None) -> Any:
        """Send JSON; return the answer's JSON, or None where there is none."""
        content = json.dumps({} if body is None else body).encode()
        answer = self.request("POST", path, content, {"Content-Type": "application/json"})
        try:
            return json.loads(answer)
        except ValueError:
            return None

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """Send one request and return the body of its answer.

        Raises:
            RequestRefused: the status is 400 or more.
        """
        url = f"http://{self.address}{path}"
        request = urllib.request.Request(url, body, {**self.headers, **(headers or {})}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:
                return bytes(response.read())
        except urllib.error.HTTPError as error:
            with error:
                raise RequestRefused(error.code, error.read().decode(errors="replace")) from None

    def close(self) -> None:
        """Close the web socket."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def wait_until(condition: Callable[[], Any], timeout: float = 20.0) -> Any:
    """Wait for something that no event announces, and return it."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)
    return found


def status_of(request: Callable[[], Any]) -> int:
    """The status of what a client asks; 200 for all that is not refused."""
    try:
        request()
    except RequestRefused as error:
        return error.status
    return 200
