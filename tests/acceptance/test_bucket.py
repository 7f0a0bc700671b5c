"""A room whose large files travel through a real S3 server, and whose older results stay there."""

from __future__ import annotations

import hashlib
import io
import json
import os
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from comfyume.blobs.cold_storage import ColdStorage
from comfyume.blobs.store import BlobFolder
from comfyume.tests.harness import discovery, graphs
from comfyume.tests.harness.client import Client, RequestRefused, wait_until
from comfyume.tests.harness.pair import Pair
from comfyume.tests.harness.proxy import Proxy
from comfyume.tests.harness.s3 import KEY, SECRET, S3Server

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.parametrize("comfyui", ["new"], indirect=True, scope="module"),
]
MIB = 1024 * 1024


@dataclass(frozen=True)
class BucketRoom:
    """A frontend and a worker, the bucket's server, and the proxy through which the worker reaches the frontend."""

    pair: Pair
    s3: S3Server
    proxy: Proxy

    @property
    def output(self) -> Path:
        return self.pair.frontend.base / "output"

    def storage(self) -> ColdStorage:
        """What the frontend has, to put files away now instead of after an hour without use."""
        records = self.pair.frontend.base / "user" / "__comfyume" / "cold"
        return ColdStorage(self.output, records, BlobFolder(self.pair.folder / "test"), self.s3.open)


@pytest.fixture(scope="module")
def bucket_room(comfyui: discovery.ComfyInstall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BucketRoom]:
    folder = tmp_path_factory.mktemp("bucket-room")
    with S3Server(folder / "s3") as s3, Proxy() as proxy:
        bucket = {
            "COMFYUME_BUCKET": f"s3://{s3.bucket}",
            "COMFYUME_BUCKET_ENDPOINT": s3.endpoint,
            "COMFYUME_BUCKET_REGION": "us-east-1",
            "COMFYUME_BUCKET_KEY": KEY,
            "COMFYUME_BUCKET_SECRET": SECRET,
        }
        pair = Pair(
            comfyui,
            folder,
            env=bucket,
            frontend_env={"COMFYUME_CACHE_GIB": "1"},
            worker_env={"COMFYUME_FRONTEND_URL": proxy.url},
            worker_node_packs=[graphs.PACK],
        )
        proxy.target = pair.frontend.port
        with pair:
            assert wait_until(lambda: s3.keys("comfyume-mark"))
            yield BucketRoom(pair, s3, proxy)


@pytest.fixture
def client(bucket_room: BucketRoom) -> Iterator[Client]:
    with Client(bucket_room.pair.frontend.address) as browser:
        yield browser


def noise(side: int) -> bytes:
    content = io.BytesIO()
    Image.frombytes("RGB", (side, side), os.urandom(side * side * 3)).save(content, "PNG")
    return content.getvalue()


