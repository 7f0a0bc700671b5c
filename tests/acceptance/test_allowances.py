"""What people may use, told by the frontend: limits, credits, files, and the log of who did what."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import websocket

from comfyume.server_routes import traffic
from comfyume.tests.harness import graphs
from comfyume.tests.harness.client import Client, RequestRefused, status_of, wait_until
from comfyume.tests.harness.discovery import ComfyInstall
from comfyume.tests.harness.pair import Pair
from comfyume.tests.harness.people import add_users, basic, cookie_of

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(240),
    pytest.mark.parametrize("comfyui", ["new"], indirect=True, scope="session"),
]

#: A person for each test that sets limits of their own.
PEOPLE = ("ada", "bob", "cleo", "dan", "eve", "finn")


@pytest.fixture(scope="module")
def pair(comfyui: ComfyInstall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    env = {"COMFYUME_ACTIVITY_PROMPTS": "true"}
    with Pair(comfyui, tmp_path_factory.mktemp("allowances"), env=env, worker_node_packs=[graphs.PACK]) as running:
        add_users(running, {**dict.fromkeys(PEOPLE, "participant"), "ines": "instructor"})
        yield running


@pytest.fixture
def person(pair: Pair) -> Callable[..., Client]:
    return lambda name, **options: Client(pair.frontend.address, headers=basic(name), **options)


@pytest.fixture
def ines(person: Callable[..., Client]) -> Client:
    return person("ines", connect=False)


def send(client: Client, method: str, path: str, body: Any = None) -> Any:
    content = None if body is None else json.dumps(body).encode()
    answer = client.request(method, path, content, {"Content-Type": "application/json"})
    return json.loads(answer)


def refusal(request: Callable[[], Any]) -> tuple[int, dict[str, Any]]:
    """The status of what is refused, and why: ComfyUI's error at its routes, a problem at ours."""
    with pytest.raises(RequestRefused) as refused:
        request()
    body = refused.value.body
    return refused.value.status, body.get("error", body) if isinstance(body, dict) else {"body": body}


def logged(ines: Client, what: str, who: str) -> list[dict[str, Any]]:
    """What the activity log says of somebody, once it says something."""
    return wait_until(
        lambda: [entry for entry in ines.get("/comfyume/activity", user=who) if entry["what"] == what], 10
    )


def test_who_has_no_credits_left_is_told_so_and_goes_on_when_the_instructor_grants_some(
    person: Callable[..., Client], ines: Client
) -> None:
    send(ines, "PUT", "/comfyume/people/ada/limits", {"credits_hour": 0})
    with person("ada") as ada:
        status, error = refusal(lambda: ada.submit(graphs.image("poor")))
        assert (status, error["type"]) == (429, "limit_credits")
        assert "you have 0 that" in error["message"]
        assert ada.queue() == {"queue_running": [], "queue_pending": []}
        granted = send(ines, "POST", "/comfyume/people/ada/credits", {"credits": 2, "grant": "once"})
        again = send(ines, "POST", "/comfyume/people/ada/credits", {"credits": 2, "grant": "once"})
        assert granted["used"]["credits"] == again["used"]["credits"] == 2
        ada.run(graphs.image("rich"))
        told = ada.get("/comfyume/allowance")
        assert told["own"] == ["credits_hour"]
        assert 1.5 < told["used"]["credits"] < 2
        assert told["used"]["booked"] == 0
        assert 0 < told["used"]["gpu_day"] < 0.5
    everybody = {each["user"]: each for each in ines.get("/comfyume/people")}
    assert set(everybody) == {*PEOPLE, "ines"}
    assert everybody["ada"]["used"]["credits"] == told["used"]["credits"]
    grants = logged(ines, "grant", "ines")
    assert grants[0]["details"] == {"user": "ada", "credits": 2}


