"""What holds for downloads and uploads alike: wrong content is refused, failures are retried or told, memory small."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from aiohttp import web

import comfyume
from comfyume.blobs import store
from comfyume.blobs.arriving import ArrivingBlob
from comfyume.blobs.digest import Digest
from comfyume.blobs.errors import DigestMismatch, NotEnoughSpace, TransferFailed
from comfyume.blobs.http_client import download, upload
from comfyume.blobs.http_server import UploadReceiver
from comfyume.blobs.store import BlobFolder
from comfyume.tests.harness.blob_transfers import MIB, BlobFrontend, leftovers, serving


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
        assert leftovers(folder) == []


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
    assert leftovers(worker) == []


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


async def test_an_absent_server_is_given_up_after_a_while(session, worker, make, unused_tcp_port):
    source, digest = make(1000)
    url = f"http://127.0.0.1:{unused_tcp_port}/x"
    with pytest.raises(TransferFailed, match="Check the connection"):
        await download(session, url, worker, digest, away=0.2)
    with pytest.raises(TransferFailed, match="Check the connection"):
        await upload(session, url, source, digest, away=0.2)


async def test_a_server_that_is_away_for_more_attempts_than_one_may_fail_is_waited_for(
    session, worker, make, unused_tcp_port, tmp_path
):
    source, digest = make(1000)
    folder = BlobFolder(tmp_path / "late")
    served = BlobFrontend(folder, UploadReceiver(folder, stall_seconds=0.5))
    app = web.Application()
    app.router.add_put("/x", served.put)
    sending = asyncio.create_task(upload(session, f"http://127.0.0.1:{unused_tcp_port}/x", source, digest, retries=1))
    await asyncio.sleep(0.2)
    assert not sending.done()
    async with serving(app, unused_tcp_port):
        await asyncio.wait_for(sending, 30)


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
