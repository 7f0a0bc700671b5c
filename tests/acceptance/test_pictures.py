"""Pictures and node definitions, which take long to make, hold up nobody but whoever asked for them."""

from __future__ import annotations

import io
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import pytest
from PIL import Image

from comfyume.tests.acceptance.conftest import Room
from comfyume.tests.harness.client import Client, RequestRefused
from comfyume.tests.harness.processes import ComfyProcess

pytestmark = [pytest.mark.acceptance, pytest.mark.alone]

#: Seconds for which a request may wait for others' pictures; two cores share encoding, client and server.
LONGEST = 0.25


def noise(side: int) -> bytes:
    """A picture that is long in encoding, since nothing in it repeats."""
    file = io.BytesIO()
    Image.frombytes("RGB", (side, side), os.urandom(3 * side * side)).save(file, format="PNG", compress_level=0)
    return file.getvalue()


def test_a_preview_of_a_large_picture_holds_up_nobody(client: Client, vanilla: ComfyProcess, room: Room) -> None:
    content = noise(3000)
    name = client.upload(content, "noise.png")["name"]
    path = f"/view?{urlencode({'filename': name, 'type': 'input', 'preview': 'webp;90'})}"
    previewed: list[bytes] = []
    longest = 0.0
    done = threading.Event()

    def look() -> float:
        began = time.monotonic()
        with room.client(connect=False) as other:
            previewed.append(other.request("GET", f"/api{path}"))
        return time.monotonic() - began

    with ThreadPoolExecutor(2) as threads:
        looks = [threads.submit(look) for _ in range(2)]
        looks[0].add_done_callback(lambda _: done.set())
        while not done.is_set():
            began = time.monotonic()
            client.get("/comfyume/health")
            longest = max(longest, time.monotonic() - began)
        took = [each.result() for each in looks]
    assert min(took) > 2 * LONGEST, "the preview was too short to tell"
    assert longest < LONGEST
    with Client(vanilla.address, connect=False) as plain:
        plain.upload(content, name)
        assert previewed[0] == previewed[1] == plain.request("GET", path)


def test_pages_that_open_at_once_hold_up_nobody(client: Client, room: Room) -> None:
    pages = 8

    def definitions() -> bytes:
        with room.client(connect=False) as other:
            return other.request("GET", "/api/object_info")

    began = time.monotonic()
    with ThreadPoolExecutor(pages) as threads:
        opening = [threads.submit(definitions) for _ in range(pages)]
        longest = 0.0
        while not all(each.done() for each in opening):
            asked = time.monotonic()
            client.get("/comfyume/health")
            longest = max(longest, time.monotonic() - asked)
        took = time.monotonic() - began
        found = [each.result() for each in opening]
    assert took > 2 * LONGEST, "the definitions were too few to tell"
    # One after the other on the loop, they would hold this up for as long as all of them take.
    assert longest < took / 4
    assert b'"CfmGate"' in found[0]
    assert all(each == found[0] for each in found)


def test_a_picture_with_too_many_pixels_is_refused_in_a_sentence(client: Client) -> None:
    file = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(file, format="PNG")
    name = client.upload(file.getvalue(), "huge.png")["name"]
    with pytest.raises(RequestRefused) as refused:
        client.request("GET", f"/view?filename={name}&type=input&channel=rgb")
    assert refused.value.status == 413
    assert "too many pixels" in str(refused.value)
