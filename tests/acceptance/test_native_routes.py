"""ComfyUI's own routes tell the truth about the workshop, in the shapes that a plain ComfyUI answers with."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from comfyume.tests.acceptance.conftest import Room
from comfyume.tests.harness import graphs
from comfyume.tests.harness.client import Client, RequestRefused, wait_until
from comfyume.tests.harness.graphs import node
from comfyume.tests.harness.processes import ComfyProcess

pytestmark = [pytest.mark.acceptance, pytest.mark.seams]
new_only = pytest.mark.parametrize("comfyui", ["new"], indirect=True, scope="session")


@pytest.fixture(autouse=True)
def _empty_queue(client: Client) -> Iterator[None]:
    """Each test begins and ends with nothing in the queue, and begins with no history."""
    client.post("/history", {"clear": True})
    yield
    client.post("/queue", {"clear": True})
    client.interrupt()
    wait_until(lambda: client.get("/prompt")["exec_info"]["queue_remaining"] == 0)


@pytest.fixture
def plain(vanilla: ComfyProcess) -> Iterator[Client]:
    """A browser of the plain ComfyUI, with no history."""
    with Client(vanilla.address) as browser:
        browser.post("/history", {"clear": True})
        yield browser
        browser.post("/queue", {"clear": True})
        browser.interrupt()
        wait_until(lambda: browser.get("/prompt")["exec_info"]["queue_remaining"] == 0)


def ids(rows: list[list[Any]]) -> list[str]:
    return [row[1] for row in rows]


def started(client: Client, job: str) -> None:
    """Wait until the job's gate is at work."""
    client.wait_for(lambda event: event.kind == "progress" and event.prompt_id == job)


