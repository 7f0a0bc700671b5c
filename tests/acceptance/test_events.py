"""What a browser hears of its jobs over the web socket: what a plain ComfyUI says, in order."""

from __future__ import annotations

import json
import struct
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from comfyume.tests.acceptance.conftest import Room
from comfyume.tests.harness import graphs
from comfyume.tests.harness.client import Client, Event
from comfyume.tests.harness.graphs import node
from comfyume.tests.harness.processes import ComfyProcess

pytestmark = [pytest.mark.acceptance, pytest.mark.seams]
PREVIEW, TEXT, PREVIEW_WITH_METADATA, OWN = "1", "3", "4", "77"
#: Events that tell of a passing state: how many there are depends on timing.
PASSING = {"progress_state", "progress", "status", PREVIEW, PREVIEW_WITH_METADATA}


def finished(job: str) -> Any:
    return lambda event: event.kind == "executing" and event.data["node"] is None and event.prompt_id == job


def run(client: Client, graph: graphs.Graph) -> list[Event]:
    """Run a graph and return its events; drops those that came before."""
    job = client.submit(graph)
    return client.wait_for(finished(job))


def lasting(events: list[Event]) -> list[Any]:
    """The events that no browser may miss, with what they say, but for ids, times and random names."""
    said = []
    for event in events:
        if event.kind in PASSING:
            continue
        data = dict(event.data) if isinstance(event.data, dict) else event.data
        if isinstance(data, dict):
            for name in ("prompt_id", "timestamp", "traceback"):
                data.pop(name, None)
            data = {key: set(value) if key == "nodes" else value for key, value in data.items()}
        said.append((event.kind, data))
    return said


GRAPHS = {
    "one picture": lambda: graphs.image(graphs.name(), color=graphs.number() % 2**24),
    "progress": lambda: {
        "1": node("CfmPreviews", steps=4, number=graphs.number()),
        "2": node("SaveImage", images=["1", 0], filename_prefix=graphs.name()),
    },
    "an error": graphs.failing,
    "events of a node pack": lambda: {"1": node("CfmAnnounce", count=5, number=graphs.number())},
    "three branches": lambda: {
        "1": node("EmptyImage", width=16, height=16, batch_size=2, color=graphs.number() % 2**24),
        "2": node("ImageInvert", image=["1", 0]),
        "3": node("SaveImage", images=["2", 0], filename_prefix=graphs.name()),
        "4": node("SaveImage", images=["1", 0], filename_prefix=graphs.name()),
        "5": node("PreviewAny", source=["6", 0]),
        "6": node("CfmCheckedByItself", word="good", number=graphs.number()),
    },
}


@pytest.mark.parametrize("kind", GRAPHS)
def test_the_events_of_a_run_are_comfyuis(client: Client, vanilla: ComfyProcess, kind: str) -> None:
    graph = GRAPHS[kind]()
    heard = []
    for address in (client.address, vanilla.address):
        with Client(address) as browser:
            first, again = run(browser, graph), run(browser, graph)
            heard.append((lasting(first), lasting(again), {event.kind for event in first} - {"status"}))
    assert heard[0][0] == heard[1][0]
    assert heard[0][1] == heard[1][1]
    assert heard[0][2] == heard[1][2]


def test_progress_rises_and_reaches_its_end(client: Client) -> None:
    events = run(client, GRAPHS["progress"]())
    values = [event.data["value"] for event in events if event.kind == "progress"]
    assert values == sorted(values)
    assert values[-1] == 4
    states = [event.data["nodes"] for event in events if event.kind == "progress_state"]
    assert states[-1]["2"]["state"] == "finished"


@pytest.mark.parametrize("announced", [True, False], ids=["with metadata", "the old format"])
def test_previews_come_in_the_format_that_the_browser_announced(
    room: Room, vanilla: ComfyProcess, announced: bool
) -> None:
    for address in (room.frontend.address, vanilla.address):
        with Client(address, connect=False) as browser:
            browser.connect({"supports_preview_metadata": announced})
            browser.get("/queue")  # the announcement was sent before this was asked
            job = browser.submit(GRAPHS["progress"]())
            events = browser.wait_for(finished(job))
        previews = [event for event in events if event.kind in (PREVIEW, PREVIEW_WITH_METADATA)]
        assert len(previews) == 4, address
        assert {event.kind for event in previews} == {PREVIEW_WITH_METADATA if announced else PREVIEW}
        for event in previews:
            start = 4
            if announced:
                (length,) = struct.unpack(">I", event.data[:4])
                metadata = json.loads(event.data[4 : 4 + length])
                assert metadata["node_id"] == "1"
                assert metadata["prompt_id"] == job
                assert metadata["image_type"] == "image/jpeg"
                start += length
            assert event.data[start : start + 2] == b"\xff\xd8"


