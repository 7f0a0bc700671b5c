"""Downloads over real sockets: whole, once, resumed after a cut, and what a served file says of itself."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from comfyume.blobs.arriving import ArrivingBlob
from comfyume.blobs.http_client import download
from comfyume.tests.harness.blob_transfers import MIB, SIZES, CuttingProxy, leftovers


@pytest.mark.parametrize("size", SIZES)
async def test_a_download_arrives_whole_once(frontend, session, worker, make, size):
    source, digest = make(size)
    frontend.files["x"] = source
    seen = []
    path = await download(session, f"{frontend.url}/x", worker, digest, on_progress=lambda *args: seen.append(args))
    assert path.read_bytes() == source.read_bytes()
    assert seen[-1] == (size, size)
    assert seen == sorted(seen)
    assert await download(session, f"{frontend.url}/x", worker, digest) == path
    assert frontend.requests == ["GET"]
    assert leftovers(worker) == []


async def test_a_cut_download_continues_where_it_broke(frontend, session, worker, make):
    source, digest = make(24 * MIB)
    frontend.files["x"] = source
    async with CuttingProxy(frontend.url, [10 * MIB, 6 * MIB], direction="down") as proxy:
        path = await download(session, f"{proxy.url}/x", worker, digest)
    assert path.read_bytes() == source.read_bytes()
    assert frontend.requests[0] == "GET"
    assert all(request.startswith("GET bytes=") for request in frontend.requests[1:])
    assert len(proxy.passed) == 3
    # The proxy may have passed on some kilobytes that the cut then swallowed.
    assert 24 * MIB <= sum(proxy.passed) < 26 * MIB


async def test_downloads_of_the_same_content_at_once_fetch_it_once(frontend, session, worker, make):
    source, digest = make(8 * MIB)
    frontend.files["x"] = source
    paths = await asyncio.gather(*(download(session, f"{frontend.url}/x", worker, digest) for _ in range(4)))
    assert len(set(paths)) == 1
    assert frontend.requests == ["GET"]


async def test_a_server_that_knows_no_ranges_sends_everything_again(frontend, session, worker, make):
    source, digest = make(5 * MIB)

    async def whole(_request):
        return web.Response(body=source.read_bytes())

    frontend.before = whole
    arriving = ArrivingBlob.try_open(worker, digest)
    arriving.append(source.read_bytes()[:MIB])
    arriving.close()
    path = await download(session, f"{frontend.url}/x", worker, digest)
    assert path.read_bytes() == source.read_bytes()


async def test_a_served_file_has_ranges_the_hash_as_etag_and_no_guessed_type(frontend, session, make):
    source, digest = make(1000, "page.html")
    frontend.files["page.html"] = source
    url = f"{frontend.url}/page.html"
    async with session.get(url, headers={"Range": "bytes=10-19"}) as response:
        assert response.status == 206
        assert await response.read() == source.read_bytes()[10:20]
        assert response.headers["Content-Type"] == "application/octet-stream"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["ETag"] == f'"{digest.sha256}"'
    async with session.get(url, headers={"If-None-Match": f'"{digest.sha256}"'}) as response:
        assert response.status == 304
        assert response.headers["ETag"] == f'"{digest.sha256}"'
        assert await response.read() == b""
    async with session.get(url, headers={"Range": "bytes=5000-"}) as response:
        assert response.status == 416
