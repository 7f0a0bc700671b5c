"""Two people on one frontend: each finds their own ComfyUI, and nothing in it is the other's."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import websocket

from comfyume.tests.acceptance.test_native_routes import started
from comfyume.tests.harness import graphs
from comfyume.tests.harness.client import Client, RequestRefused, status_of, wait_until
from comfyume.tests.harness.discovery import ComfyInstall
from comfyume.tests.harness.pair import Pair
from comfyume.tests.harness.people import add_users, basic, cookie_of, end_sessions, wait_until_known
from comfyume.tests.harness.processes import ComfyProcess

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]


@dataclass(frozen=True)
class Workshop:
    """A workshop with two participants and an instructor."""

    pair: Pair

    def client(self, name: str, **options: Any) -> Client:
        return Client(self.pair.frontend.address, headers=basic(name), **options)


@pytest.fixture(scope="module")
def workshop(comfyui: ComfyInstall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with Pair(comfyui, tmp_path_factory.mktemp(f"people-{comfyui.label}"), worker_node_packs=[graphs.PACK]) as pair:
        add_users(pair, {"ada": "participant", "bob": "participant", "ines": "instructor"})
        yield Workshop(pair)


@pytest.fixture
def ada(workshop: Workshop) -> Iterator[Client]:
    with workshop.client("ada") as client:
        yield client


@pytest.fixture
def bob(workshop: Workshop) -> Iterator[Client]:
    with workshop.client("bob") as client:
        yield client


def everything_told(client: Client) -> str:
    """All that a person can read of queue, history, files and nodes."""
    answers = [client.get(path) for path in ("/queue", "/history", "/prompt", "/users", "/settings", "/comfyume/jobs")]
    answers += [client.get("/api/jobs"), client.get("/object_info/LoadImage"), client.get("/userdata", dir="workflows")]
    answers += [client.get("/v2/userdata"), client.get("/internal/files/output"), client.get("/internal/files/input")]
    return json.dumps(answers) + repr(client.events)


def test_nobody_is_let_in_without_a_name(workshop: Workshop) -> None:
    nobody = Client(workshop.pair.frontend.address, connect=False)
    for path in ("/", "/queue", "/api/history", "/object_info", "/view?filename=a.png", "/comfyume/jobs"):
        assert status_of(lambda path=path: nobody.request("GET", path)) == 401
    assert status_of(lambda: nobody.submit(graphs.image("x"))) == 401
    for headers in (basic("ada", "wrong"), basic("nobody"), {"Authorization": "Basic ???"}, {"comfy-user": "ada"}):
        stranger = Client(workshop.pair.frontend.address, headers=headers, connect=False)
        assert status_of(lambda stranger=stranger: stranger.queue()) == 401
        with pytest.raises(websocket.WebSocketBadStatusException):
            stranger.connect()
    assert nobody.get("/comfyume/health")["status"] == "ok"


def test_the_same_work_of_two_people_stays_apart(ada: Client, bob: Client) -> None:
    for client, name in ((ada, "ada"), (bob, "bob")):
        client.upload(f"the picture of {name}".encode(), "same.png")
        client.request("POST", "/userdata/workflows%2Fsame.json", json.dumps({"of": name}).encode())
        client.post("/settings", {"Comfy.Same": name})
    prompt = graphs.image("same")
    results = {name: client.run(prompt) for client, name in ((ada, "ada"), (bob, "bob"))}
    files = {name: result["outputs"]["2"]["images"][0] for name, result in results.items()}
    assert files["ada"] == files["bob"], "each has a first picture of their own"
    for client, name in ((ada, "ada"), (bob, "bob")):
        assert client.view("same.png", type="input") == f"the picture of {name}".encode()
        assert json.loads(client.request("GET", "/userdata/workflows%2Fsame.json")) == {"of": name}
        assert client.get("/settings")["Comfy.Same"] == name
        assert len(client.history()) == 1
        assert client.view(**files[name]).startswith(b"\x89PNG")
        assert client.get("/userdata", dir="workflows") == ["same.json"]


def test_nothing_of_one_is_told_to_the_other(ada: Client, bob: Client, tmp_path: Any) -> None:
    word = f"word{uuid.uuid4().hex}"
    ada.upload(b"x", f"{word}.png")
    ada.request("POST", f"/userdata/workflows%2F{word}.json", b"{}")
    bob.request("POST", "/userdata/workflows%2Fof-bob.json?overwrite=true", b"{}")
    ada.post("/settings", {f"Comfy.{word}": 1})
    before = everything_told(bob)
    gate = tmp_path / "gate"
    running = ada.submit(graphs.gated(gate), extra_data={"extra_pnginfo": {"workflow": {"id": word}}})
    started(ada, running)
    waiting = ada.submit(graphs.image(word), extra_data={"extra_pnginfo": {"workflow": {"id": word}}})
    during = everything_told(bob)
    assert word in everything_told(ada)
    ids = (running, waiting)
    for told in (before, during):
        assert not [each for each in (word, *ids) if each in told]
    assert bob.get("/prompt")["exec_info"]["queue_remaining"] == 0
    # What belongs to somebody else is not there, and stays as it is.
    for job_id in ids:
        assert bob.history(job_id) == {}
        assert status_of(lambda job_id=job_id: bob.get(f"/api/jobs/{job_id}")) == 404
        bob.interrupt(job_id)
    bob.interrupt()
    bob.post("/queue", {"delete": list(ids)})
    bob.post("/queue", {"clear": True})
    assert len(ada.queue()["queue_running"]) == len(ada.queue()["queue_pending"]) == 1
    gate.touch()
    ada.wait(waiting)
    bob.post("/history", {"delete": list(ids)})
    bob.post("/history", {"clear": True})
    assert set(ids) <= set(ada.history())
    name = ada.history(waiting)[waiting]["outputs"]["2"]["images"][0]["filename"]
    assert status_of(lambda: bob.view(name)) == 404
    assert status_of(lambda: bob.view(f"{word}.png", type="input")) == 404
    assert not [each for each in (word, *ids) if each in everything_told(bob)]


def test_a_client_id_is_its_owners(workshop: Workshop, ada: Client, bob: Client) -> None:
    with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
        workshop.client("bob", client_id=ada.client_id)
    # A prompt that names another's browser runs, and that browser hears nothing of it.
    job = bob.submit(graphs.image("named"), client_id=ada.client_id)
    wait_until(lambda: job in bob.history())
    own = ada.submit(graphs.image("own"))
    assert not [event for event in ada.wait(own) if event.prompt_id == job]
    with workshop.client("ada", client_id=ada.client_id) as again:
        assert again.events[0].kind == "status"


def test_the_same_prompt_of_another_is_answered_from_cache_with_a_file_of_ones_own(ada: Client, bob: Client) -> None:
    prompt = graphs.image(graphs.name("cached"), color=graphs.number() % 2**24)
    first = ada.run(prompt)
    second = bob.run(prompt)
    messages = dict(second["status"]["messages"])
    assert messages["execution_cached"]["nodes"] == ["1"], "what is upstream of the file is not made again"
    assert first["outputs"] == second["outputs"], "each is the first of its name at its person's"
    for client, result in ((ada, first), (bob, second)):
        assert client.view(**result["outputs"]["2"]["images"][0]).startswith(b"\x89PNG")
    again = bob.run(prompt)
    assert dict(again["status"]["messages"])["execution_cached"]["nodes"] == ["1", "2"]


def test_files_of_the_same_name_are_not_taken_for_one_another(ada: Client, bob: Client) -> None:
    name = f"{graphs.name()}.txt"
    texts = {}
    for client, text in ((ada, "of ada"), (bob, "of bob"), (ada, "of ada, later")):
        client.upload(text.encode(), name, fields={"overwrite": "true"})
        texts[text] = client.run(graphs.read_text(name))["outputs"]["2"]["text"]
    assert texts == {text: [text] for text in texts}


def test_only_the_instructor_jumps_the_queue(workshop: Workshop, ada: Client, tmp_path: Any) -> None:
    gate = tmp_path / "gate"
    running = ada.submit(graphs.gated(gate))
    started(ada, running)
    usual = ada.submit(graphs.image("usual"))
    jumping = [ada.submit(graphs.image("front"), front=True), ada.submit(graphs.image("number"), number=-1e9)]
    order = [item[1] for item in sorted(ada.queue()["queue_pending"], key=lambda item: item[0])]
    assert order == [usual, *jumping]
    with workshop.client("ines") as ines:
        behind = ines.submit(graphs.image("behind"))
        ahead = ines.submit(graphs.image("ahead"), front=True)
        order = [item[1] for item in sorted(ines.queue()["queue_pending"], key=lambda item: item[0])]
        assert order == [ahead, behind]
        gate.touch()
        ines.wait(behind)
    ada.wait(jumping[-1])


def test_an_address_of_ones_own_is_the_same_comfyui_for_nobody_else(
    workshop: Workshop, ada: Client, bob: Client
) -> None:
    name = f"workflows%2F{graphs.name()}%20%C3%A4.json"
    ada.request("POST", f"/ada/api/userdata/{name}?overwrite=true", b'{"at": "home"}')
    assert json.loads(ada.request("GET", f"/userdata/{name}")) == {"at": "home"}
    assert json.loads(ada.request("GET", f"/ADA/userdata/{name}")) == {"at": "home"}
    assert b"<html" in ada.request("GET", "/ada/")
    assert b"<html" in ada.request("GET", "/ada"), "which leads to the folder"
    job = ada.post("/ada/prompt", {"prompt": graphs.image(graphs.name()), "client_id": ada.client_id})["prompt_id"]
    ada.wait(job)
    assert job in ada.get("/ada/api/history")
    for path in ("/ada/", "/ada/api/queue", f"/ada/userdata/{name}", "/ada/comfyume/me"):
        assert status_of(lambda path=path: bob.request("GET", path)) == 403
        nobody = Client(workshop.pair.frontend.address, connect=False)
        assert status_of(lambda path=path, nobody=nobody: nobody.request("GET", path)) == 401
    assert status_of(lambda: ada.request("GET", "/carl/")) == 403
    assert status_of(lambda: ada.request("GET", "/ada/ada/")) == 403
    at_home = websocket.create_connection(
        f"ws://{workshop.pair.frontend.address}/ada/ws?clientId={uuid.uuid4().hex}",
        header=[f"{key}: {value}" for key, value in basic("ada").items()],
        timeout=20,
    )
    assert json.loads(at_home.recv())["type"] == "status"
    at_home.close()


def test_a_frontend_of_ones_own_serves_nobody_else(workshop: Workshop, comfyui: ComfyInstall, tmp_path: Path) -> None:
    room = workshop.pair
    environment = {"COMFYUME_USER": "Ada"}
    with ComfyProcess(
        comfyui, tmp_path, mode="frontend", store_url=room.store.url, workshop=room.workshop, env=environment
    ) as own:
        wait_until_known(own.address)
        with Client(own.address, headers=basic("ada")) as ada:
            assert ada.run(graphs.image(graphs.name()))["status"]["completed"]
        for name in ("bob", "ines"):
            stranger = Client(own.address, headers=basic(name), connect=False)
            for path in ("/queue", f"/{name}/queue", "/ada/queue"):
                assert status_of(lambda stranger=stranger, path=path: stranger.get(path)) == 403


def test_a_graph_names_no_file_of_another(workshop: Workshop, ada: Client, bob: Client) -> None:
    made = ada.run(graphs.image(name := graphs.name()))
    assert made["status"]["completed"]
    (picture,) = workshop.pair.folder.rglob(f"ada/{name}_00001_.png")
    for wanted in (str(picture), f"{picture} [output]", "../ada/" + picture.name, f"../ada/{picture.name} [output]"):
        with pytest.raises(RequestRefused) as refused:
            bob.submit(graphs.load(wanted))
        assert refused.value.status == 400


def wait_closed(client: Client) -> None:
    """Wait until the server has closed a socket."""
    assert client.socket is not None
    client.socket.settimeout(20)
    while client.socket.recv_data()[0] != websocket.ABNF.OPCODE_CLOSE:
        continue
    # The library takes it for closed, and leaves its own end open.
    client.socket.shutdown()


def test_who_is_signed_out_hears_nothing_more(workshop: Workshop, ada: Client) -> None:
    address = workshop.pair.frontend.address
    with (
        Client(address, headers=cookie_of(address, "ada")) as here,
        Client(address, headers=cookie_of(address, "ada")) as there,
    ):
        here.post("/comfyume/sign-out")
        wait_closed(here)
        assert status_of(here.queue) == 401
        assert there.run(graphs.image(graphs.name()))["status"]["completed"]
        end_sessions(workshop.pair.store.url, workshop.pair.workshop, "ada")
        wait_closed(there)
    assert ada.run(graphs.image(graphs.name()))["status"]["completed"], "a script with a password is not signed in"


def test_the_instructors_routes_are_the_instructors(workshop: Workshop, ada: Client) -> None:
    ines = workshop.client("ines", connect=False)
    for method, path in (("POST", "/free"), ("GET", "/internal/logs"), ("GET", "/api/internal/folder_paths")):
        assert (
            status_of(lambda path=path, method=method: ada.request(method, path, b"{}" if method == "POST" else None))
            == 403
        )
    assert ines.get("/internal/folder_paths")
