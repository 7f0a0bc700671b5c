"""Files: what a person uploads reaches the worker, and what nodes write comes back, whole, overwriting nothing."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import uuid
from pathlib import Path
from typing import Any

import pytest
import redis
from PIL import Image

from comfyume.blobs.protocol import SHA256_HEADER, SIZE_HEADER
from comfyume.job_queue.keys import Keys
from comfyume.tests.acceptance.conftest import Room
from comfyume.tests.harness import graphs
from comfyume.tests.harness.client import Client, RequestRefused
from comfyume.tests.harness.discovery import ComfyInstall
from comfyume.tests.harness.graphs import node
from comfyume.tests.harness.memory import forget_peak, memory_of
from comfyume.tests.harness.pair import Pair, Transport, wait_until_known
from comfyume.tests.harness.processes import READY_SECONDS, ComfyProcess

pytestmark = [pytest.mark.acceptance, pytest.mark.seams]
new_only = pytest.mark.parametrize("comfyui", ["new"], indirect=True, scope="session")
MEBIBYTE = 1024 * 1024


def png(color: tuple[int, ...], size: int = 16) -> bytes:
    content = io.BytesIO()
    Image.new("RGBA" if len(color) == 4 else "RGB", (size, size), color).save(content, "PNG")
    return content.getvalue()


def color_of(content: bytes) -> tuple[int, ...]:
    return Image.open(io.BytesIO(content)).convert("RGB").getpixel((0, 0))


def images_of(entry: dict[str, Any]) -> list[dict[str, str]]:
    assert entry["status"]["completed"], entry["status"]["messages"][-1]
    return [image for output in entry["outputs"].values() for image in output.get("images", [])]


def test_an_uploaded_image_is_loaded_and_saved(client: Client) -> None:
    name = graphs.name() + ".png"
    client.upload(png((200, 100, 50)), name)
    (image,) = images_of(client.run(graphs.load(name)))
    assert color_of(client.view(**image)) == (200, 100, 50)


def test_an_upload_used_by_ten_jobs_moves_once(client: Client, room: Room) -> None:
    name = graphs.name() + ".png"
    client.upload(png((1, 2, graphs.number() % 256), 64 + graphs.number() % 64), name)
    before = len(room.proxy.files("GET"))
    jobs = [client.submit(graphs.load(name)) for _ in range(10)]
    for job in jobs:
        client.wait(job) if job not in client.history() else None
    assert all(client.history(job)[job]["status"]["completed"] for job in jobs)
    fetched = room.proxy.files("GET")[before:]
    assert len(fetched) == 1, fetched


def test_a_file_that_changes_under_its_name_is_fetched_again(client: Client) -> None:
    name = graphs.name() + ".png"
    for color in ((10, 20, 30), (40, 50, 60)):
        client.upload(png(color), name, fields={"overwrite": "true"})
        (image,) = images_of(client.run(graphs.load(name)))
        assert color_of(client.view(**image)) == color


@new_only
def test_a_job_that_a_worker_makes_up_or_changes_opens_nobodys_files(
    client: Client, room: Room, tmp_path: Path
) -> None:
    """With all that a worker's user may do on the store, as who takes a worker's machine over would."""
    keys = Keys(room.pair.workshop)
    gate = tmp_path / "gate"
    named, other = (f"{graphs.name()}.png" for _ in range(2))
    for name in (named, other):
        client.upload(png((1, 2, 3)), name)
    graph = graphs.gated(gate)
    graph["7"] = node("LoadImage", image=named)
    graph["8"] = node("PreviewImage", images=["7", 0])
    job_id = client.submit(graph)
    claim = uuid.uuid4().hex
    with contextlib.closing(redis.Redis.from_url(room.pair.worker_store_url)) as store:
        try:
            client.wait_for(lambda event: event.prompt_id == job_id and event.kind == "executing")
            genuine = json.loads(store.hget(keys.job(job_id), "envelope"))
            own = store.hget(keys.job(job_id), "claim").decode()
            assert [file["path"] for file in genuine["files"]] == [named]

            def asked_for(job: str, name: str, by: str) -> int:
                query = f"kind=input&path={name}&sha256={genuine['files'][0]['sha256']}"
                request = f"/comfyume/worker/files/{job}?{query}"
                try:
                    client.request("GET", request, headers={"Authorization": f"Bearer {by}"})
                except RequestRefused as error:
                    return error.status
                return 200

            assert asked_for(job_id, named, own) == 200
            assert asked_for(job_id, other, own) == 404
            made_up = str(uuid.uuid4())
            further = {**genuine, "files": [*genuine["files"], {**genuine["files"][0], "path": other}]}
            for envelope in (genuine, further, {"files": further["files"]}, {"files": 7, "signature": "x"}, {}):
                fields = {"user": "local", "claim": claim, "state": "running", "envelope": json.dumps(envelope)}
                store.hset(keys.job(made_up), mapping=fields)
                assert asked_for(made_up, other, claim) == 403
                delivery = f"/comfyume/worker/files/{made_up}?kind=output&subfolder=&name=mine.png"
                headers = {SHA256_HEADER: hashlib.sha256(b"x").hexdigest(), SIZE_HEADER: "1"}
                with pytest.raises(RequestRefused, match=r"No frontend has stored|not the job's current"):
                    client.request("PUT", delivery, b"x", {**headers, "Authorization": f"Bearer {claim}"})
            store.hset(keys.job(job_id), "envelope", json.dumps(further))
            assert asked_for(job_id, other, own) == asked_for(job_id, named, own) == 403
            store.hset(keys.job(job_id), "envelope", json.dumps(genuine))
            store.delete(keys.job(made_up))
        finally:
            gate.touch()
    client.wait(job_id)


def test_a_mask_drawn_in_the_browser_is_used(client: Client) -> None:
    name = graphs.name() + ".png"
    client.upload(png((200, 100, 50)), name)
    reference = f'{{"filename": "{name}", "subfolder": "", "type": "input"}}'
    answer = client.upload(
        png((0, 0, 0, 100)),
        f"clipspace-{name}",
        route="/upload/mask",
        fields={"original_ref": reference, "type": "input", "subfolder": "clipspace"},
    )
    path = f"{answer['subfolder']}/{answer['name']} [input]"
    graph = {
        "1": node("LoadImage", image=path),
        "2": node("MaskToImage", mask=["1", 1]),
        "3": node("SaveImage", images=["2", 0], filename_prefix=graphs.name()),
    }
    (image,) = images_of(client.run(graph))
    assert color_of(client.view(**image)) == (155, 155, 155)


@pytest.mark.parametrize("kind", ["output", "temp"])
def test_a_result_is_loaded_by_its_annotated_name(client: Client, kind: str) -> None:
    save = "SaveImage" if kind == "output" else "PreviewImage"
    prefix = f"{graphs.name()}/deep/{graphs.name()}"
    (made,) = images_of(client.run(graphs.image(prefix, color=0x306090 + graphs.number() % 16, save=save)))
    wanted = color_of(client.view(**made))
    path = "/".join(filter(None, [made["subfolder"], made["filename"]]))
    (image,) = images_of(client.run(graphs.load(f"{path} [{kind}]")))
    assert made["type"] == kind
    assert color_of(client.view(**image)) == wanted


def test_a_result_that_a_job_loads_is_not_delivered_again(client: Client, room: Room) -> None:
    folder = graphs.name()
    made = [images_of(client.run(graphs.image(f"{folder}/a", color=graphs.number() % 2**24)))[0] for _ in range(3)]
    images_of(client.run(graphs.load(f"{folder}/{made[0]['filename']} [output]", f"{folder}/b")))
    assert sorted(os.listdir(room.frontend.output / folder)) == [
        *(image["filename"] for image in made),
        "b_00001_.png",
    ]


def test_an_upload_into_a_subfolder_is_loaded(client: Client) -> None:
    answer = client.upload(png((7, 8, 9)), "a.png", fields={"subfolder": f"{graphs.name()}/two"})
    (image,) = images_of(client.run(graphs.load(f"{answer['subfolder']}/{answer['name']}")))
    assert color_of(client.view(**image)) == (7, 8, 9)


def test_a_node_reads_a_whole_folder_of_uploads(client: Client) -> None:
    folder = graphs.name()
    for name, subfolder in (("a.txt", folder), ("b.txt", folder), ("c.txt", f"{folder}/inner")):
        client.upload(name.encode(), name, fields={"subfolder": subfolder})
    entry = client.run({"1": node("CfmReadFolder", folder=folder, number=graphs.number())})
    assert entry["outputs"]["1"]["text"] == ["a.txt=a.txt", "b.txt=b.txt", "inner/c.txt=c.txt"]


#: The batch is the output of node 1.
THREE_IMAGES = {
    **{f"1{i}": node("EmptyImage", width=64, height=64, batch_size=1, color=i * 0x101010) for i in (1, 2, 3)},
    "14": node("ImageBatch", image1=["11", 0], image2=["12", 0]),
    "1": node("ImageBatch", image1=["14", 0], image2=["13", 0]),
}


def test_a_batch_of_three_images_keeps_its_order(client: Client, vanilla: ComfyProcess) -> None:
    prefix = f"{graphs.name()}/batch"
    graph = {**THREE_IMAGES, "6": node("SaveImage", images=["1", 0], filename_prefix=prefix)}
    images = images_of(client.run(graph))
    with Client(vanilla.address) as direct:
        assert images == images_of(direct.run(graph))
    assert [color_of(client.view(**image)) for image in images] == [(i * 16,) * 3 for i in (1, 2, 3)]


def test_preview_images_can_be_viewed_when_their_event_arrives(client: Client) -> None:
    job = client.submit(graphs.image("", color=graphs.number() % 2**24, save="PreviewImage"))
    *_, executed = client.wait_for(lambda event: event.kind == "executed" and event.prompt_id == job)
    for image in executed.data["output"]["images"]:
        assert image["type"] == "temp"
        assert client.view(**image).startswith(b"\x89PNG")
    client.wait(job)


OUTPUT_NODES: dict[str, dict[str, Any]] = {
    "SaveImage": {"3": node("SaveImage", images=["1", 0], filename_prefix="PREFIX")},
    "SaveAnimatedWEBP": {
        "3": node(
            "SaveAnimatedWEBP",
            images=["1", 0],
            filename_prefix="PREFIX",
            fps=6.0,
            lossless=True,
            quality=80,
            method="default",
        )
    },
    "SaveAnimatedPNG": {
        "3": node("SaveAnimatedPNG", images=["1", 0], filename_prefix="PREFIX", fps=6.0, compress_level=4)
    },
    "SaveWEBM": {"3": node("SaveWEBM", images=["1", 0], filename_prefix="PREFIX", codec="vp9", fps=24.0, crf=32.0)},
    "SaveVideo": {
        "2": node("CreateVideo", images=["1", 0], fps=8.0),
        "3": node("SaveVideo", video=["2", 0], filename_prefix="PREFIX", format="auto", codec="auto"),
    },
    "SaveAudio": {"3": node("SaveAudio", audio=["4", 0], filename_prefix="PREFIX")},
    "SaveAudioMP3": {"3": node("SaveAudioMP3", audio=["4", 0], filename_prefix="PREFIX", quality="V0")},
    "SaveAudioOpus": {"3": node("SaveAudioOpus", audio=["4", 0], filename_prefix="PREFIX", quality="128k")},
    "SaveLatent": {
        "2": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "3": node("SaveLatent", samples=["2", 0], filename_prefix="PREFIX"),
    },
    "SaveGLB": {
        "2": node("CfmMakeMesh", number=5),
        "3": node("SaveGLB", mesh=["2", 0], filename_prefix="PREFIX"),
    },
    "CfmMakeText": {"3": node("CfmMakeText", text="some text", filename_prefix="PREFIX")},
    "PreviewAny": {"3": node("PreviewAny", source=["5", 0]), "5": node("PrimitiveString", value="some words")},
}
SOURCES = {
    **THREE_IMAGES,
    "4": node("EmptyAudio", duration=0.5, sample_rate=44100, channels=2),
}


#: They save the three images of the batch, or a film of them.
PICTURES = ("SaveImage", "SaveAnimatedWEBP", "SaveAnimatedPNG", "SaveWEBM", "SaveVideo")


@pytest.mark.parametrize("kind", OUTPUT_NODES)
def test_each_kind_of_output_arrives_as_comfyui_names_it(client: Client, vanilla: ComfyProcess, kind: str) -> None:
    text = repr({**SOURCES, **OUTPUT_NODES[kind]}).replace("PREFIX", f"{graphs.name()}/{graphs.name()}")
    graph = eval(text)  # noqa: S307 - of our own making
    with Client(vanilla.address) as direct:
        wanted = direct.run(graph)
        assert wanted["status"]["completed"], wanted["status"]
        entry = client.run(graph)
        assert entry["status"]["completed"], entry["status"]
        assert entry["outputs"] == wanted["outputs"]
        assert entry["meta"].keys() == wanted["meta"].keys()
        files = [item for items in entry["outputs"]["3"].values() for item in items if isinstance(item, dict)]
        assert files or kind == "PreviewAny"
        for file in files:
            content, expected = client.view(**file), direct.view(**file)
            assert len(content) == pytest.approx(len(expected), rel=0.02, abs=256)
            assert content[:4] == expected[:4]
    ended = next(row for row in client.get("/comfyume/history.json") if row["job"] == entry["prompt"][1])
    assert ended["frames"] == (3 if kind in PICTURES else 0)


@new_only
def test_saved_text_arrives(client: Client, vanilla: ComfyProcess) -> None:
    graph = {
        "1": node("PrimitiveString", value="a word"),
        "2": node("SaveText", text=["1", 0], filename_prefix=graphs.name(), format="md"),
    }
    entry = client.run(graph)
    with Client(vanilla.address) as direct:
        assert entry["outputs"] == direct.run(graph)["outputs"]
    assert client.view(**entry["outputs"]["2"]["files"][0]) == b"a word"


def test_a_3d_preview_that_is_named_by_a_string_can_be_viewed(client: Client) -> None:
    graph = {
        "1": node("CfmMakeText", text="solid", filename_prefix=f"{graphs.name()}/mesh"),
        "2": node("Preview3D", model_file=["1", 0]),
    }
    entry = client.run(graph)
    named = entry["outputs"]["2"]["result"][0]
    folder, _, name = named.rpartition("/")
    assert client.view(name, folder) == b"solid"


def test_a_file_that_a_node_did_not_declare_arrives(client: Client, room: Room) -> None:
    name = f"{graphs.name()}/secret.bin"
    entry = client.run(graphs.write_file(name, 2, declare=False))
    assert entry["status"]["completed"]
    assert (room.frontend.output / name).stat().st_size == 2 * MEBIBYTE
    assert len(client.view("secret.bin", name.partition("/")[0])) == 2 * MEBIBYTE


def test_a_name_without_a_number_is_not_overwritten(client: Client, room: Room) -> None:
    name = f"{graphs.name()}/plain.bin"
    for _ in range(2):
        assert client.run(graphs.write_file(name, 0))["status"]["completed"]
    assert len(list((room.frontend.output / name).parent.iterdir())) == 2


@pytest.mark.parametrize("save", ["SaveImage", "PreviewImage"])
def test_the_same_prompt_again_names_the_same_file(client: Client, save: str) -> None:
    graph = graphs.image(graphs.name(), color=graphs.number() % 2**24, save=save)
    first, second = images_of(client.run(graph)), images_of(client.run(graph))
    assert first == second
    assert client.view(**second[0]).startswith(b"\x89PNG")


def test_numbering_goes_on_from_what_the_person_has(client: Client, room: Room) -> None:
    prefix = graphs.name()
    (room.frontend.output / f"{prefix}_00041_.png").write_bytes(png((1, 1, 1)))
    (image,) = images_of(client.run(graphs.image(prefix, color=graphs.number() % 2**24)))
    assert image["filename"] == f"{prefix}_00042_.png"
    assert (room.frontend.output / f"{prefix}_00041_.png").read_bytes() == png((1, 1, 1))


@new_only
@pytest.mark.timeout(300)
def test_a_gibibyte_arrives_in_little_memory(client: Client, room: Room) -> None:
    client.run(graphs.write_file(f"{graphs.name()}/warm.bin", 8))
    processes = {"frontend": room.frontend, "worker": room.worker}
    for process in processes.values():
        forget_peak(process.pid)
    before = {name: memory_of(process.pid) for name, process in processes.items()}
    name = f"{graphs.name()}/large.bin"
    client.timeout = 240
    entry = client.run(graphs.write_file(name, 1024))
    assert entry["status"]["completed"], entry["status"]
    file = room.frontend.output / name
    assert file.stat().st_size == 1024 * MEBIBYTE
    growth = {name: (memory_of(process.pid).peak - before[name].resident) * 1024 for name, process in processes.items()}
    file.unlink()
    print({name: f"{value / MEBIBYTE:.1f} MiB at the peak" for name, value in growth.items()})
    assert all(value < 64 * MEBIBYTE for value in growth.values()), growth


@new_only
def test_a_cut_delivery_is_resumed(client: Client, room: Room) -> None:
    size, cut = 96 * MEBIBYTE, 40 * MEBIBYTE
    name = f"{graphs.name()}/cut.bin"
    before, cuts = room.proxy.moved["up"], room.proxy.cuts
    room.proxy.cut_once("up", cut)
    entry = client.run(graphs.write_file(name, size // MEBIBYTE))
    again = room.proxy.moved["up"] - before - size
    print(f"of {size / MEBIBYTE:.0f} MiB, {again / MEBIBYTE:.2f} MiB were sent again")
    assert room.proxy.cuts == cuts + 1
    assert entry["status"]["completed"], entry["status"]
    assert (room.frontend.output / name).stat().st_size == size
    assert again < 16 * MEBIBYTE


@new_only
def test_a_cut_upload_is_resumed_on_its_way_to_the_worker(client: Client, room: Room) -> None:
    folder, size, cut = graphs.name(), 96 * MEBIBYTE, 40 * MEBIBYTE
    (room.frontend.base / "input" / folder).mkdir()
    with (room.frontend.base / "input" / folder / "large.txt").open("wb") as file:
        file.write(b"%16d" % graphs.number() * (size // 16))
    before, cuts = room.proxy.moved["down"], room.proxy.cuts
    room.proxy.cut_once("down", cut)
    entry = client.run({"1": node("CfmReadFolder", folder=folder, number=graphs.number())})
    again = room.proxy.moved["down"] - before - size
    print(f"of {size / MEBIBYTE:.0f} MiB, {again / MEBIBYTE:.2f} MiB were sent again")
    assert room.proxy.cuts == cuts + 1
    assert entry["outputs"]["1"]["text"] == [f"large.txt={size}"]
    assert again < 16 * MEBIBYTE


@new_only
@pytest.mark.timeout(300)
@pytest.mark.parametrize("transport", ["http", "shared"])
def test_two_workers_one_prefix_forty_jobs_forty_files(
    comfyui: ComfyInstall, tmp_path: Path, transport: Transport
) -> None:
    with Pair(comfyui, tmp_path, workers=2, transport=transport) as pair, Client(pair.frontend.address) as client:
        colors = {client.submit(graphs.image("forty", color=0x010000 * index)): index for index in range(40)}
        entries: dict[str, Any] = {}
        while len(entries) < 40:
            client.receive()
            if client.events[-1].kind == "executing" and client.events[-1].data["node"] is None:
                entries = client.history()
        placed = {}
        for job, index in colors.items():
            (image,) = images_of(entries[job])
            placed[image["filename"]] = index
            assert color_of(client.view(**image)) == (index, 0, 0)
        assert sorted(placed) == [f"forty_{number:05}_.png" for number in range(1, 41)]
        output = tmp_path / "shared" / "output" if transport == "shared" else pair.frontend.output
        assert sorted(os.listdir(output)) == sorted(placed)
        shares = [worker.log.read_text().count("Prompt executed in") for worker in pair.workers]
        print(f"{transport}: shares of the workers {shares}")
        assert sum(shares) == 40
        assert min(shares) > 0


@new_only
def test_uploads_and_temp_files_over_a_shared_folder_and_over_a_restart(comfyui: ComfyInstall, tmp_path: Path) -> None:
    with Pair(comfyui, tmp_path, transport="shared", worker_node_packs=[graphs.PACK]) as pair:
        with Client(pair.frontend.address) as client:
            client.upload(png((9, 99, 199)), "a.png")
            (image,) = images_of(client.run(graphs.load("a.png")))
            assert color_of(client.view(**image)) == (9, 99, 199)
            assert client.run(graphs.write_file("sub/undeclared.bin", 1, declare=False))["status"]["completed"]
            assert len(client.view("undeclared.bin", "sub")) == MEBIBYTE
            preview = graphs.image("", color=0x112233, save="PreviewImage")
            (before,) = images_of(client.run(preview))
        pair.frontend.restart()
        with Client(pair.frontend.address) as client:
            (after,) = images_of(client.run(preview))
            assert client.view(**after).startswith(b"\x89PNG")
            assert (after, before["type"]) == (before, "temp")


@new_only
def test_a_cached_preview_is_there_after_the_frontend_was_restarted(room: Room) -> None:
    preview = graphs.image("", color=graphs.number() % 2**24, save="PreviewImage")
    with room.client() as client:
        (before,) = images_of(client.run(preview))
    room.frontend.restart()
    wait_until_known(room.frontend, 1, READY_SECONDS)
    with room.client() as client:
        (after,) = images_of(client.run(preview))
        assert after == before
        assert client.view(**after).startswith(b"\x89PNG")
