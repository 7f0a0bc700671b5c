"""Transfers over real sockets: whole, resumed after a cut, refused when wrong, small in memory."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

import comfyume
from comfyume.blobs import http_client, store
from comfyume.blobs.arriving import ArrivingBlob
from comfyume.blobs.digest import Digest, digest_file
from comfyume.blobs.errors import DigestMismatch, NotEnoughSpace, TransferFailed, UploadRefused
from comfyume.blobs.http_client import download, upload
from comfyume.blobs.http_server import UploadReceiver, announced_digest, serve_blob
from comfyume.blobs.protocol import SMALL, ContentRange
from comfyume.blobs.store import BlobFolder

pytestmark = pytest.mark.asyncio

MIB = 1024 * 1024
SIZES = [0, 1, 1000, SMALL - 1, SMALL, SMALL + 1, 5 * MIB + 3]


@pytest.fixture(autouse=True)
def quick_backoff(monkeypatch):
    monkeypatch.setattr(http_client, "_BACKOFF_SECONDS", 0.01)


@dataclass
class Frontend:
    """A server with the two routes, whose folder and answers the tests can see and change."""

    folder: BlobFolder
    receiver: UploadReceiver
    url: str = ""
    files: dict[str, Path] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    before: Callable[[web.Request], Awaitable[web.StreamResponse | None]] | None = None

    async def get(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(f"GET {request.headers.get('Range', '')}".strip())
        if self.before and (answer := await self.before(request)) is not None:
            return answer
        path = self.files[request.match_info["name"]]
        return serve_blob(path, digest_file(path).sha256)

    async def put(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(f"PUT {request.headers.get('Content-Range', '')}".strip())
        if self.before and (answer := await self.before(request)) is not None:
            return answer
        try:
            path = await self.receiver.receive(request, announced_digest(request))
        except UploadRefused as refusal:
            return web.json_response(refusal.body, status=refusal.status)
        return web.json_response({"name": path.name, "job": request.query.get("job")})


@contextlib.asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def frontend(tmp_path):
    folder = BlobFolder(tmp_path / "frontend")
    served = Frontend(folder, UploadReceiver(folder, stall_seconds=0.5))
    app = web.Application()
    app.router.add_get("/{name}", served.get)
    app.router.add_put("/{name}", served.put)
    async with serving(app) as url:
        served.url = url
        yield served


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as opened:
        yield opened


@pytest.fixture
def worker(tmp_path):
    return BlobFolder(tmp_path / "worker")


@pytest.fixture
def make(tmp_path):
    def create(size: int, name: str = "source") -> tuple[Path, Digest]:
        path = tmp_path / name
        path.write_bytes(os.urandom(size))
        return path, digest_file(path)

    return create


class Proxy:
    """A TCP proxy that cuts each connection named in `cuts` after so many bytes of payload in one direction."""

    def __init__(self, upstream: str, cuts: list[int], *, direction: str) -> None:
        self._host, port = upstream.removeprefix("http://").split(":")
        self._port = int(port)
        self._cuts = cuts
        self._direction = direction
        self.passed: list[int] = []
        self.url = ""

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_exc) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(self.passed)
        self.passed.append(0)
        limit = self._cuts[number] if number < len(self._cuts) else None
        up_reader, up_writer = await asyncio.open_connection(self._host, self._port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, counted: bool) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
                    if counted:
                        self.passed[number] += len(data)
                        if limit is not None and self.passed[number] >= limit:
                            return

        pumps = [
            asyncio.ensure_future(pump(reader, up_writer, self._direction == "up")),
            asyncio.ensure_future(pump(up_reader, writer, self._direction == "down")),
        ]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        writer.transport.abort()
        up_writer.close()
        for task in pumps:
            task.cancel()
        await asyncio.wait(pumps)


def _leftovers(folder: BlobFolder) -> list[str]:
    return [path.name for path in folder.root.rglob("*") if path.is_file() and len(path.name) != 64]


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
    assert _leftovers(worker) == []


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
    assert _leftovers(frontend.folder) == []


async def test_a_cut_download_continues_where_it_broke(frontend, session, worker, make):
    source, digest = make(24 * MIB)
    frontend.files["x"] = source
    async with Proxy(frontend.url, [10 * MIB, 6 * MIB], direction="down") as proxy:
        path = await download(session, f"{proxy.url}/x", worker, digest)
    assert path.read_bytes() == source.read_bytes()
    assert frontend.requests[0] == "GET"
    assert all(request.startswith("GET bytes=") for request in frontend.requests[1:])
    assert len(proxy.passed) == 3
    # The proxy may have passed on some kilobytes that the cut then swallowed.
    assert 24 * MIB <= sum(proxy.passed) < 26 * MIB


async def test_a_cut_upload_continues_where_it_broke(frontend, session, make):
    source, digest = make(24 * MIB)
    async with Proxy(frontend.url, [10 * MIB, 1, 6 * MIB], direction="up") as proxy:
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
    async with Proxy(frontend.url, [], direction="up") as proxy:
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
    async with Proxy(frontend.url, [], direction="up") as proxy:
        reply = await upload(session, f"{proxy.url}/x", source, digest)
    assert reply["name"] == digest.sha256
    assert sum(proxy.passed) < 16 * MIB


@pytest.mark.parametrize("size", [1000, 5 * MIB])
async def test_wrong_content_is_refused_and_nothing_of_it_stays(frontend, session, worker, make, size):
    source, _ = make(size)
    _, other = make(size, "other")
    frontend.files["x"] = source
    with pytest.raises(DigestMismatch):
        await download(session, f"{frontend.url}/x", worker, other)
    with pytest.raises(DigestMismatch):
        await upload(session, f"{frontend.url}/x", source, other)
    for folder in (worker, frontend.folder):
        assert folder.path(other.sha256) is None
        assert _leftovers(folder) == []


@pytest.mark.parametrize("direction", ["down", "up"])
async def test_a_spoiled_beginning_is_dropped_and_the_transfer_begins_anew(frontend, session, worker, make, direction):
    source, digest = make(5 * MIB)
    frontend.files["x"] = source
    folder = worker if direction == "down" else frontend.folder
    arriving = ArrivingBlob.try_open(folder, digest)
    arriving.append(b"spoiled" * 1000)
    arriving.close()
    if direction == "down":
        await download(session, f"{frontend.url}/x", worker, digest)
    else:
        await upload(session, f"{frontend.url}/x", source, digest)
    assert folder.path(digest.sha256).read_bytes() == source.read_bytes()


@pytest.mark.parametrize("size", [1000, 5 * MIB])
@pytest.mark.parametrize("change", [-1, 1])
async def test_a_file_of_another_size_than_announced_is_refused(frontend, session, worker, make, size, change):
    source, digest = make(size)
    frontend.files["x"] = source
    announced = Digest(digest.sha256, size + change)
    with pytest.raises(DigestMismatch):
        await download(session, f"{frontend.url}/x", worker, announced)
    with pytest.raises(DigestMismatch):
        await upload(session, f"{frontend.url}/x", source, announced)
    assert _leftovers(worker) == []


async def test_two_uploads_of_the_same_content_at_once_both_succeed(frontend, session, make):
    source, digest = make(32 * MIB)
    replies = await asyncio.gather(*(upload(session, f"{frontend.url}/x", source, digest) for _ in range(4)))
    assert [reply["name"] for reply in replies] == [digest.sha256] * 4
    assert frontend.folder.path(digest.sha256).read_bytes() == source.read_bytes()
    assert _leftovers(frontend.folder) == []


async def test_downloads_of_the_same_content_at_once_fetch_it_once(frontend, session, worker, make):
    source, digest = make(8 * MIB)
    frontend.files["x"] = source
    paths = await asyncio.gather(*(download(session, f"{frontend.url}/x", worker, digest) for _ in range(4)))
    assert len(set(paths)) == 1
    assert frontend.requests == ["GET"]


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
async def test_failures_that_may_pass_are_tried_again(frontend, session, worker, make, size):
    source, digest = make(size)
    frontend.files["x"] = source
    answers = iter([503, 500, 429] * 2)

    async def failing(_request):
        status = next(answers, None)
        return web.Response(status=status, text="<html>proxy</html>", content_type="text/html") if status else None

    frontend.before = failing
    await download(session, f"{frontend.url}/x", worker, digest)
    answers = iter([503, 408])
    await upload(session, f"{frontend.url}/x", source, digest)


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 410])
async def test_a_refusal_is_final_and_its_reason_is_told(frontend, session, worker, make, status):
    source, digest = make(1000)

    async def refusing(_request):
        return web.json_response({"error": "not your job"}, status=status, headers={"Location": "/elsewhere"})

    frontend.before = refusing
    with pytest.raises(TransferFailed, match="not your job") as caught:
        await download(session, f"{frontend.url}/x", worker, digest)
    assert caught.value.status == status
    with pytest.raises(TransferFailed, match="not your job"):
        await upload(session, f"{frontend.url}/x", source, digest)
    assert len(frontend.requests) == 2


async def test_an_absent_server_is_given_up_after_the_retries(session, worker, make, unused_tcp_port):
    source, digest = make(1000)
    url = f"http://127.0.0.1:{unused_tcp_port}/x"
    with pytest.raises(TransferFailed, match="Check the connection"):
        await download(session, url, worker, digest, retries=2)
    with pytest.raises(TransferFailed, match="Check the connection"):
        await upload(session, url, source, digest, retries=2)


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
    assert _leftovers(frontend.folder) == []
    assert frontend.requests == ["PUT"]


async def test_a_file_that_cannot_fit_is_refused_before_it_is_sent(frontend, session, worker, make, monkeypatch):
    source, digest = make(5 * MIB)
    frontend.files["x"] = source
    usage = store.shutil.disk_usage(source.parent)
    monkeypatch.setattr(store.shutil, "disk_usage", lambda _path: usage._replace(free=MIB))
    with pytest.raises(NotEnoughSpace):
        await download(session, f"{frontend.url}/x", worker, digest)
    assert frontend.requests == []
    with pytest.raises(NotEnoughSpace):
        await upload(session, f"{frontend.url}/x", source, digest)


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
    assert _leftovers(frontend.folder) == []


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


async def test_300_mib_each_way_fit_in_64_mib_of_memory(tmp_path):
    program = """
        import asyncio, os, resource, sys
        from pathlib import Path
        import aiohttp
        from aiohttp import web
        from comfyume.blobs.digest import digest_file
        from comfyume.blobs.http_client import download, upload
        from comfyume.blobs.http_server import UploadReceiver, announced_digest, serve_blob
        from comfyume.blobs.store import BlobFolder

        async def main(root):
            source = root / "source"
            with open(source, "wb") as file:
                for _ in range(300):
                    file.write(os.urandom(1024 * 1024))
            digest = digest_file(source)
            receiver = UploadReceiver(BlobFolder(root / "frontend"))

            async def put(request):
                path = await receiver.receive(request, announced_digest(request))
                return web.json_response({"size": path.stat().st_size})

            async def get(request):
                return serve_blob(source, digest.sha256)

            app = web.Application()
            app.add_routes([web.put("/", put), web.get("/", get)])
            runner = web.AppRunner(app)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            async with aiohttp.ClientSession() as session:
                assert await upload(session, url, source, digest) == {"size": digest.size}
                await download(session, url, BlobFolder(root / "worker"), digest)
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
            await runner.cleanup()

        asyncio.run(main(Path(sys.argv[1])))
    """
    package = tmp_path / "path"
    package.mkdir()
    (package / "comfyume").symlink_to(Path(comfyume.__path__[0]))
    # The repository's __init__ loads ComfyUI's side; blobs alone is wanted.
    bare = (
        "import sys, types; m = types.ModuleType('comfyume'); m.__path__ = [sys.argv[2]]; sys.modules['comfyume'] = m\n"
    )
    finished = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", bare + textwrap.dedent(program), str(tmp_path), str(package / "comfyume")],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert int(finished.stdout) < 64 * 1024
