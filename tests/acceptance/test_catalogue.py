"""A frontend with no model and no node pack shows and checks what the workers have."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from comfyume.tests.acceptance.conftest import MODEL_FILES, Room
from comfyume.tests.harness import graphs
from comfyume.tests.harness.client import Client, RequestRefused, wait_until
from comfyume.tests.harness.discovery import ComfyInstall
from comfyume.tests.harness.graphs import node
from comfyume.tests.harness.pair import Pair
from comfyume.tests.harness.processes import ComfyProcess

pytestmark = [pytest.mark.acceptance, pytest.mark.seams]
new_only = pytest.mark.parametrize("comfyui", ["new"], indirect=True, scope="session")
CHECKPOINTS = ["first.safetensors", "sub/second.safetensors"]

#: What a node of the newer style says of things that it has not; the older style leaves these out.
UNSET = (None, False)


def use(checkpoint: str) -> graphs.Graph:
    return {"1": node("CfmUseCheckpoint", ckpt_name=checkpoint, number=graphs.number())}


def refusal(client: Client, graph: graphs.Graph) -> dict[str, Any]:
    with pytest.raises(RequestRefused) as refused:
        client.submit(graph)
    assert refused.value.status == 400
    return dict(refused.value.body)


def test_the_workers_models_are_shown(client: Client) -> None:
    assert client.get("/models/checkpoints") == CHECKPOINTS
    assert client.get("/models/loras") == []
    assert [file["name"] for file in client.get("/experiment/models/checkpoints")] == CHECKPOINTS
    assert "checkpoints" in [folder["name"] for folder in client.get("/experiment/models")]
    loader = client.get("/object_info/CheckpointLoaderSimple")["CheckpointLoaderSimple"]
    assert loader["input"]["required"]["ckpt_name"][0] == CHECKPOINTS
    assert client.get("/embeddings") == ["charm"]
    assert "checkpoints" in client.get("/models")


def without_uploads(definitions: dict[str, Any]) -> dict[str, Any]:
    """Definitions without what is a person's own: the files that inputs offer, and the nodes that offer folders."""
    definitions = {name: value for name, value in definitions.items() if "FromFolder" not in name}
    flags = {"image_upload", "video_upload", "audio_upload", "file_upload"}
    for definition in definitions.values():
        for inputs in definition["input"].values():
            for spec in inputs.values() if isinstance(inputs, dict) else ():
                if isinstance(spec, list) and len(spec) > 1 and isinstance(spec[1], dict) and flags & set(spec[1]):
                    if isinstance(spec[0], list):
                        spec[0] = []
                    else:
                        spec[1].pop("options", None)
    return definitions


def test_every_definition_equals_the_workers(client: Client, room: Room, vanilla: ComfyProcess) -> None:
    ours = without_uploads(client.get("/object_info"))
    with Client(room.worker.address, connect=False) as worker, Client(vanilla.address, connect=False) as plain:
        theirs, direct = without_uploads(worker.get("/object_info")), without_uploads(plain.get("/object_info"))
    assert {name for name in theirs if name.startswith("Cfm")} <= set(ours)
    different = {
        name: {
            key: (ours[name].get(key), wanted.get(key))
            for key in {*ours[name], *wanted}
            if ours[name].get(key) != wanted.get(key)
        }
        for name, wanted in theirs.items()
        if ours[name] != wanted
    }
    assert different == {}
    assert {name: ours[name] for name in direct} == direct
    # a saved workflow gives its values by the order of the inputs
    for name, definition in direct.items():
        for group, inputs in definition["input"].items():
            assert list(ours[name]["input"][group]) == list(inputs), name


def test_a_graph_that_uses_the_workers_models_runs(client: Client) -> None:
    for checkpoint in CHECKPOINTS:
        entry = client.run(use(checkpoint))
        assert entry["outputs"]["1"]["text"] == [checkpoint, "worker0"]