def test_a_limit_of_all_holds_for_who_has_none_of_their_own(person: Callable[..., Client], ines: Client) -> None:
    send(ines, "PUT", "/comfyume/limits", {"gpu_workshop": 0})
    try:
        bob = person("bob", connect=False)
        status, error = refusal(lambda: bob.submit(graphs.image("over")))
        assert (status, error["type"]) == (429, "limit_gpu_workshop")
        send(ines, "PUT", "/comfyume/people/bob/limits", {"gpu_workshop": None})
        bob.submit(graphs.image("over"))
    finally:
        assert send(ines, "PUT", "/comfyume/limits", {"gpu_workshop": None})["gpu_workshop"] is None


def test_whose_files_fill_their_space_is_told_so_saves_work_all_the_same_and_goes_on_after_deleting_some(
    person: Callable[..., Client], ines: Client
) -> None:
    mib = 1 / 1024
    send(ines, "PUT", "/comfyume/people/cleo/limits", {"disk": 3 * mib})
    cleo = person("cleo", connect=False)
    cleo.upload(b"x" * 2**20, "first.bin")
    status, error = refusal(lambda: cleo.upload(b"y" * (3 * 2**20), "large.bin"))
    assert (status, error["type"]) == (413, "limit_disk")
    assert "Delete some" in error["message"]
    cleo.upload(b"z" * 2**20, "second.bin")
    cleo.upload(b"z" * 900_000, "third.bin")
    send(ines, "PUT", "/comfyume/people/cleo/limits", {"disk": 2 * mib})
    # A limit is read again only after some seconds.
    wait_until(lambda: status_of(lambda: cleo.upload(b".", "tiny.bin", fields={"overwrite": "true"})) == 413, 10)
    status, error = refusal(lambda: cleo.submit(graphs.image("full")))
    assert (status, error["type"]) == (429, "limit_disk")
    cleo.request("POST", "/userdata/workflows%2Fsaved.json", b'{"work": "not lost"}')
    assert cleo.get("/userdata/workflows%2Fsaved.json") == {"work": "not lost"}
    used = cleo.get("/comfyume/allowance")["used"]["disk"]
    assert used == pytest.approx(2.86 * mib, abs=0.02 * mib)
    assert send(cleo, "DELETE", "/comfyume/files?kind=input&path=second.bin") == {"freed": 2**20}
    # And what was measured as too much is taken for true as well.
    wait_until(lambda: status_of(lambda: cleo.submit(graphs.image("room again"))) == 200, 10)


def test_an_upload_that_finds_no_space_says_so_in_its_status_line(
    person: Callable[..., Client], ines: Client, pair: Pair
) -> None:
    send(ines, "PUT", "/comfyume/people/dan/limits", {"disk": 0.0001})
    request = urllib.request.Request(
        f"http://{pair.frontend.address}/upload/image", b"x" * 2**20, basic("dan"), method="POST"
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=20)
    refused.value.close()
    assert refused.value.reason == "Your files take all the space that one person may use here"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("kind=input&path=../bob/own.txt", 404),
        ("kind=input&path=/etc/hostname", 404),
        ("kind=input&path=%2e%2e%2fbob%2fown.txt", 404),
        ("kind=input&path=gone.txt", 404),
        ("kind=input&path=x%00y", 404),
        ("kind=models&path=a", 400),
        ("kind=input", 400),
        ("path=own.txt", 400),
    ],
)
def test_nobody_deletes_what_is_not_theirs(person: Callable[..., Client], query: str, status: int) -> None:
    bob = person("bob", connect=False)
    bob.upload(b"of bob", "own.txt", fields={"overwrite": "true"})
    assert refusal(lambda: person("ada", connect=False).request("DELETE", f"/comfyume/files?{query}"))[0] == status
    assert bob.view("own.txt", type="input") == b"of bob"


