"""What is wrong gets ComfyUI's own answer, and changes nothing."""

from __future__ import annotations

import http.client
import json
import uuid
from typing import Any

import pytest

from comfyume.job_queue.keys import Keys
from comfyume.tests.acceptance.conftest import Room
from comfyume.tests.harness import graphs
from comfyume.tests.harness.client import Client, RequestRefused
from comfyume.tests.harness.graphs import node
from comfyume.tests.harness.processes import ComfyProcess

pytestmark = pytest.mark.acceptance


def post(address: str, path: str, body: bytes, kind: str = "application/json") -> tuple[int, bytes]:
    """The status and body of an answer, whatever it is."""
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.request("POST", path, body, {"Content-Type": kind})
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer


def prompt(graph: Any, **more: Any) -> bytes:
    return json.dumps({"prompt": graph, **more}).encode()


CYCLE = {
    "1": node("ImageInvert", image=["2", 0]),
    "2": node("ImageInvert", image=["1", 0]),
    "3": node("PreviewImage", images=["2", 0]),
}
WRONG = {
    "malformed JSON": ("/prompt", b"{not json"),
    "no object": ("/prompt", b"[1, 2]"),
    "no prompt": ("/prompt", b"{}"),
    "a prompt that is a list": ("/prompt", prompt([1, 2])),
    "a prompt that is a string": ("/prompt", prompt("graph")),
    "an empty graph": ("/prompt", prompt({})),
    "a node without a class": ("/prompt", prompt({"1": {"inputs": {}}})),
    "a node that is a list": ("/prompt", prompt({"1": [1]})),
    "an unknown node": ("/prompt", prompt({"1": node("NoSuchNode")})),
    "an unknown node beside a good one": ("/prompt", prompt({**graphs.image("x"), "9": node("NoSuchNode")})),
    "no output": ("/prompt", prompt({"1": node("EmptyImage", width=1, height=1, batch_size=1, color=0)})),
    "a missing input": ("/prompt", prompt({"1": node("SaveImage", filename_prefix="x")})),
    "a missing inputs field": ("/prompt", prompt({"1": {"class_type": "SaveImage"}})),
    "a link to nowhere": ("/prompt", prompt({"1": node("SaveImage", images=["7", 0], filename_prefix="x")})),
    "a value out of range": (
        "/prompt",
        prompt({**graphs.image("x"), "1": node("EmptyImage", width=0, height=1, batch_size=1, color=0)}),
    ),
    "a value of a wrong type": (
        "/prompt",
        prompt({**graphs.image("x"), "1": node("EmptyImage", width="w", height=1, batch_size=1, color=0)}),
    ),
    "a link of a wrong type": (
        "/prompt",
        prompt({**graphs.image("x"), "2": node("SaveLatent", samples=["1", 0], filename_prefix="x")}),
    ),
    "a cycle": ("/prompt", prompt(CYCLE)),
    "an image that is not there": ("/prompt", prompt(graphs.load("no-such-file.png", "x"))),
    "an image above the folder": ("/prompt", prompt(graphs.load("../../etc/passwd", "x"))),
    "an id that is no UUID": ("/prompt", prompt(graphs.image("x"), prompt_id="../x")),
    "an id that is a number": ("/prompt", prompt(graphs.image("x"), prompt_id=7)),
    "a number that is none": ("/prompt", prompt(graphs.image("x"), number="soon")),
    "extra data that is a list": ("/prompt", prompt(graphs.image("x"), extra_data=[1])),
    "a queue without JSON": ("/queue", b"{"),
    "a history without JSON": ("/history", b"{"),
    "jobs that are no list": ("/api/jobs/cancel", b'{"job_ids": 7}'),
}
#: Where ComfyUI 0.11 accepts what 0.33 refuses, there is nothing to compare for this test.
OLD_ACCEPTS = {"an id that is no UUID", "an id that is a number", "a cycle", "jobs that are no list"}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_answered_as_comfyui_answers(room: Room, vanilla: ComfyProcess, case: str) -> None:
    if not room.is_new and case in OLD_ACCEPTS:
        pytest.skip("this ComfyUI does not refuse it")
    path, body = WRONG[case]
    ours, theirs = post(room.frontend.address, path, body), post(vanilla.address, path, body)
    # ComfyUI stumbles over some of these, and says that it is its own mistake.
    assert ours[0] == (400 if theirs[0] == 500 and path == "/prompt" else theirs[0])
    assert ours[0] >= 400
    if theirs[0] == 400 and theirs[1].startswith(b"{"):
        mine, wanted = json.loads(ours[1]), json.loads(theirs[1])
        if case == "a cycle":
            for answer in (mine, wanted):
                _blank(answer, "traceback")
        assert mine == wanted
    with Client(room.frontend.address, connect=False) as client:
        assert client.queue() == {"queue_running": [], "queue_pending": []}