def test_a_third_model_is_refused_as_comfyui_refuses_it(client: Client, vanilla: ComfyProcess) -> None:
    loader = {
        "7": node("CheckpointLoaderSimple", ckpt_name="third.safetensors"),
        "8": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "9": node("VAEDecode", samples=["8", 0], vae=["7", 2]),
        "10": node("PreviewImage", images=["9", 0]),
    }
    for graph, at in ((use("third.safetensors"), "1"), (loader, "7")):
        body = refusal(client, graph)
        with Client(vanilla.address) as plain:
            assert body == refusal(plain, graph)
        (error,) = body["node_errors"][at]["errors"]
        assert error["type"] == "value_not_in_list"
    assert client.queue() == {"queue_running": [], "queue_pending": []}


def test_an_error_of_a_worker_marks_its_node(client: Client) -> None:
    job = client.submit(
        {
            "7": node("CheckpointLoaderSimple", ckpt_name="first.safetensors"),
            "8": node("EmptyLatentImage", width=64, height=64, batch_size=1),
            "9": node("VAEDecode", samples=["8", 0], vae=["7", 2]),
            "10": node("PreviewImage", images=["9", 0]),
        }
    )
    *_, error = client.wait_for(lambda event: event.kind == "execution_error")
    assert error.prompt_id == job
    assert (error.data["node_id"], error.data["node_type"]) == ("7", "CheckpointLoaderSimple")
    assert error.data["traceback"]


def test_a_nodes_own_check_is_made(client: Client, vanilla: ComfyProcess) -> None:
    graph = {"1": node("CfmCheckedByItself", word="bad", number=1)}
    with Client(vanilla.address) as plain:
        assert refusal(client, graph) == refusal(plain, graph)
    entry = client.run({"1": node("CfmCheckedByItself", word="good", number=graphs.number())})
    assert entry["outputs"]["1"]["text"] == ["good"]


def test_numbers_are_cast_as_comfyui_casts_them(client: Client) -> None:
    entry = client.run({"1": node("CfmUseCheckpoint", ckpt_name=CHECKPOINTS[0], number="12")})
    assert entry["prompt"][2]["1"]["inputs"]["number"] == 12


def test_the_packs_script_is_listed_and_served(client: Client, vanilla: ComfyProcess) -> None:
    (listed,) = [path for path in client.get("/extensions") if "cfm_pack" in path]
    with Client(vanilla.address, connect=False) as plain:
        assert listed in plain.get("/extensions")
        assert client.request("GET", listed) == plain.request("GET", listed)
    with pytest.raises(RequestRefused) as refused:
        client.request("GET", "/extensions/cfm_pack/nothing.js")
    assert refused.value.status == 404


def test_a_models_header_is_read_on_the_worker(client: Client, vanilla: ComfyProcess) -> None:
    path = "/view_metadata/checkpoints?filename=first.safetensors"
    with Client(vanilla.address, connect=False) as plain:
        wanted = plain.request("GET", path)
        assert b"the first" in wanted
        assert client.request("GET", path) == wanted
        for browser in (client, plain):
            with pytest.raises(RequestRefused) as refused:
                browser.get("/view_metadata/checkpoints", filename="third.safetensors")
            assert refused.value.status == 404


