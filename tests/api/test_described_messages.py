"""What a frontend tells of its own accord is as docs/openapi.yaml describes it: feeds over the socket, and webhooks."""

from __future__ import annotations

import json
import queue
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from comfyume.tests.api.stress import OWN_DESCRIPTION
from comfyume.tests.harness import graphs
from comfyume.tests.harness.client import Client, Event
from comfyume.tests.harness.pair import Pair

jsonschema_rs = pytest.importorskip("jsonschema_rs")
pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.parametrize("comfyui", ["new"], indirect=True, scope="session"),
]

DESCRIPTION: dict[str, Any] = yaml.safe_load(OWN_DESCRIPTION.read_text(encoding="utf-8"))


def send(client: Client, method: str, path: str, body: Any = None) -> Any:
    content = None if body is None else json.dumps(body).encode()
    return json.loads(client.request(method, path, content, {"Content-Type": "application/json"}) or b"null")


def errors(schema: Mapping[str, Any], value: Any) -> list[str]:
    """What of a value is not as a schema of the description has it."""
    validator = jsonschema_rs.validator_for({**schema, "components": DESCRIPTION["components"]})
    return [f"{error} in {value}" for error in validator.iter_errors(value)]


def named(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def of(topic: str, condition: Callable[[Any], Any]) -> Callable[[Event], bool]:
    """Whether an event is of a topic, and fulfils a condition."""
    return lambda event: event.kind == f"comfyume.{topic}" and bool(condition(event.data))


def test_what_feeds_tell_is_as_it_is_described(pair: Pair, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with Client(pair.frontend.address) as page:
        for topic in ("jobs", "workshop"):
            send(page, "PUT", f"/comfyume/feeds/{topic}?client={page.client_id}")
        first = page.submit(graphs.gated(gate))
        page.wait_for(of("workshop", lambda change: '"max": 1000' in json.dumps(change)))
        ids = [page.submit(graphs.image(graphs.name("feed"))) for _ in range(2)]
        page.wait_for(of("jobs", lambda own: len(own["jobs"]) == 3))
        for change in ({"held": True}, {"held": False}, {"level": "front"}):
            send(page, "PATCH", "/comfyume/jobs", {"ids": ids[1:], **change})
            page.wait_for(of("workshop", lambda told: "jobs" in told))
        send(page, "PATCH", "/comfyume/queue", {"mode": "fifo"})
        page.wait_for(of("workshop", lambda told: told.get("queue", {}).get("mode") == "fifo"))
        gate.touch()
        page.wait_for(of("jobs", lambda own: not own["jobs"]))
        own = [event.data for event in page.events if event.kind == "comfyume.jobs"]
        changes = [event.data for event in page.events if event.kind == "comfyume.workshop"]
    parts = {part for change in changes for part in (*change, *change.get("jobs", {}))}
    assert parts >= {"queue", "workers", "jobs", "set", "gone", "moved"}
    assert first in {job["id"] for told in own for job in told["jobs"] if job["progress"]}
    assert [error for told in own for error in errors(named("OwnQueue"), told)] == []
    assert [error for told in changes for error in errors(named("WorkshopChange"), told)] == []


@pytest.fixture
def told() -> Iterator[tuple[str, queue.Queue[tuple[dict[str, str], bytes]]]]:
    """An address for webhooks, and what arrives there: headers and body."""
    arrived: queue.Queue[tuple[dict[str, str], bytes]] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            arrived.put((headers, self.rfile.read(int(headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", arrived
        server.shutdown()
        thread.join()


def test_what_a_webhook_is_sent_is_as_it_is_described(
    pair: Pair, told: tuple[str, queue.Queue[tuple[dict[str, str], bytes]]]
) -> None:
    url, arrived = told
    described = DESCRIPTION["webhooks"]["jobEnded"]["post"]
    client = Client(pair.frontend.address, connect=False)
    prompt = graphs.image(graphs.name("hook"))
    job = send(client, "POST", "/comfyume/jobs", {"prompt": prompt, "webhook": url})["id"]
    headers, body = arrived.get(timeout=30)
    value = json.loads(body)
    assert value["data"]["id"] == job
    assert errors(described["requestBody"]["content"]["application/json"]["schema"], value) == []
    for parameter in described["parameters"]:
        assert re.search(parameter["schema"]["pattern"], headers[parameter["name"]]), parameter["name"]
