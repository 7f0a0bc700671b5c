"""Models that participants bring: in their own lists and jobs alone, and in everybody's once the instructor says so."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from comfyume.blobs.protocol import SIZE_HEADER
from comfyume.tests.acceptance.test_files import color_of, images_of
from comfyume.tests.harness import graphs
from comfyume.tests.harness.client import Client, Event, RequestRefused, status_of, wait_until
from comfyume.tests.harness.discovery import ComfyInstall
from comfyume.tests.harness.graphs import node
from comfyume.tests.harness.pair import Pair
from comfyume.tests.harness.people import add_users, basic

pytestmark = [pytest.mark.acceptance, pytest.mark.seams, pytest.mark.timeout(240)]
new_only = pytest.mark.parametrize("comfyui", ["new"], indirect=True, scope="session")
PEOPLE = {"ada": "participant", "bob": "participant", "ines": "instructor"}


def lora(shade: int, filling: int = 0) -> bytes:
    """A safetensors file with a tensor of one number, and another of so many bytes."""
    tensors = {"shade": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}
    if filling:
        tensors["filling"] = {"dtype": "U8", "shape": [filling], "data_offsets": [1, 1 + filling]}
    header = json.dumps(tensors).encode()
    return struct.pack("<Q", len(header)) + header + bytes([shade]) + bytes(filling)


@pytest.fixture(scope="module")
def workshop(comfyui: ComfyInstall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with Pair(
        comfyui,
        tmp_path_factory.mktemp(f"models-{comfyui.label}"),
        env={"COMFYUME_MODEL_UPLOAD_GIB": "0.1"},
        worker_node_packs=[graphs.PACK],
        worker_model_files={"loras/everybodys.safetensors": lora(1)},
    ) as pair:
        add_users(pair, PEOPLE)
        yield pair


@pytest.fixture
def people(workshop: Pair) -> Iterator[dict[str, Client]]:
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(Client(workshop.frontend.address, headers=basic(name))) for name in PEOPLE}


def address(name: str, folder: str = "loras") -> str:
    return f"/comfyume/my-models/{folder}/{quote(name)}"


def bring(person: Client, name: str, content: bytes, folder: str = "loras") -> dict[str, Any]:
    sizes = {SIZE_HEADER: str(len(content))}
    return dict(json.loads(person.request("PUT", address(name, folder), content, sizes)))


def refused(person: Client, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
    with pytest.raises(RequestRefused) as error:
        person.request(method, path, body, headers)
    return error.value.status, error.value.body["detail"]


def shade(name: str) -> graphs.Graph:
    return {
        "1": node("CfmShadeOfLora", lora_name=name),
        "2": node("SaveImage", images=["1", 0], filename_prefix=graphs.name("shade")),
    }


def seen(person: Client, name: str) -> int:
    """The shade of the picture that a person's job with this LoRA makes."""
    (image,) = images_of(person.run(shade(name)))
    return color_of(person.view(**image))[0]


def listed(person: Client) -> list[str]:
    loader = person.get("/object_info/LoraLoader")["LoraLoader"]
    own = person.get("/object_info/CfmShadeOfLora")["CfmShadeOfLora"]
    names: list[str] = loader["input"]["required"]["lora_name"][0]
    assert own["input"]["required"]["lora_name"][0] == ["None", *names]
    assert person.get("/models/loras") == names
    return names


def test_each_has_their_own_under_the_same_name(people: dict[str, Client]) -> None:
    ada, bob = people["ada"], people["bob"]
    told = bring(ada, "film.safetensors", lora(100))
    bring(bob, "film.safetensors", lora(200))
    assert told["in_graphs"] == "mine/film.safetensors"
    assert told["size"] == len(lora(100))
    assert listed(ada) == listed(bob) == ["everybodys.safetensors", "mine/film.safetensors"]
    assert listed(people["ines"]) == ["everybodys.safetensors"]
    # Twice each: nodes and their caches know a model by its content.
    for _ in range(2):
        assert seen(ada, "mine/film.safetensors") == 100
        assert seen(bob, "mine/film.safetensors") == 200
    assert seen(people["ines"], "everybodys.safetensors") == 1
    with pytest.raises(RequestRefused) as error:
        people["ines"].submit(shade("mine/film.safetensors"))
    assert "mine/film.safetensors" in str(error.value)
    # Another content of the name in its place is another result.
    ada.request("DELETE", address("film.safetensors"))
    bring(ada, "film.safetensors", lora(50))
    assert seen(ada, "mine/film.safetensors") == 50


