"""What a process becomes, what stops it from becoming so, and what happens when the store or a worker is lost."""

from __future__ import annotations

import contextlib
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from comfyume.job_queue.keys import Keys
from comfyume.tests.acceptance.test_native_routes import started
from comfyume.tests.harness import graphs
from comfyume.tests.harness.client import Client, Event, RequestRefused, wait_until
from comfyume.tests.harness.discovery import ComfyInstall
from comfyume.tests.harness.pair import Pair
from comfyume.tests.harness.processes import ComfyProcess, RedisServer

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(240),
    pytest.mark.parametrize("comfyui", ["new"], indirect=True, scope="session"),
]

#: These nodes are loaded before the extension is, which takes a sixth of the start that it ends.
SOONER = ["--disable-api-nodes"]


def ends_with(process: ComfyProcess, timeout: float = 90) -> str:
    """Start a process that must end by itself; return its log without the traceback of nobody's interest."""
    process.start()
    assert process.process is not None
    code = process.process.wait(timeout)
    process.process = None
    log = process.log.read_text()
    assert code != 0, log
    assert "Starting server" not in log
    return log


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"COMFYUME_MODE": "fronted"}, ["COMFYUME_MODE", "'standalone', 'frontend', 'worker' or 'off'", "'fronted'"]),
        ({"COMFYUME_LEASE": "abc"}, ["COMFYUME_LEASE", "number", "'abc'"]),
        ({"COMFYUME_FOO": "1"}, ["COMFYUME_FOO is no setting", "COMFYUME_REDIS_URL"]),
        ({"COMFYUME_MODE": "frontend"}, ["a frontend needs the store", "COMFYUME_REDIS_URL"]),
        ({"COMFYUME_REDIS_URL": "redis://10.1.2.3:6379"}, ["password"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_setting_ends_the_start_with_a_sentence(
    comfyui: ComfyInstall, tmp_path: Path, environment: dict[str, str], words: list[str]
) -> None:
    log = ends_with(ComfyProcess(comfyui, tmp_path, env=environment, args=SOONER))
    (sentence,) = [line for line in log.splitlines() if line.startswith("[comfyume] ComfyUI was not started")]
    for word in words:
        assert word in sentence
    assert "Traceback" not in log


def test_comfyuis_own_users_end_the_start(comfyui: ComfyInstall, tmp_path: Path) -> None:
    log = ends_with(ComfyProcess(comfyui, tmp_path, args=["--multi-user", *SOONER]))
    assert "start ComfyUI without --multi-user" in log


def test_a_store_that_refuses_the_password_ends_the_start(
    comfyui: ComfyInstall, tmp_path: Path, short_folder: Path
) -> None:
    with RedisServer(short_folder / "password", port=0) as store:
        with store.client() as client:
            client.config_set("requirepass", "right")
        url = f"redis://:wr0ng@127.0.0.1:{store.port}"
        process = ComfyProcess(comfyui, tmp_path, mode="frontend", store_url=url, args=SOONER)
        log = ends_with(process)
    (sentence,) = [line for line in log.splitlines() if line.startswith("[comfyume] ComfyUI was not started")]
    print(sentence)
    assert "password" in sentence
    assert "wr0ng" not in log
    assert "Traceback" not in log


def test_a_frontend_waits_for_a_store_that_is_not_there_yet(
    comfyui: ComfyInstall, tmp_path: Path, short_folder: Path
) -> None:
    store = RedisServer(short_folder / "later", port=0)
    with (
        ComfyProcess(comfyui, tmp_path, mode="frontend", store_url=store.url) as frontend,
        Client(frontend.address, connect=False) as client,
    ):
        with pytest.raises(RequestRefused) as refused:
            client.post("/prompt", {"prompt": graphs.image("early")})
        assert refused.value.status == 503
        assert client.get("/comfyume/health")["store"] == "away"
        with pytest.raises(RequestRefused, match="tries again by itself") as page:
            client.request("GET", "/", headers={"Accept": "text/html"})
        assert page.value.status == 503
        with store:
            wait_until(lambda: client.get("/comfyume/health")["store"] == "ok")
            # Who may use it was not known while the store was away.
            wait_until(lambda: b"<html" in client.request("GET", "/", headers={"Accept": "text/html"}))
            assert client.queue() == {"queue_running": [], "queue_pending": []}


def test_a_frontend_that_cannot_load_does_not_execute_by_itself(comfyui: ComfyInstall, tmp_path: Path) -> None:
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    (shadow / "redis.py").write_text("raise ImportError('redis is broken')\n")
    process = ComfyProcess(
        comfyui,
        tmp_path / "base",
        mode="frontend",
        store_url="redis://127.0.0.1:1",
        env={"PYTHONPATH": str(shadow)},
        args=SOONER,
    )
    log = ends_with(process)
    assert "ComfyUI was not started as frontend" in log
    assert "redis is broken" in log


@pytest.fixture(scope="module")
def fragile(comfyui: ComfyInstall, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A pair with a short lease, whose parts are stopped and killed; each test leaves them running."""
    pair = Pair(
        comfyui, tmp_path_factory.mktemp("fragile"), env={"COMFYUME_LEASE": "2"}, worker_node_packs=[graphs.PACK]
    )
    with pair:
        yield pair


def ends(event: Event, job: str) -> bool:
    """Whether this is the job's last event."""
    return event.kind == "executing" and event.data["node"] is None and event.prompt_id == job


def hear_all(client: Client, seconds: float = 0.7) -> None:
    """Receive what is still on its way, until nothing comes for a while."""
    with contextlib.suppress(TimeoutError):
        while True:
            client.receive(seconds)


def ends_once(client: Client, job: str) -> None:
    """Wait for the job's end, and see that it was told once, with its result once."""
    if not any(ends(event, job) for event in client.events):
        client.wait_for(lambda event: ends(event, job))
    hear_all(client)
    ours = [event for event in client.events if event.prompt_id == job]
    assert sum(ends(event, job) for event in ours) == 1
    assert sum(event.kind == "execution_success" for event in ours) == 1
    assert Counter(event.data["node"] for event in ours if event.kind == "executed") == {"2": 1}
    entry = client.history(job)[job]
    assert entry["status"]["completed"]


def test_a_store_that_goes_away_and_comes_back(fragile: Pair, tmp_path: Path) -> None:
    with Client(fragile.frontend.address) as client:
        job = client.submit(graphs.gated(tmp_path / "gate"))
        started(client, job)
        fragile.store.kill()
        try:
            refused_requests = {
                "/prompt": {"prompt": graphs.image("lost")},
                "/interrupt": {},
                "/queue": {"clear": True},
            }
            for path, body in refused_requests.items():
                at = time.monotonic()
                with pytest.raises(RequestRefused) as refused:
                    client.post(path, body)
                print(f"{path}: {refused.value.status} after {time.monotonic() - at:.2f} s")
                assert refused.value.status == 503
                assert refused.value.body["error"]["type"] == "store_unavailable"
                assert refused.value.body["node_errors"] == {}
            assert client.get("/comfyume/health")["store"] == "away"
            assert client.get("/object_info/CfmGate")  # what needs no store goes on
        finally:
            fragile.store.start()
        wait_until(lambda: client.get("/comfyume/health")["store"] == "ok")
        queue = client.queue()
        assert [row[1] for row in queue["queue_running"]] == [job]
        assert queue["queue_pending"] == []
        (tmp_path / "gate").touch()
        ends_once(client, job)
        assert list(client.history()) == [job]
        again = client.submit(graphs.image("again"))
        client.wait(again)
        assert client.history(again)[again]["status"]["completed"]


def test_a_store_that_is_away_longer_than_a_lease_loses_no_job(fragile: Pair, tmp_path: Path) -> None:
    with Client(fragile.frontend.address) as client:
        job = client.submit(graphs.gated(tmp_path / "gate"))
        started(client, job)
        waiting = client.submit(graphs.image("waits", color=graphs.number() % 2**24))
        fragile.store.kill()
        time.sleep(3.0)  # the lease is over; there is no condition to wait for
        fragile.store.start()
        (tmp_path / "gate").touch()
        for each in (job, waiting):
            ends_once(client, each)


def test_the_job_of_a_killed_worker_is_run_again_and_ends_once(fragile: Pair, tmp_path: Path) -> None:
    with Client(fragile.frontend.address) as client:
        job = client.submit(graphs.gated(tmp_path / "gate"))
        started(client, job)
        fragile.worker.kill()
        wait_until(lambda: [row[1] for row in client.queue()["queue_pending"]] == [job])
        fragile.worker.start().wait_ready()
        started(client, job)
        (tmp_path / "gate").touch()
        ends_once(client, job)


def test_a_worker_that_is_told_to_end_gives_its_job_back(fragile: Pair, tmp_path: Path) -> None:
    with Client(fragile.frontend.address) as client:
        job = client.submit(graphs.gated(tmp_path / "gate"))
        started(client, job)
        at = time.monotonic()
        fragile.worker.stop()
        print(f"the worker ended after {time.monotonic() - at:.2f} s")
        assert [row[1] for row in client.queue()["queue_pending"]] == [job]
        fragile.worker.start().wait_ready()
        started(client, job)
        (tmp_path / "gate").touch()
        ends_once(client, job)


def test_a_worker_that_is_told_to_end_ends_its_job_first_if_there_is_time(
    comfyui: ComfyInstall, tmp_path: Path
) -> None:
    env = {"COMFYUME_DRAIN_NOTICE": "60"}
    with Pair(comfyui, tmp_path / "pair", worker_env=env, worker_node_packs=[graphs.PACK]) as pair:
        process = pair.worker.process
        assert process is not None
        with Client(pair.frontend.address) as client:
            job = client.submit(graphs.gated(tmp_path / "gate"))
            started(client, job)
            waits = client.submit(graphs.image("waits", color=graphs.number() % 2**24))
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: "ends; its job has 60 s" in pair.worker.log.read_text())
            (tmp_path / "gate").touch()
            ends_once(client, job)
            process.wait(30)
            assert [row[1] for row in client.queue()["queue_pending"]] == [waits]
        assert pair.store.client().hget(Keys(pair.workshop).job(job), "attempt") == "1"


def test_a_result_outlives_its_worker_while_the_store_is_away(comfyui: ComfyInstall, tmp_path: Path) -> None:
    env = {"COMFYUME_LEASE": "60"}
    with Pair(comfyui, tmp_path / "pair", transport="shared", env=env, worker_node_packs=[graphs.PACK]) as pair:
        with Client(pair.frontend.address) as client:
            job = client.submit(graphs.gated(tmp_path / "gate"))
            started(client, job)
            pair.store.kill()
            (tmp_path / "gate").touch()
            kept = wait_until(lambda: list(pair.worker.base.glob(f"**/unsent/*/{job}.json")))
            pair.worker.kill()
            pair.store.start()
            pair.worker.start().wait_ready()
            ends_once(client, job)
            assert "handed in" in pair.worker.log.read_text()
        assert not kept[0].exists()
        assert pair.store.client().hget(Keys(pair.workshop).job(job), "attempt") == "1"


def test_a_worker_ends_after_as_many_jobs_as_it_may_run(comfyui: ComfyInstall, tmp_path: Path) -> None:
    env = {"COMFYUME_MAX_JOBS": "2"}
    with Pair(comfyui, tmp_path / "pair", worker_env=env, worker_node_packs=[graphs.PACK]) as pair:
        process = pair.worker.process
        assert process is not None
        with Client(pair.frontend.address) as client:
            jobs = [client.submit(graphs.image(f"p{index}", color=graphs.number() % 2**24)) for index in range(3)]
            for job in jobs[:2]:
                ends_once(client, job)
            process.wait(30)
            assert [row[1] for row in client.queue()["queue_pending"]] == jobs[2:]
            pair.worker.start().wait_ready()
            ends_once(client, jobs[2])


@pytest.mark.parametrize("ends_meanwhile", [False, True], ids=["running", "ending"])
def test_a_frontend_that_is_killed_loses_nothing_of_a_running_job(
    fragile: Pair, tmp_path: Path, ends_meanwhile: bool
) -> None:
    with Client(fragile.frontend.address) as client:
        job = client.submit(graphs.gated(tmp_path / "gate"))
        started(client, job)
        waiting = client.submit(graphs.image("waits", color=graphs.number() % 2**24))
        before = len(client.events)
        fragile.frontend.kill()
        if ends_meanwhile:
            (tmp_path / "gate").touch()
            time.sleep(1.0)  # the job ends and its picture cannot be brought; there is no condition to wait for
        fragile.frontend.start().wait_ready()
        client.connect()
        if not ends_meanwhile:
            client.wait_for(lambda event: event.kind == "executing" and event.data["node"] == "1")
            (tmp_path / "gate").touch()
        del client.events[:before]
        for each in (job, waiting):
            ends_once(client, each)
        (image,) = client.history(job)[job]["outputs"]["2"]["images"]
        assert client.view(**image).startswith(b"\x89PNG")


def test_an_interrupt_of_a_job_whose_worker_is_lost_ends_it(fragile: Pair, tmp_path: Path) -> None:
    with Client(fragile.frontend.address) as client:
        job = client.submit(graphs.gated(tmp_path / "never"))
        started(client, job)
        fragile.worker.kill()
        client.interrupt(job)
        client.wait_for(lambda event: event.kind == "executing" and event.data["node"] is None)
        assert client.history(job)[job]["status"]["messages"][-1][0] == "execution_interrupted"
        fragile.worker.start().wait_ready()
        again = client.submit(graphs.image("again"))
        client.wait(again)


def test_a_second_worker_of_one_name_ends_and_the_first_goes_on(fragile: Pair, tmp_path: Path) -> None:
    second = ComfyProcess(
        fragile.frontend.install,
        tmp_path / "second",
        mode="worker",
        store_url=fragile.store.url,
        workshop=fragile.workshop,
        env={"COMFYUME_WORKER_ID": "worker0", "COMFYUME_LEASE": "2"},
    )
    second.start()
    try:
        assert second.process is not None
        assert fragile.worker.process is not None
        second.process.wait(150)
        log = second.log.read_text()
        assert f"process {fragile.worker.process.pid}" in log
        assert "another COMFYUME_WORKER_ID" in log
    finally:
        second.kill()
    with Client(fragile.frontend.address) as client:
        assert client.run(graphs.image("goes on", color=graphs.number() % 2**24))["status"]["completed"]


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "stopped"])
def test_a_queue_survives_comfyui_without_any_setting(comfyui: ComfyInstall, tmp_path: Path, kill: bool) -> None:
    env = {"COMFYUME_DRAIN_NOTICE": "1"}
    process = ComfyProcess(comfyui, tmp_path / "base", env=env, node_packs=[graphs.PACK])
    client_id = "9" * 32
    try:
        process.start().wait_ready()
        with Client(process.address, client_id=client_id) as client:
            jobs = [client.submit(graphs.gated(tmp_path / "gate", f"p{index}")) for index in range(5)]
            started(client, jobs[0])
        process.kill() if kill else process.stop()
        process.start().wait_ready()
        with Client(process.address, client_id=client_id) as client:
            queue = client.queue()
            assert {row[1] for rows in queue.values() for row in rows} == set(jobs)
            (tmp_path / "gate").touch()
            for job in jobs:
                ends_once(client, job)
            assert set(client.history()) == set(jobs)
            assert client.queue() == {"queue_running": [], "queue_pending": []}
        assert sorted(path.name for path in process.output.glob("*.png")) == [f"p{i}_00001_.png" for i in range(5)]
    finally:
        process.stop()
