"""Uploads over real sockets: whole, resumed after a cut, not sent twice, refused when malformed or too large."""

from __future__ import annotations

import asyncio
import errno
import io
import os

import pytest
from aiohttp import web

from comfyume.blobs import store
from comfyume.blobs.arriving import ArrivingBlob
from comfyume.blobs.errors import NotEnoughSpace
from comfyume.blobs.http_client import upload
from comfyume.blobs.protocol import ContentRange
from comfyume.tests.harness.blob_transfers import MIB, SIZES, CuttingProxy, leftovers


@pytest.mark.parametrize("size", SIZES)
async def test_an_upload_arrives_whole_in_one_request(frontend, session, make, size):
    source, digest = make(size)
    seen = []
    reply = await upload(
        session,
        f"{frontend.url}/x",
        source,
        digest,
        params={"job": "7"},
        on_progress=lambda *args: seen.append(args),
    )
    assert reply == {"name": digest.sha256, "job": "7"}
    assert frontend.folder.path(digest.sha256).read_bytes() == source.read_bytes()
    assert seen[-1] == (size, size)
    assert frontend.requests == ["PUT"]
    assert leftovers(frontend.folder) == []


async def test_a_cut_upload_continues_where_it_broke(frontend, session, make):
    source, digest = make(24 * MIB)
    async with CuttingProxy(frontend.url, [10 * MIB, 1, 6 * MIB], direction="up") as proxy:
        await upload(session, f"{proxy.url}/x", source, digest)
    assert frontend.folder.path(digest.sha256).read_bytes() == source.read_bytes()
    assert frontend.requests[0] == "PUT"
    assert f"PUT bytes */{digest.size}" in frontend.requests
    assert 24 * MIB <= sum(proxy.passed) < 26 * MIB
    assert sum(proxy.passed[1:]) < 16 * MIB


async def test_an_upload_continues_what_an_earlier_process_left(frontend, session, make):
    source, digest = make(24 * MIB)
    arriving = ArrivingBlob.try_open(frontend.folder, digest)
    arriving.append(source.read_bytes()[: 20 * MIB])
    arriving.close()
    async with CuttingProxy(frontend.url, [], direction="up") as proxy:
        await upload(session, f"{proxy.url}/x", source, digest)
    assert frontend.requests == ["PUT", f"PUT {ContentRange(20 * MIB, digest.size - 1, digest.size)}"]
    assert sum(proxy.passed) < 16 * MIB
    assert frontend.folder.path(digest.sha256).read_bytes() == source.read_bytes()


async def test_an_upload_that_only_lacked_its_publication_is_published(frontend, session, make):
    source, digest = make(2 * MIB)
    arriving = ArrivingBlob.try_open(frontend.folder, digest)
    arriving.append(source.read_bytes())
    arriving.close()
    await upload(session, f"{frontend.url}/x", source, digest)
    assert frontend.requests == ["PUT"]
    assert frontend.folder.path(digest.sha256).read_bytes() == source.read_bytes()


async def test_a_large_file_that_is_there_is_not_sent_again(frontend, session, make):
    source, digest = make(64 * MIB)
    await upload(session, f"{frontend.url}/x", source, digest)
    async with CuttingProxy(frontend.url, [], direction="up") as proxy:
        reply = await upload(session, f"{proxy.url}/x", source, digest)
    assert reply["name"] == digest.sha256
    assert sum(proxy.passed) < 16 * MIB


async def test_two_uploads_of_the_same_content_at_once_both_succeed(frontend, session, make):
    source, digest = make(32 * MIB)
    replies = await asyncio.gather(*(upload(session, f"{frontend.url}/x", source, digest) for _ in range(4)))
    assert [reply["name"] for reply in replies] == [digest.sha256] * 4
    assert frontend.folder.path(digest.sha256).read_bytes() == source.read_bytes()
    assert leftovers(frontend.folder) == []


async def test_a_sender_who_falls_silent_is_given_up_and_what_came_is_kept(frontend, session, make):
    source, digest = make(5 * MIB)
    data = source.read_bytes()

    async def halting():
        yield data[: 2 * MIB + 100]
        await asyncio.sleep(30)

    headers = {"X-Comfyume-Sha256": digest.sha256, "X-Comfyume-Size": str(digest.size)}
    async with session.put(f"{frontend.url}/x", data=halting(), headers=headers) as response:
        assert response.status == 408
        assert (await response.json())["offset"] == 2 * MIB + 100
    assert await frontend.receiver.offset(digest) == 2 * MIB + 100
    await upload(session, f"{frontend.url}/x", source, digest)
    assert await frontend.receiver.offset(digest) == digest.size


@pytest.mark.parametrize("size", [1000, 5 * MIB])
async def test_a_full_disk_is_said_to_both_sides_and_leaves_nothing(frontend, session, make, monkeypatch, size):
    source, digest = make(size)

    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store.BlobFolder, "_write_new", full)
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(NotEnoughSpace):
        await upload(session, f"{frontend.url}/x", source, digest)
    assert frontend.folder.path(digest.sha256) is None
    assert leftovers(frontend.folder) == []
    assert frontend.requests == ["PUT"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Comfyume-Size": "4"},
        {"X-Comfyume-Sha256": "../../etc/passwd", "X-Comfyume-Size": "4"},
        {"X-Comfyume-Sha256": "0" * 64, "X-Comfyume-Size": "-4"},
        {"X-Comfyume-Sha256": "0" * 64, "X-Comfyume-Size": "four"},
        {"X-Comfyume-Sha256": "0" * 64, "X-Comfyume-Size": "4", "Content-Range": "bytes 0-4/5"},
        {"X-Comfyume-Sha256": "0" * 64, "X-Comfyume-Size": "4", "Content-Range": "bytes 3-2/4"},
        {"X-Comfyume-Sha256": "0" * 64, "X-Comfyume-Size": "3"},
        {"X-Comfyume-Sha256": "0" * 64, "X-Comfyume-Size": "0"},
    ],
)
async def test_malformed_uploads_are_refused_with_a_sentence(frontend, session, headers):
    async with session.put(f"{frontend.url}/x", data=b"four", headers=headers) as response:
        assert response.status == 400
        assert (await response.json())["error"].endswith(".")
    assert not frontend.folder.root.exists()


async def test_more_than_announced_is_refused_and_dropped(frontend, session, make):
    source, digest = make(2 * MIB)
    headers = {"X-Comfyume-Sha256": digest.sha256, "X-Comfyume-Size": str(digest.size - 1)}
    async with session.put(f"{frontend.url}/x", data=io.BytesIO(source.read_bytes()), headers=headers) as response:
        assert response.status == 400
    assert leftovers(frontend.folder) == []


@pytest.mark.parametrize("size", [1000, 5 * MIB])
@pytest.mark.parametrize("answer", ["<html>Sign in</html>", '{"name": "a', "[]", ""])
async def test_a_success_that_is_not_the_servers_is_asked_again(frontend, session, make, size, answer):
    source, digest = make(size)

    async def a_proxy(request):
        if len(frontend.requests) > 1:
            return None
        await request.content.read()
        return web.Response(text=answer, content_type="application/json")

    frontend.before = a_proxy
    reply = await upload(session, f"{frontend.url}/x", source, digest)
    assert reply["name"] == digest.sha256
    assert frontend.folder.path(digest.sha256).read_bytes() == source.read_bytes()