def test_the_room_gets_what_the_instructor_lets_in(people: dict[str, Client]) -> None:
    ada, bob, ines = (people[name] for name in PEOPLE)
    bring(ada, "for all.safetensors", lora(70))
    path = address("for all.safetensors")
    ada.request("PUT", path + "/offer")
    ines.wait_for(lambda event: told_of(event, "ada offers the model loras/for all.safetensors"), timeout=10)
    assert not any(told_of(event, "offers") for event in bob.events)
    decision = "/comfyume/room-models/ada/loras/for%20all.safetensors"
    assert status_of(lambda: bob.request("PUT", decision)) == 403
    assert status_of(lambda: ada.request("PUT", decision)) == 403
    assert [model["name"] for model in ines.get("/comfyume/room-models")["offered"]] == ["for all.safetensors"]
    assert [model["offered"] for model in own(ada, "for all.safetensors")] == [True]
    # What is let in is what was offered, whatever its owner does meanwhile.
    ada.request("DELETE", path)
    bring(ada, "for all.safetensors", lora(71))
    ada.request("PUT", path + "/offer")
    ines.request("PUT", decision)
    assert "room/ada/for all.safetensors" in listed(bob)
    assert [seen(person, "room/ada/for all.safetensors") for person in (ada, bob, ines)] == [71, 71, 71]
    assert own(ada, "for all.safetensors")[0]["in_room"]
    ines.request("DELETE", decision)
    assert "room/ada/for all.safetensors" not in listed(bob)
    assert seen(ada, "mine/for all.safetensors") == 71
    # An offer is taken back by its owner, or declined.
    for person, gone in ((ada, path + "/offer"), (ines, decision)):
        ada.request("PUT", path + "/offer")
        person.request("DELETE", gone)
        assert ines.get("/comfyume/room-models") == {"offered": [], "room": []}
    assert refused(ines, "PUT", decision)[0] == 404


def told_of(event: Event, words: str) -> bool:
    return event.kind == "comfyume.message" and words in event.data["text"]


def own(person: Client, name: str) -> list[dict[str, Any]]:
    return [model for model in person.get("/comfyume/my-models")["models"] if model["name"] == name]


def test_what_is_no_model_is_refused_in_a_sentence(people: dict[str, Client]) -> None:
    bob = people["bob"]
    size = {SIZE_HEADER: "5"}
    for path, content, headers, status, words in (
        (address("a.safetensors"), b"12345", size, 422, "no safetensors file"),
        (address("a.ckpt"), b"12345", size, 415, "Only .safetensors files"),
        (address("notes.txt"), b"12345", size, 415, "Only .safetensors files"),
        (address("a.safetensors", "nowhere"), b"12345", size, 400, "'nowhere'"),
        (address("a.safetensors", "custom_nodes"), b"12345", size, 400, "'custom_nodes'"),
        (address("..%2Fa.safetensors"), b"12345", size, 400, "no place for a model"),
        (address(".a.safetensors"), b"12345", size, 400, "no place for a model"),
        (address("a.safetensors"), b"12345", {}, 400, SIZE_HEADER),
        (address("a.safetensors"), None, {SIZE_HEADER: str(2**30)}, 413, "may have 0.1 GiB here"),
    ):
        answered, detail = refused(bob, "PUT", path, content, **headers)
        assert (answered, words in detail) == (status, True), detail
    assert refused(bob, "DELETE", address("a.safetensors"))[0] == 404
    assert refused(bob, "PUT", address("a.safetensors") + "/offer")[0] == 404
    assert own(bob, "a.safetensors") == []
    bring(bob, "a.safetensors", lora(3))
    assert refused(bob, "PUT", address("a.safetensors"), lora(4), **{SIZE_HEADER: str(len(lora(4)))})[0] == 409
    assert seen(bob, "mine/a.safetensors") == 3