def get(client: Client, path: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    request = urllib.request.Request(f"http://{client.address}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=60) as reply:
        return reply.status, reply.read(), dict(reply.headers)


def test_large_files_go_through_the_bucket_and_small_ones_straight(client: Client, bucket_room: BucketRoom) -> None:
    """An upload goes to the worker, the result comes back: 3 MB each way, of which the frontend's port sees nothing."""
    picture, name = noise(1024), f"{graphs.name()}.png"
    client.upload(picture, name)
    sha256 = hashlib.sha256(picture).hexdigest()
    gate = bucket_room.pair.folder / graphs.name("gate")
    holding = client.submit(graphs.gated(gate))
    job = client.submit(graphs.load(name))
    # While the job waits, its input is brought into the bucket.
    assert wait_until(lambda: f"blobs/{sha256[:2]}/{sha256}" in bucket_room.s3.keys("blobs/"))
    before, asked = dict(bucket_room.proxy.moved), len(bucket_room.proxy.requests)
    gate.touch()
    client.wait(holding)
    client.wait(job)
    (image,) = client.history(job)[job]["outputs"].popitem()[1]["images"]
    shown = client.view(**image)
    assert Image.open(io.BytesIO(shown)).tobytes() == Image.open(io.BytesIO(picture)).tobytes()
    sha256 = hashlib.sha256(shown).hexdigest()
    assert f"blobs/{sha256[:2]}/{sha256}" in bucket_room.s3.keys("blobs/")
    assert [method for method, path in bucket_room.proxy.requests[asked:] if "/worker/files/" in path].count("GET") == 0
    moved = {way: bucket_room.proxy.moved[way] - before[way] for way in ("up", "down")}
    assert moved["up"] < 200_000, moved
    assert moved["down"] < 200_000, moved
    (small,) = client.run(graphs.image(graphs.name()))["outputs"].popitem()[1]["images"]
    assert Image.open(io.BytesIO(client.view(**small))).size == (16, 16)


def test_a_film_seeks_while_it_is_in_the_bucket_alone(client: Client, bucket_room: BucketRoom) -> None:
    name = f"{graphs.name()}.mp4"
    client.run(graphs.write_file(name, 20))
    film = bucket_room.output / name
    content = film.read_bytes()
    path = f"/api/view?filename={name}&type=output&subfolder="
    for wanted, part in (
        ("bytes=0-99", content[:100]),
        (f"bytes={10 * MIB - 5}-{13 * MIB}", content[10 * MIB - 5 : 13 * MIB + 1]),
        ("bytes=-10", content[-10:]),
        (f"bytes={20 * MIB - 3}-", content[-3:]),
    ):
        assert bucket_room.storage().put_away(film) == 20 * MIB
        status, body, headers = get(client, path, Range=wanted)
        assert (status, body) == (206, part)
        assert headers["Content-Range"].endswith(f"/{20 * MIB}")
        assert headers["Content-Type"] == "video/mp4"
        # Once somebody looks at it, it comes back.
        assert wait_until(lambda: film.stat().st_size == 20 * MIB)
        assert film.read_bytes() == content
    bucket_room.storage().put_away(film)
    status, body, _ = get(client, path)
    assert (status, hashlib.sha256(body).digest()) == (200, hashlib.sha256(content).digest())


def test_a_cold_picture_is_shown_scaled_used_as_an_input_and_packed(client: Client, bucket_room: BucketRoom) -> None:
    picture, name = noise(512), f"{graphs.name()}.png"
    client.upload(picture, name)
    job = client.submit(graphs.load(name))
    client.wait(job)
    (image,) = client.history(job)[job]["outputs"].popitem()[1]["images"]
    file = bucket_room.output / image["filename"]
    saved = file.read_bytes()

    bucket_room.storage().put_away(file)
    assert client.view(**image) == saved
    bucket_room.storage().put_away(file)
    scaled = get(client, f"/api/view?filename={file.name}&type=output&preview=webp;50")[1]
    assert Image.open(io.BytesIO(scaled)).format == "WEBP"

    bucket_room.storage().put_away(file)
    again = graphs.load(f"{file.name} [output]")
    (copy,) = client.run(again)["outputs"].popitem()[1]["images"]
    assert Image.open(io.BytesIO(client.view(**copy))).tobytes() == Image.open(io.BytesIO(picture)).tobytes()

    bucket_room.storage().put_away(file)
    archive = zipfile.ZipFile(io.BytesIO(get(client, f"/comfyume/results.zip?job={job}")[1]))
    assert archive.read(file.name) == saved


def test_without_the_bucket_files_travel_as_before_and_cold_ones_wait(client: Client, bucket_room: BucketRoom) -> None:
    """The last test: the bucket's server ends with it."""
    name = f"{graphs.name()}.mp4"
    client.run(graphs.write_file(name, 5))
    film = bucket_room.output / name
    bucket_room.storage().put_away(film)
    picture, loaded = noise(512), f"{graphs.name()}.png"
    client.upload(picture, loaded)
    bucket_room.s3.stop()
    (image,) = client.run(graphs.load(loaded), timeout=100)["outputs"].popitem()[1]["images"]
    assert Image.open(io.BytesIO(client.view(**image))).tobytes() == Image.open(io.BytesIO(picture)).tobytes()
    with pytest.raises(RequestRefused) as refused:
        client.request("GET", f"/api/view?filename={name}&type=output")
    assert refused.value.status == 503
    assert "Try again" in json.dumps(refused.value.body)
    assert film.stat().st_size == 0
    # Nor do the logs tell how the bucket is opened.
    pair = bucket_room.pair
    assert all(SECRET not in process.log.read_text(errors="replace") for process in (pair.frontend, pair.worker))