@pytest.fixture(scope="module")
def two(comfyui: ComfyInstall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A frontend whose two workers have a node pack and a checkpoint each."""
    folder = tmp_path_factory.mktemp("two")
    pair = Pair(comfyui, folder, workers=2, env={"COMFYUME_LEASE": "2"})
    for worker, pack, checkpoint in zip(pair.workers, (graphs.PACK, graphs.SECOND_PACK), CHECKPOINTS, strict=True):
        worker._node_packs.append(pack)
        worker._model_files[f"checkpoints/{checkpoint}"] = MODEL_FILES[f"checkpoints/{checkpoint}"]
    with pair:
        yield pair


@new_only
class TestTwoWorkers:
    """Two workers that differ."""

    def test_both_packs_nodes_are_shown_and_run(self, two: Pair) -> None:
        with Client(two.frontend.address) as client, Client(two.workers[1].address, connect=False) as second:
            wait_until(lambda: "CfmShout" in client.get("/object_info"))
            ours, theirs = (browser.get("/object_info/CfmShout")["CfmShout"] for browser in (client, second))
            assert ours == {key: value for key, value in theirs.items() if key in ours or value not in UNSET}
            assert client.get("/models/checkpoints") == CHECKPOINTS
            entry = client.run({"1": node("CfmShout", word=graphs.name(), mark="?")})
            assert entry["status"]["completed"]
            body = refusal(client, {"1": node("CfmShout", word="x", mark="-")})
            assert body["node_errors"]["1"]["errors"][0]["type"] == "value_not_in_list"

    def test_a_graph_that_no_worker_can_run_whole_is_refused(self, two: Pair) -> None:
        with Client(two.frontend.address) as client:
            both = {**use(CHECKPOINTS[0]), "2": node("CfmShout", word="x", mark="!")}
            body = refusal(client, both)
            assert body["error"]["type"] == "prompt_outputs_failed_validation"
            (errors,) = [entry["errors"] for entry in body["node_errors"].values()]
            assert "CfmShout" in errors[0]["details"] or "CfmUseCheckpoint" in errors[0]["details"]
            body = refusal(client, use(CHECKPOINTS[1]))
            assert CHECKPOINTS[1] in body["node_errors"]["1"]["errors"][0]["details"]
            assert client.queue() == {"queue_running": [], "queue_pending": []}

    def test_a_job_goes_to_the_worker_that_has_its_model(self, two: Pair) -> None:
        with Client(two.frontend.address) as client:
            loader = {
                "1": node("CheckpointLoaderSimple", ckpt_name=CHECKPOINTS[1]),
                "2": node("CLIPTextEncode", clip=["1", 1], text="x"),
                "3": node("EmptyLatentImage", width=64, height=64, batch_size=1),
                "4": node("VAEDecode", samples=["3", 0], vae=["1", 2]),
                "5": node("PreviewImage", images=["4", 0]),
            }
            for _ in range(3):
                job = client.submit(loader)
                client.wait(job)
                # the dummy cannot be loaded, and the error tells where it lies
                assert client.history(job)[job]["status"]["messages"][-1][0] == "execution_error"
            assert two.workers[1].log.read_text().count("got prompt") == 0
            assert "second.safetensors" in two.workers[1].log.read_text()
            assert "second.safetensors" not in two.workers[0].log.read_text()

    def test_a_worker_that_leaves_and_comes_back(self, two: Pair) -> None:
        with Client(two.frontend.address) as client:
            two.workers[1].stop()
            wait_until(lambda: "CfmShout" not in client.get("/object_info"))
            assert client.get("/models/checkpoints") == CHECKPOINTS[:1]
            body = refusal(client, {"1": node("CfmShout", word="x", mark="!")})
            assert body["error"]["type"] in ("missing_node_type", "invalid_prompt")
            two.workers[1].start().wait_ready()
            wait_until(lambda: "CfmShout" in client.get("/object_info"))
            assert client.run({"1": node("CfmShout", word=graphs.name(), mark="!")})["status"]["completed"]

    def test_a_model_that_appears_on_a_worker_is_shown(self, two: Pair) -> None:
        new = two.worker.base / "models" / "checkpoints" / "later.safetensors"
        shutil.copy(two.worker.base / "models" / "checkpoints" / CHECKPOINTS[0], new)
        with Client(two.frontend.address) as client:
            wait_until(lambda: "later.safetensors" in client.get("/models/checkpoints"), 30)
            assert client.run(use("later.safetensors"))["outputs"]["1"]["text"][0] == "later.safetensors"