def test_a_folder_and_all_previews_can_be_deleted(person: Callable[..., Client]) -> None:
    bob = person("bob", connect=False)
    bob.upload(b"123", "a.txt", fields={"subfolder": "deep/er"})
    bob.upload(b"4567", "b.txt", fields={"type": "temp"})
    assert send(bob, "DELETE", "/comfyume/files?kind=input&path=deep") == {"freed": 3}
    assert send(bob, "DELETE", "/comfyume/files?kind=temp")["freed"] >= 4
    assert refusal(lambda: bob.view("b.txt", type="temp"))[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "says"),
    [
        ("PUT", "/comfyume/limits", {"gpu_day": -1}, "gpu_day"),
        ("PUT", "/comfyume/limits", {"gpu_day": "usual"}, "gpu_day"),
        ("PUT", "/comfyume/limits", {"nothing": 1}, "nothing"),
        ("PUT", "/comfyume/limits", [1], "object"),
        ("PUT", "/comfyume/people/ada/limits", {"disk": "much"}, "disk"),
        ("POST", "/comfyume/people/ada/credits", {"credits": "1"}, "credits"),
        ("POST", "/comfyume/people/ada/credits", {}, "credits"),
        ("GET", "/comfyume/activity?limit=0", None, "limit"),
        ("GET", "/comfyume/activity?before=x", None, "before"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_name_of_it(
    ines: Client, method: str, path: str, body: Any, says: str
) -> None:
    status, problem = refusal(lambda: send(ines, method, path, body))
    assert (status, problem["type"]) == (400, "urn:comfyume:invalid-request")
    assert says in problem["detail"]


def test_limits_of_nobody_are_not_found(ines: Client) -> None:
    assert refusal(lambda: send(ines, "PUT", "/comfyume/people/nobody/limits", {}))[0] == 404
    assert refusal(lambda: send(ines, "POST", "/comfyume/people/nobody/credits", {"credits": 1}))[0] == 404


def test_the_activity_log_tells_who_did_what_and_keeps_no_password_and_no_key(
    person: Callable[..., Client], ines: Client, pair: Pair
) -> None:
    cookie_of(pair.frontend.address, "eve")
    key = f"key-{uuid.uuid4().hex}"
    with person("eve") as eve:
        prompt = graphs.image("a fox in the snow")
        job = eve.submit(prompt, extra_data={"api_key_comfy_org": key})
        eve.wait(job)
        eve.post("/history", {"clear": True})
    nobody = Client(pair.frontend.address, connect=False)
    for name in ("eve", "a-password-in-the-wrong-field"):
        body = {"user": name, "password": "wrong-one"}
        assert refusal(lambda body=body: nobody.post("/comfyume/sign-in", body))[0] == 401
    assert logged(ines, "sign-in", "eve")[0]["details"]["address"] == "127.0.0.1"
    assert logged(ines, "sign-in failed", "eve")
    assert logged(ines, "sign-in failed", "")
    submitted = logged(ines, "submit", "eve")[0]
    assert submitted["details"]["job"] == job
    assert "a fox in the snow" in submitted["details"]["prompt"]
    assert logged(ines, "clear history", "eve")
    everything = ines.get("/comfyume/activity", limit=1000)
    assert sorted(everything, key=lambda entry: [int(part) for part in entry["id"].split("-")], reverse=True) == (
        everything
    )
    told = json.dumps(everything)
    assert not [word for word in (key, "wrong-one", "a-password-in-the-wrong-field") if word in told]
    older = ines.get("/comfyume/activity", before=everything[1]["id"], limit=2)
    assert older == everything[2:4]


def test_who_is_open_too_often_is_told_and_others_are_not_held_up(person: Callable[..., Client], ines: Client) -> None:
    tabs = [person("finn") for _ in range(traffic.MOST_SOCKETS)]
    try:
        began = time.monotonic()
        with pytest.raises(websocket.WebSocketBadStatusException, match="429"):
            person("finn")
        assert time.monotonic() - began >= traffic.HELD_BACK
        with person("ada") as ada:
            ada.run(graphs.image("others"))
        assert tabs[0].queue()
        tabs.pop().close()
        deadline = time.monotonic() + 10
        while True:
            try:
                tabs.append(person("finn"))
                break
            except websocket.WebSocketBadStatusException:
                assert time.monotonic() < deadline
    finally:
        for tab in tabs:
            tab.close()
