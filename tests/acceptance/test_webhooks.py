"""A job that names an address has its end told there, signed, until somebody has taken it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from comfyume.tests.harness import graphs
from comfyume.tests.harness.client import Client, RequestRefused, wait_until
from comfyume.tests.harness.pair import Pair

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.parametrize("comfyui", ["new"], indirect=True, scope="session"),
]


class Receiver(ThreadingHTTPServer):
    """Takes what it is told, but not at the first time."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.told: list[tuple[dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/done"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.told.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(500 if len(self.server.told) == 1 else 204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_an_end_is_told_signed_and_again_until_it_is_taken(pair: Pair, receiver: Receiver) -> None:
    client = Client(pair.frontend.address, connect=False)
    prefix = graphs.name("hook")
    job = client.post("/comfyume/jobs", {"prompt": graphs.image(prefix), "webhook": receiver.url})["id"]
    wait_until(lambda: len(receiver.told) == 2, 30)
    (first, _), (headers, body) = receiver.told
    assert first["webhook-id"] == headers["webhook-id"]
    told = json.loads(body)
    assert (told["type"], told["data"]["id"], told["data"]["state"]) == ("job.ended", job, "done")
    assert [file["filename"] for file in told["data"]["files"]] == [f"{prefix}_00001_.png"]
    secret = base64.b64decode(client.get("/comfyume/webhook-secret")["secret"].removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    wanted = base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{wanted}"
    with pair.store.client() as store:
        wait_until(lambda: store.xlen(f"comfyume:{{{pair.workshop}}}:webhooks") == 0, 10)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.2/",
        "http://[::1]/",
        "http://169.254.169.254/latest",
        "http://10.0.0.1/",
        "file:///x",
        7,
        "http://[",
    ],
)
def test_no_webhook_goes_into_the_servers_own_network(pair: Pair, url: Any) -> None:
    client = Client(pair.frontend.address, connect=False)
    with pytest.raises(RequestRefused) as refused:
        client.post("/comfyume/jobs", {"prompt": graphs.image(graphs.name("ssrf")), "webhook": url})
    assert (refused.value.status, refused.value.body["type"]) == (400, "urn:comfyume:invalid-webhook")
    assert client.queue() == {"queue_running": [], "queue_pending": []}


def test_a_name_that_leads_into_the_servers_own_network_is_not_called(pair: Pair, receiver: Receiver) -> None:
    client = Client(pair.frontend.address, connect=False)
    inside = receiver.url.replace("127.0.0.1", "localhost")
    first = client.post("/comfyume/jobs", {"prompt": graphs.image(graphs.name("inside")), "webhook": inside})["id"]
    second = client.post("/comfyume/jobs", {"prompt": graphs.image(graphs.name("outside")), "webhook": receiver.url})[
        "id"
    ]
    wait_until(lambda: len(receiver.told) == 2, 30)
    assert {json.loads(body)["data"]["id"] for _, body in receiver.told} == {second} != {first}