def shape(value: Any) -> Any:
    """A value with its leaves replaced by their types, to compare two answers key by key."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [shape(item) for item in value]
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


def test_the_queue_has_comfyuis_shape(client: Client, plain: Client, tmp_path: Path) -> None:
    answers = []
    for browser in (client, plain):
        gate = tmp_path / browser.address
        first = browser.submit(graphs.gated(gate), extra_data={"extra_pnginfo": {"workflow": {"id": "w1"}}})
        started(browser, first)
        waiting = [browser.submit(graphs.image("queue", color=color)) for color in (1, 2)]
        queue = browser.queue()
        assert ids(queue["queue_running"]) == [first]
        assert sorted(ids(queue["queue_pending"])) == sorted(waiting)
        assert browser.get("/prompt") == {"exec_info": {"queue_remaining": 3}}
        answers.append(shape(queue))
        gate.touch()
        browser.wait(waiting[-1])
        assert browser.queue() == {"queue_running": [], "queue_pending": []}
    assert answers[0] == answers[1]


def test_history_entries_have_comfyuis_shape(client: Client, plain: Client) -> None:
    extra = {"extra_pnginfo": {"workflow": {"id": "w1", "nodes": []}}}
    for graph in (graphs.image("hist", color=graphs.number() % 2**24), graphs.failing()):
        entries = []
        for browser in (client, plain):
            job = browser.submit(graph, extra_data=extra)
            browser.wait(job)
            wait_until(lambda browser=browser, job=job: job in browser.history())
            entry = browser.history(job)[job]
            assert entry == browser.history()[job]
            entry["prompt"][0] = 0
            for _, data in entry["status"]["messages"]:
                # of the run itself: ids and times, and the path of the code
                data.pop("traceback", None)
            entries.append(entry)
        assert shape(entries[0]) == shape(entries[1])
        ours, theirs = (entry["status"] for entry in entries)
        assert ours["status_str"] == theirs["status_str"]
        assert [name for name, _ in ours["messages"]] == [name for name, _ in theirs["messages"]]


def test_history_pages_as_comfyui_does(client: Client, plain: Client) -> None:
    for browser in (client, plain):
        jobs = []
        for color in range(5):
            jobs.append(browser.submit(graphs.image("page", color=color), prompt_id=None))
            browser.wait(jobs[-1])
        wait_until(lambda browser=browser, jobs=jobs: len(browser.history()) == len(jobs))
        browser.jobs = jobs  # type: ignore[attr-defined]
    for query in (
        {},
        {"max_items": 2},
        {"max_items": 0},
        {"max_items": 9},
        {"max_items": 2, "offset": 0},
        {"max_items": 2, "offset": 1},
        {"max_items": 2, "offset": 4},
        {"max_items": 2, "offset": 7},
        {"offset": 3},
        {"offset": 0},
        {"max_items": 3, "offset": -1},
        {"max_items": -2},
        {"max_items": 0, "offset": 1},
    ):
        pages = [
            [browser.jobs.index(job) for job in browser.history(**query)]  # type: ignore[attr-defined]
            for browser in (client, plain)
        ]
        assert pages[0] == pages[1], query


def test_history_is_deleted_one_by_one_and_whole(client: Client) -> None:
    jobs = [client.submit(graphs.image("del", color=color)) for color in range(3)]
    wait_until(lambda: len(client.history()) == 3)
    client.post("/history", {"delete": [jobs[0], str(uuid.uuid4())]})
    assert set(client.history()) == set(jobs[1:])
    assert client.history(jobs[0]) == {}
    client.post("/history", {"clear": True})
    assert client.history() == {}


def test_waiting_jobs_are_told_their_place_and_when_they_are_expected_to_begin(client: Client, tmp_path: Path) -> None:
    running = client.submit(graphs.gated(tmp_path / "gate"))
    started(client, running)
    jobs = [client.submit(graphs.gated(tmp_path / "gate")) for _ in range(2)]
    told = client.get("/comfyume/jobs", state="active")["jobs"]
    assert [each["id"] for each in told] == [jobs[1], jobs[0], running]
    assert told[2]["waits"] is None
    second, first = told[0]["waits"], told[1]["waits"]
    assert [(each["position"], each["why"], each["held"]) for each in (first, second)] == [
        (1, "", False),
        (2, "", False),
    ]
    # The list was read as the running job began: its clock may be some milliseconds behind.
    assert told[2]["started"] - 0.1 <= first["starts_at"] <= second["starts_at"]
    assert client.get(f"/comfyume/jobs/{jobs[1]}")["waits"]["position"] == 2
    (tmp_path / "gate").touch()
    client.wait(jobs[1])
    assert wait_until(lambda: client.get("/comfyume/jobs", state="active")["jobs"] == [])


def test_waiting_jobs_are_deleted_and_cleared(client: Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    running = client.submit(graphs.gated(gate))
    started(client, running)
    jobs = [client.submit(graphs.image("clear", color=color)) for color in range(4)]
    client.post("/queue", {"delete": [jobs[1], running]})
    assert ids(client.queue()["queue_running"]) == [running]
    assert set(ids(client.queue()["queue_pending"])) == {jobs[0], jobs[2], jobs[3]}
    client.post("/queue", {"clear": True})
    assert client.queue()["queue_pending"] == []
    gate.touch()
    client.wait(running)
    assert set(client.history()) == {running}


@pytest.mark.parametrize("named", [True, False], ids=["by its id", "without an id"])
def test_an_interrupt_stops_a_running_job_within_a_second(client: Client, tmp_path: Path, named: bool) -> None:
    job = client.submit(graphs.gated(tmp_path / "never"))
    started(client, job)
    at = time.monotonic()
    client.interrupt(job if named else None)
    client.wait_for(lambda event: event.kind == "execution_interrupted" and event.prompt_id == job)
    took = time.monotonic() - at
    print(f"interrupted after {took * 1000:.0f} ms")
    assert took < 1.0
    client.wait_for(lambda event: event.kind == "executing" and event.data["node"] is None)
    entry = client.history(job)[job]
    assert entry["status"]["status_str"] == "error"
    assert entry["status"]["messages"][-1][0] == "execution_interrupted"


def test_an_interrupt_with_another_id_does_nothing(client: Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = client.submit(graphs.gated(gate))
    started(client, job)
    waiting = client.submit(graphs.image("after", color=graphs.number() % 2**24))
    for other in (str(uuid.uuid4()), waiting):
        client.interrupt(other)
    gate.touch()
    client.wait(waiting)
    assert all(entry["status"]["completed"] for entry in client.history().values())
    assert set(client.history()) == {job, waiting}


def test_an_interrupt_right_after_the_submit_is_not_lost(client: Client, tmp_path: Path) -> None:
    job = client.submit(graphs.gated(tmp_path / "never"))
    wait_until(lambda: ids(client.queue()["queue_running"]) == [job])
    client.interrupt(job)
    client.wait(job)
    assert client.history(job)[job]["status"]["messages"][-1][0] == "execution_interrupted"


def test_free_reaches_the_worker(client: Client, room: Room) -> None:
    graph = graphs.image("free", color=graphs.number() % 2**24)
    client.run(graph)

    def cached() -> bool:
        job = client.submit(graph)
        events = client.wait(job)
        return any(event.kind == "execution_cached" and "1" in event.data["nodes"] for event in events)

    assert cached()
    client.post("/free", {"unload_models": True, "free_memory": True})
    wait_until(lambda: not cached())


def test_system_stats_show_the_workers_devices(client: Client, vanilla: ComfyProcess) -> None:
    stats = client.get("/system_stats")
    with Client(vanilla.address, connect=False) as plain:
        wanted = plain.get("/system_stats")
    assert shape({**stats["system"], "argv": 0}) == shape({**wanted["system"], "argv": 0})
    (device,) = stats["devices"]
    assert device.keys() == wanted["devices"][0].keys()
    assert device["name"].startswith("worker0: ")
    assert device["vram_total"] > 0


def test_only_the_asked_outputs_run(client: Client, plain: Client) -> None:
    color = graphs.number() % 2**24
    graph = {
        "1": node("EmptyImage", width=16, height=16, batch_size=1, color=color),
        "2": node("PreviewImage", images=["1", 0]),
        "3": node("PreviewImage", images=["1", 0]),
        "4": node("SaveImage", images=["1", 0]),
    }
    for browser in (client, plain):
        answer = browser.post(
            "/prompt", {"prompt": graph, "client_id": browser.client_id, "partial_execution_targets": ["3"]}
        )
        # node 4 is wrong, but nobody asked for it
        browser.wait(answer["prompt_id"])
        assert set(browser.history(answer["prompt_id"])[answer["prompt_id"]]["outputs"]) == {"3"}
        assert answer["node_errors"] == {}


def test_a_graph_with_one_wrong_output_runs_the_other(client: Client, plain: Client) -> None:
    graph = {**graphs.image("half", color=graphs.number() % 2**24), "3": node("SaveImage", filename_prefix="x")}
    answers = []
    for browser in (client, plain):
        answer = browser.post("/prompt", {"prompt": graph, "client_id": browser.client_id})
        browser.wait(answer["prompt_id"])
        assert set(browser.history(answer["prompt_id"])[answer["prompt_id"]]["outputs"]) == {"2"}
        answers.append(answer["node_errors"])
    assert answers[0] == answers[1]


def test_the_clients_own_prompt_id_is_kept_and_is_one_job(client: Client, tmp_path: Path) -> None:
    job, graph = str(uuid.uuid4()), graphs.gated(tmp_path / "gate")
    answers = [
        client.post("/prompt", {"prompt": graph, "client_id": client.client_id, "prompt_id": job}) for _ in range(2)
    ]
    assert [answer["prompt_id"] for answer in answers] == [job, job]
    (tmp_path / "gate").touch()
    client.wait(job)
    assert list(client.history()) == [job]
    assert client.queue() == {"queue_running": [], "queue_pending": []}
    client.submit(graph, prompt_id=job)
    assert list(client.history()) == [job]
    with pytest.raises(RequestRefused) as refused:
        client.submit(graphs.image("other"), prompt_id=job)
    assert refused.value.status == 409
    assert refused.value.body["error"]["type"] == "prompt_id_taken"
    assert refused.value.body["node_errors"] == {}


def test_front_and_number_decide_the_order(client: Client, plain: Client, tmp_path: Path) -> None:
    orders = []
    for browser in (client, plain):
        gate = tmp_path / browser.address
        first = browser.submit(graphs.gated(gate))
        started(browser, first)
        jobs = {
            "a": browser.submit(graphs.image("order", color=1)),
            "b": browser.submit(graphs.image("order", color=2)),
            "front": browser.submit(graphs.image("order", color=3), front=True),
            "number": browser.submit(graphs.image("order", color=4), number=-1000.5),
            "later front": browser.submit(graphs.image("order", color=5), front=True),
            "last": browser.submit(graphs.image("order", color=6), number=10.0**9),
        }
        gate.touch()
        browser.wait(jobs["last"])
        begun = [event.prompt_id for event in browser.events if event.kind == "execution_start"]
        names = {job: name for name, job in jobs.items()}
        orders.append([names[job] for job in begun if job in names])
    assert orders[0] == orders[1] == ["number", "later front", "front", "a", "b", "last"]


def test_a_client_without_a_browser_gets_its_history(client: Client, room: Room) -> None:
    with room.client(connect=False) as program:
        job = program.post("/prompt", {"prompt": graphs.image("api", color=graphs.number() % 2**24)})["prompt_id"]
        entry = wait_until(lambda: program.history(job))[job]
        assert entry["status"]["completed"]
        assert "client_id" not in entry["prompt"][3]
        assert program.view(**entry["outputs"]["2"]["images"][0]).startswith(b"\x89PNG")


def test_secrets_reach_no_list(client: Client, room: Room) -> None:
    job = client.submit(graphs.image("key", color=graphs.number() % 2**24), extra_data={"api_key_comfy_org": "s3cret"})
    client.wait(job)
    assert "s3cret" not in repr(client.history(job))
    with room.pair.store.client() as store:
        assert "s3cret" not in repr(store.hgetall(f"comfyume:{{{room.pair.workshop}}}:job:{job}"))


def test_jobs_are_listed_filtered_and_sorted_as_comfyui_does(client: Client, plain: Client, tmp_path: Path) -> None:
    answers = []
    for browser in (client, plain):
        gate = tmp_path / browser.address
        workflow = {"extra_pnginfo": {"workflow": {"id": "w1"}}}
        jobs = [browser.submit(graphs.image("jobs", color=graphs.number() % 2**24), extra_data=workflow)]
        browser.wait(jobs[0])
        jobs.append(browser.submit(graphs.failing()))
        browser.wait(jobs[1])
        jobs.append(browser.submit(graphs.gated(gate)))
        started(browser, jobs[2])
        jobs.append(browser.submit(graphs.image("jobs", color=graphs.number() % 2**24)))
        wait_until(lambda browser=browser, jobs=jobs: set(browser.history()) >= set(jobs[:2]))
        listed = []
        for query in (
            {},
            {"status": "completed"},
            {"status": "failed,pending"},
            {"status": "in_progress"},
            {"limit": 2},
            {"limit": 2, "offset": 1},
            {"sort_order": "asc"},
            {"workflow_id": "w1"},
            {"sort_by": "execution_duration", "sort_order": "asc", "status": "completed,failed"},
        ):
            answer = browser.get("/api/jobs", **query)
            assert all(isinstance(row["create_time"], int) for row in answer["jobs"])
            order = [jobs.index(row["id"]) for row in answer["jobs"]]
            if query.get("sort_by"):
                order.sort()  # by durations, which are not equal on both sides
            rows = {jobs.index(row["id"]): shape(row) for row in answer["jobs"]}
            listed.append((query, order, rows, answer["pagination"]))
        details = [shape(browser.get(f"/api/jobs/{job}")) for job in jobs]
        with pytest.raises(RequestRefused) as unknown:
            browser.get(f"/api/jobs/{uuid.uuid4()}")
        with pytest.raises(RequestRefused) as wrong:
            browser.get("/api/jobs", status="nonsense")
        answers.append(
            (listed, details, unknown.value.status, unknown.value.body, wrong.value.status, wrong.value.body)
        )
        gate.touch()
        browser.wait(jobs[3])
    ours, theirs = answers
    for mine, wanted in zip(ours[0], theirs[0], strict=True):
        assert mine == wanted
    for mine, wanted in zip(ours[1], theirs[1], strict=True):
        mine.get("execution_error", {}) and mine["execution_error"].pop("traceback", None)
        wanted.get("execution_error", {}) and wanted["execution_error"].pop("traceback", None)
        for entry in (mine, wanted):
            for _, data in entry.get("execution_status", {}).get("messages", []):
                data.pop("traceback", None)
        assert mine == wanted
    assert ours[2:] == theirs[2:]


@new_only
def test_jobs_are_cancelled_one_by_one_and_together(client: Client, plain: Client, tmp_path: Path) -> None:
    for browser in (client, plain):
        done = browser.submit(graphs.image("cancel", color=graphs.number() % 2**24))
        browser.wait(done)
        running = browser.submit(graphs.gated(tmp_path / "never"))
        started(browser, running)
        waiting = [browser.submit(graphs.image("cancel", color=color)) for color in range(3)]
        assert browser.post(f"/api/jobs/{waiting[0]}/cancel") == {"cancelled": True}
        assert browser.post(f"/api/jobs/{uuid.uuid4()}/cancel") == {"cancelled": False}
        wait_until(lambda browser=browser, done=done: done in browser.history())
        assert browser.post(f"/api/jobs/{done}/cancel") == {"cancelled": False}
        with pytest.raises(RequestRefused) as refused:
            browser.post("/api/jobs/cancel", {"job_ids": ["nonsense"]})
        assert refused.value.status == 400
        assert set(ids(browser.queue()["queue_pending"])) == set(waiting[1:])
        assert browser.post("/api/jobs/cancel", {"job_ids": [*waiting, running]}) == {"cancelled": True}
        browser.wait(running)
        wait_until(lambda browser=browser: browser.queue() == {"queue_running": [], "queue_pending": []})
        assert set(browser.history()) == {done, running}
        assert browser.get(f"/api/jobs/{running}")["status"] == "cancelled"


def test_every_route_answers_below_api_too(client: Client) -> None:
    job = client.post("/api/prompt", {"prompt": graphs.image("api"), "client_id": client.client_id})["prompt_id"]
    client.wait(job)
    assert client.get(f"/api/history/{job}") == client.get(f"/history/{job}")
    assert client.get("/api/queue") == {"queue_running": [], "queue_pending": []}
    assert client.get("/api/prompt") == {"exec_info": {"queue_remaining": 0}}


def test_a_worker_takes_no_prompt_of_its_own(room: Room) -> None:
    with Client(room.worker.address, connect=False) as program:
        for path in ("/prompt", "/api/prompt"):
            with pytest.raises(RequestRefused) as refused:
                program.post(path, {"prompt": graphs.image("no")})
            assert refused.value.status == 409
            assert refused.value.body["node_errors"] == {}
            assert "frontend" in refused.value.body["error"]["message"]