def _blank(value: Any, name: str) -> None:
    if isinstance(value, dict):
        value.pop(name, None)
        for item in value.values():
            _blank(item, name)
    elif isinstance(value, list):
        for item in value:
            _blank(item, name)


@pytest.mark.parametrize(
    ("filename", "fields"),
    [
        ("../escape.png", {}),
        ("sub/../../escape.png", {}),
        ("/tmp/escape.png", {}),  # noqa: S108 - must not be written
        ("a.png", {"subfolder": "../.."}),
        ("a.png", {"subfolder": "/tmp"}),  # noqa: S108 - as above
        ("a.png", {"type": "nonsense"}),
    ],
)
@pytest.mark.parametrize("route", ["/upload/image", "/upload/mask"])
def test_an_upload_leads_nowhere_else(
    room: Room, vanilla: ComfyProcess, filename: str, fields: dict[str, str], route: str
) -> None:
    name = f"{uuid.uuid4().hex}"
    answers = []
    for process in (room.frontend, vanilla):
        with Client(process.address, connect=False) as client:
            try:
                answer = client.upload(
                    b"x",
                    filename.replace("escape", name),
                    route=route,
                    fields={"original_ref": '{"filename": "a.png", "type": "input"}', **fields},
                )
                answers.append(sorted(answer))
            except RequestRefused as refused:
                answers.append(refused.status)
    assert answers[0] == answers[1]
    inside = room.frontend.base / "input"
    written = [path for path in room.pair.folder.rglob(f"{name}*") if not path.is_relative_to(inside)]
    assert written == []


@pytest.mark.parametrize(
    "query", ["filename=../../comfyui.db", "filename=a.png&subfolder=../..", "filename=a&type=nonsense", ""]
)
def test_a_view_leads_nowhere_else(room: Room, vanilla: ComfyProcess, query: str) -> None:
    statuses = []
    for process in (room.frontend, vanilla):
        with Client(process.address, connect=False) as client, pytest.raises(RequestRefused) as refused:
            client.request("GET", f"/view?{query}")
        statuses.append(refused.value.status)
    assert statuses[0] == statuses[1]


def test_a_worker_route_needs_a_claim(room: Room) -> None:
    with Client(room.frontend.address, connect=False) as client:
        job = str(uuid.uuid4())
        for method in ("GET", "PUT"):
            with pytest.raises(RequestRefused) as refused:
                client.request(
                    method, f"/comfyume/worker/files/{job}?kind=output&name=a", b"x" if method == "PUT" else None
                )
            assert refused.value.status == 403


def test_a_prompt_over_the_limit_is_refused_with_the_number_and_changes_nothing(room: Room) -> None:
    policy = Keys(room.pair.workshop).policy
    with Client(room.pair.frontend.address) as client, room.pair.store.client() as store:
        store.hset(policy, "per_person", "0")
        try:
            with pytest.raises(RequestRefused) as refused:
                client.submit(graphs.image("one too many"))
            assert refused.value.status == 429
            assert refused.value.body["error"]["type"] == "limit_per_person"
            assert "0 prompts" in refused.value.body["error"]["message"]
            assert client.queue() == {"queue_running": [], "queue_pending": []}
        finally:
            store.hset(policy, "per_person", "500")
        assert client.run(graphs.image("within the limit"))["status"]["completed"]