def test_a_node_packs_own_events_arrive_in_order(client: Client) -> None:
    events = run(client, {"1": node("CfmAnnounce", count=50, number=graphs.number())})
    own = [event for event in events if event.kind in ("cfm.announced", OWN)]
    indexes = [
        event.data["index"] if event.kind == "cfm.announced" else struct.unpack(">I", event.data)[0] for event in own
    ]
    assert [event.kind for event in own] == ["cfm.announced", OWN] * 50
    assert indexes == [index for index in range(50) for _ in range(2)]


def test_text_of_progress_arrives(client: Client) -> None:
    events = run(client, {"1": node("CfmAnnounce", count=1, number=graphs.number())})
    (text,) = [event.data for event in events if event.kind == TEXT]
    assert text == struct.pack(">I", 1) + b"1" + b"half way"


def test_a_browser_that_reloads_in_the_middle_hears_the_rest(room: Room, tmp_path: Path) -> None:
    graph = {
        "1": node("EmptyImage", width=16, height=16, batch_size=1, color=graphs.number() % 2**24),
        "2": node("PreviewImage", images=["1", 0]),
        "3": node("CfmGate", path=str(tmp_path / "gate"), number=graphs.number()),
        "4": node("SaveImage", images=["3", 0], filename_prefix=graphs.name()),
    }
    with room.client() as browser:
        job = browser.submit(graph)
        browser.wait_for(lambda event: event.kind == "progress" and event.prompt_id == job)
        browser.connect()
        told = browser.wait_for(lambda event: event.kind == "progress" and event.prompt_id == job)
        assert [event.data["node"] for event in told if event.kind == "executing"][-1] == "3"
        assert any(event.kind == "execution_start" for event in told)
        (tmp_path / "gate").touch()
        rest = browser.wait_for(finished(job))
    events = told + rest
    executed = [event.data["node"] for event in events if event.kind == "executed"]
    assert sorted(executed) == ["2", "4"]
    assert [event.kind for event in rest if event.kind not in PASSING][-2:] == ["execution_success", "executing"]


def test_a_browser_that_was_away_at_the_end_hears_of_it(room: Room, tmp_path: Path) -> None:
    with room.client() as browser:
        job = browser.submit(graphs.gated(tmp_path / "gate"))
        browser.wait_for(lambda event: event.kind == "progress" and event.prompt_id == job)
        browser.close()
        (tmp_path / "gate").touch()
        while job not in browser.history():
            time.sleep(0.02)
        browser.connect()
        events = browser.wait_for(finished(job))
    assert [event.data["node"] for event in events if event.kind == "executed"] == ["2"]


def test_two_browsers_do_not_hear_of_each_others_jobs(room: Room) -> None:
    with room.client() as one, room.client() as other:
        jobs = {
            browser: browser.submit(graphs.image(graphs.name(), color=graphs.number() % 2**24))
            for browser in (one, other)
        }
        for browser, job in jobs.items():
            browser.wait_for(finished(job))
        for browser, job in jobs.items():
            foreign = [e for e in browser.events if e.prompt_id not in (None, job) and e.kind not in PASSING]
            assert not foreign


def test_no_event_of_a_job_comes_before_the_answer_to_its_submit(room: Room) -> None:
    with room.client() as browser:
        for index in range(25):
            heard: list[float] = []
            expected = threading.Event()

            def listen(heard: list[float] = heard, expected: threading.Event = expected) -> None:
                while not expected.is_set():
                    event = browser.receive()
                    if event.kind.startswith("execut"):
                        heard.append(event.at)
                    if event.kind == "executing" and event.data["node"] is None:
                        expected.set()

            thread = threading.Thread(target=listen)
            thread.start()
            browser.submit(graphs.image("answer", color=index))
            answered = time.monotonic()
            thread.join(30)
            assert expected.is_set()
            # the client reads its socket in another thread: what it had read a moment before is not yet too early
            assert min(heard) > answered - 0.01


def test_everyone_is_told_how_many_of_their_jobs_are_left(room: Room) -> None:
    with room.client() as browser:
        run(browser, graphs.image(graphs.name()))
        browser.wait_for(
            lambda event: event.kind == "status" and event.data["status"]["exec_info"]["queue_remaining"] == 0, 10
        )


def test_the_result_can_be_read_when_the_last_event_arrives(client: Client) -> None:
    for color in range(20):
        job = client.submit(graphs.image("read", color=color))
        client.wait_for(finished(job))
        assert client.history(job)[job]["status"]["completed"]