def test_an_upload_that_was_cut_goes_on_where_it_was(people: dict[str, Client], workshop: Pair) -> None:
    ada = people["ada"]
    content = lora(9, filling=8_000_000)
    size = {SIZE_HEADER: str(len(content))}

    def arrived() -> int:
        asked = {**size, "Content-Range": f"bytes */{len(content)}"}
        with pytest.raises(RequestRefused) as error:
            ada.request("PUT", address("long.safetensors"), b"", asked)
        return int(error.value.body["offset"])

    head = "".join(f"{name}: {value}\r\n" for name, value in {**ada.headers, **size}.items())
    start = f"PUT {address('long.safetensors')} HTTP/1.1\r\nHost: {workshop.frontend.address}\r\n{head}"
    with socket.create_connection(("127.0.0.1", workshop.frontend.port)) as connection:
        connection.sendall(f"{start}Content-Length: {len(content)}\r\n\r\n".encode() + content[:5_000_000])
    offset = wait_until(arrived)
    assert 0 < offset <= 5_000_000
    assert own(ada, "long.safetensors") == []
    rest = {**size, "Content-Range": f"bytes {offset}-{len(content) - 1}/{len(content)}"}
    ada.request("PUT", address("long.safetensors"), content[offset:], rest)
    assert own(ada, "long.safetensors")[0]["size"] == len(content)
    assert seen(ada, "mine/long.safetensors") == 9


def test_a_limit_for_a_persons_files_holds_for_models(people: dict[str, Client]) -> None:
    people["ines"].request(
        "PUT", "/comfyume/people/bob/limits", b'{"disk": 0.001}', {"Content-Type": "application/json"}
    )
    try:
        wait_until(
            lambda: status_of(lambda: bring(people["bob"], "large.safetensors", lora(1, filling=2_000_000))) == 413
        )
    finally:
        people["ines"].request(
            "PUT", "/comfyume/people/bob/limits", b'{"disk": null}', {"Content-Type": "application/json"}
        )


@new_only
def test_it_goes_along_when_its_worker_is_lost_and_its_upload_goes_on_after_the_frontend(
    comfyui: ComfyInstall, tmp_path: Path
) -> None:
    content = lora(100, filling=8_000_000)
    size = {SIZE_HEADER: str(len(content))}
    with Pair(comfyui, tmp_path, workers=2, env={"COMFYUME_LEASE": "3"}, worker_node_packs=[graphs.PACK]) as pair:
        with Client(pair.frontend.address) as person:
            first = {**size, "Content-Range": f"bytes 0-3999999/{len(content)}"}
            assert refused(person, "PUT", address("film.safetensors"), content[:4_000_000], **first)[0] == 409
        pair.frontend.kill()
        pair.frontend.start().wait_ready()
        with Client(pair.frontend.address) as person:
            wait_until(lambda: "CfmShadeOfLora" in person.get("/object_info"))
            rest = {**size, "Content-Range": f"bytes 4000000-{len(content) - 1}/{len(content)}"}
            person.request("PUT", address("film.safetensors"), content[4_000_000:], rest)
            gate = tmp_path / "gate"
            both = {**shade("mine/film.safetensors"), "3": graphs.gated(gate)["1"]}
            both["4"] = node("PreviewImage", images=["3", 0])
            job = person.submit(both)
            person.wait_for(lambda event: event.kind == "execution_start", timeout=30)
            running = wait_until(lambda: person.get(f"/comfyume/jobs/{job}")["worker"])
            pair.workers[int(running.removeprefix("worker"))].lose()
            gate.touch()
            person.wait(job)
            image = person.history(job)[job]["outputs"]["2"]["images"][0]
            assert color_of(person.view(**image))[0] == 100
            assert person.get(f"/comfyume/jobs/{job}")["worker"] != running


@new_only
def test_a_shared_folder_holds_them_too(comfyui: ComfyInstall, tmp_path: Path) -> None:
    with Pair(comfyui, tmp_path, transport="shared", worker_node_packs=[graphs.PACK]) as pair:
        with Client(pair.frontend.address) as person:
            bring(person, "film.safetensors", lora(100))
            assert seen(person, "mine/film.safetensors") == 100
        assert [path.name for path in (tmp_path / "shared" / "people-models" / "own").rglob("*.safetensors")] == [
            "film.safetensors"
        ]
