"""A job that runs for too long ends with an error, and its worker goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from comfyume.tests.harness import graphs
from comfyume.tests.harness.client import Client, Event
from comfyume.tests.harness.discovery import ComfyInstall
from comfyume.tests.harness.pair import Pair

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(180),
    pytest.mark.parametrize("comfyui", ["new"], indirect=True, scope="session"),
]

LIMIT = 3


@pytest.fixture(scope="module")
def impatient(comfyui: ComfyInstall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A pair in which no job may run for longer than three seconds."""
    environment = {"COMFYUME_JOB_TIMEOUT": str(LIMIT)}
    folder = tmp_path_factory.mktemp(f"impatient-{comfyui.label}")
    with Pair(comfyui, folder, env=environment, worker_node_packs=[graphs.PACK]) as pair:
        yield pair


def error_of(client: Client, job: str) -> Event:
    """Wait for the job's end; return its one event of an error."""
    client.wait(job)
    kinds = [event.kind for event in client.events if event.prompt_id == job]
    assert "execution_interrupted" not in kinds
    assert "execution_success" not in kinds
    (error,) = [event for event in client.events if event.prompt_id == job and event.kind == "execution_error"]
    status = client.history(job)[job]["status"]
    assert status["status_str"] == "error"
    assert not status["completed"]
    assert status["messages"][-1][0] == "execution_error"
    assert "timed out" in status["messages"][-1][1]["exception_message"]
    return error


def test_a_job_that_runs_for_too_long_ends_with_an_error_on_its_node(impatient: Pair, tmp_path: Path) -> None:
    process = impatient.worker.process
    with Client(impatient.frontend.address) as client:
        job = client.submit(graphs.gated(tmp_path / "never"))
        after = client.submit(graphs.image("after", color=graphs.number() % 2**24))
        at = time.monotonic()
        error = error_of(client, job)
        print(f"ended {time.monotonic() - at:.1f} s after its submit")
        assert error.data["node_id"] == "1"
        assert f"{LIMIT} s" in error.data["exception_message"]
        client.wait(after)
        assert client.history(after)[after]["status"]["completed"]
    assert impatient.worker.process is process
    assert process is not None
    assert process.poll() is None


def test_a_job_that_heeds_no_interrupt_is_ended_and_its_worker_starts_anew(impatient: Pair, tmp_path: Path) -> None:
    waiting = graphs.node("CfmStubborn", path=str(tmp_path / "never"), number=graphs.number())
    with Client(impatient.frontend.address) as client:
        job = client.submit({**graphs.gated(""), "1": waiting})
        client.wait_for(lambda event: event.kind == "executing" and event.data["node"] == "1")
        after = client.submit(graphs.image("after", color=graphs.number() % 2**24))
        at = time.monotonic()
        error_of(client, job)
        print(f"ended {time.monotonic() - at:.1f} s after its start")
        client.wait(after, timeout=90)
        print(f"the next one was done after {time.monotonic() - at:.1f} s")
        assert client.history(after)[after]["status"]["completed"]
        assert client.queue() == {"queue_running": [], "queue_pending": []}
