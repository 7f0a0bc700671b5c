"""What people and instructors are told of the queue as it changes, and what they do to it by the API of the pages."""

from __future__ import annotations

import csv
import io
import json
import urllib.request
import uuid
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from comfyume.tests.harness import graphs
from comfyume.tests.harness.client import Client, Event, RequestRefused, wait_until
from comfyume.tests.harness.discovery import ComfyInstall
from comfyume.tests.harness.pair import Pair
from comfyume.tests.harness.people import add_users, basic

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def pair(comfyui: ComfyInstall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    env = {"COMFYUME_PRICE_HOUR": "36"}
    base = tmp_path_factory.mktemp("board")
    with Pair(comfyui, base, worker_env=env, worker_node_packs=[graphs.PACK]) as running:
        add_users(running, {"ada": "participant", "bob": "participant", "cleo": "participant", "ines": "instructor"})
        yield running


@pytest.fixture
def person(pair: Pair) -> Callable[..., Client]:
    return lambda name, **options: Client(pair.frontend.address, headers=basic(name), **options)


@pytest.fixture
def gate(pair: Pair) -> Iterator[Path]:
    """While this file is not there, a gated job runs; it is there at the end."""
    path = pair.folder / graphs.name("gate")
    yield path
    path.touch()


def send(client: Client, method: str, path: str, body: Any = None) -> Any:
    content = None if body is None else json.dumps(body).encode()
    answer = client.request(method, path, content, {"Content-Type": "application/json"})
    return json.loads(answer) if answer else None


def follow(client: Client, topic: str) -> Any:
    return send(client, "PUT", f"/comfyume/feeds/{topic}?client={client.client_id}")


def refusal(request: Callable[[], Any]) -> tuple[int, str]:
    """Status and kind of a problem."""
    with pytest.raises(RequestRefused) as refused:
        request()
    body = refused.value.body
    assert body["status"] == refused.value.status
    assert body["detail"].endswith((".", "?"))
    return refused.value.status, body["type"].removeprefix("urn:comfyume:")


def told(client: Client, topic: str, condition: Callable[[Any], Any]) -> Any:
    """What a feed tells, from the first message that fulfils a condition."""

    def fits(event: Event) -> bool:
        return event.kind == f"comfyume.{topic}" and bool(condition(event.data))

    return client.wait_for(fits, 20)[-1].data


def test_a_person_is_told_of_their_own_jobs_alone_from_the_queue_to_the_end(
    person: Callable[..., Client], gate: Path
) -> None:
    with person("ada") as ada, person("bob") as bob:
        assert follow(ada, "jobs")["jobs"] == []
        first = ada.submit(graphs.gated(gate))
        running = told(ada, "jobs", lambda state: state["jobs"] and state["jobs"][0]["state"] == "running")
        assert [job["id"] for job in running["jobs"]] == [first]
        assert (running["workers"], running["store"], running["paused"]) == (1, True, False)
        bob.submit(graphs.image(graphs.name("other")))
        second = ada.submit(graphs.image(graphs.name("mine")))
        waiting = told(ada, "jobs", lambda state: len(state["jobs"]) == 2)
        assert [(job["id"], job["state"], job["position"]) for job in waiting["jobs"]] == [
            (first, "running", None),
            (second, "queued", 2),
        ]
        assert "user" not in waiting["jobs"][0]
        gate.touch()
        assert told(ada, "jobs", lambda state: not state["jobs"])["queued"] == 0


def test_progress_says_what_the_node_is_called_to_its_person_and_the_instructor(
    person: Callable[..., Client], gate: Path
) -> None:
    with person("ada") as ada, person("ines") as ines:
        follow(ada, "jobs")
        follow(ines, "workshop")
        graph = graphs.gated(gate)
        graph["1"]["_meta"] = {"title": "Wait <b>here</b>"}
        job = ada.submit(graph)

        def is_shown(rows: list[Any]) -> bool:
            titles = [(row["progress"]["node"], row["progress"]["title"]) for row in rows if row["progress"]]
            return titles == [("1", "Wait <b>here</b>")]

        told(ada, "jobs", lambda state: is_shown(state["jobs"]))
        told(ines, "workshop", lambda change: is_shown(_set(change)))
        gate.touch()
        ada.wait(job)


def test_an_instructor_is_told_each_change_and_it_adds_up_to_what_is_so(
    person: Callable[..., Client], gate: Path
) -> None:
    with person("ada") as ada, person("ines") as ines:
        state = follow(ines, "workshop")
        jobs = {job["id"]: job for job in state["jobs"]}
        ids = [ada.submit(graphs.gated(gate))]
        ids += [ada.submit(graphs.image(graphs.name("q"))) for _ in range(3)]
        order, revision = state["order"], state["revision"]

        def take(change: Any) -> None:
            nonlocal order, revision
            assert change["revision"] == revision + 1
            revision = change["revision"]
            rows = change.get("jobs", {})
            for row in rows.get("set", ()):
                jobs[row["id"]] = row
            for gone in rows.get("gone", ()):
                del jobs[gone]
            order = [each for each in order if each in jobs and jobs[each]["state"] == "queued"]
            for job_id, index in rows.get("moved", ()):
                order = [each for each in order if each != job_id]
                order.insert(index, job_id)
            order = rows.get("order", order)

        def until(condition: Callable[[], bool]) -> None:
            while not condition():
                take(told(ines, "workshop", lambda _: True))

        until(lambda: len(jobs) == 4 and jobs[ids[0]]["state"] == "running")
        assert order == ids[1:]
        assert {job["user"] for job in jobs.values()} == {"ada"}
        assert send(ines, "PATCH", "/comfyume/jobs", {"ids": [ids[3]], "level": "front"}) == {"changed": [ids[3]]}
        until(lambda: jobs[ids[3]]["level"] == "front")
        assert order == [ids[3], ids[1], ids[2]]
        assert send(ines, "PATCH", "/comfyume/jobs", {"ids": [ids[1]], "held": True}) == {"changed": [ids[1]]}
        until(lambda: jobs[ids[1]]["held"])
        assert (order[-1], jobs[ids[1]]["why"]) == (ids[1], "held")
        assert send(ines, "POST", "/comfyume/jobs/cancel", {"ids": [ids[1], "nobody's"]}) == {"cancelled": [ids[1]]}
        until(lambda: ids[1] not in jobs)
        gate.touch()
        until(lambda: not jobs)
        assert order == []


def test_the_instructor_pauses_drains_reserves_and_speaks_to_all(person: Callable[..., Client], pair: Pair) -> None:
    with person("ada") as ada, person("ines") as ines:
        follow(ada, "jobs")
        assert send(ines, "PATCH", "/comfyume/queue", {"paused": True})["paused"] is True
        assert told(ada, "jobs", lambda state: state["paused"])
        held = ada.submit(graphs.image(graphs.name("paused")))
        assert told(ada, "jobs", lambda state: state["jobs"])["jobs"][0]["why"] == "paused"
        name = ines.get("/comfyume/workers")[0]["name"]
        assert send(ines, "PATCH", f"/comfyume/workers/{name}", {"drained": True})["state"] == "draining"
        assert refusal(lambda: send(ines, "DELETE", f"/comfyume/workers/{name}")) == (409, "not-lost")
        assert refusal(lambda: send(ines, "DELETE", "/comfyume/workers/nobody")) == (404, "not-found")
        assert refusal(lambda: send(ada, "DELETE", f"/comfyume/workers/{name}")) == (403, "not-allowed")
        send(ines, "PATCH", f"/comfyume/workers/{name}", {"drained": False, "reserved_for": "bob"})
        [worker] = ines.get("/comfyume/workers")
        assert (worker["reserved_for"], worker["price_hour"]) == ("bob", 36)
        assert worker["devices"][0]["vram_total"] > worker["devices"][0]["vram_free"] > 0
        send(ines, "PATCH", "/comfyume/queue", {"paused": False, "mode": "fifo"})
        assert ines.get("/comfyume/queue")["mode"] == "fifo"
        send(ines, "PATCH", f"/comfyume/workers/{name}", {"reserved_for": None})
        ada.wait(held)
        send(ines, "PATCH", "/comfyume/queue", {"mode": "fair"})
        send(ines, "POST", "/comfyume/messages", {"text": "Lunch <b>now</b>"})
        message = ada.wait_for(lambda event: event.kind == "comfyume.message", 10)[-1].data
        assert (message["text"], message["from"]) == ("Lunch <b>now</b>", "ines")


def test_a_script_submits_looks_cancels_and_runs_again(person: Callable[..., Client], gate: Path) -> None:
    ada = person("ada", connect=False)
    prefixes = [graphs.name("script"), graphs.name("again")]
    first = send(ada, "POST", "/comfyume/jobs", {"prompt": graphs.image(prefixes[0])})
    assert first["user"] == "ada"
    done = wait_until(lambda: _when_ended(ada, first["id"]), 30)
    assert (done["state"], done["error"]) == ("done", None)
    assert [(file["filename"], file["media"]) for file in done["files"]] == [(f"{prefixes[0]}_00001_.png", "image")]
    stopped = send(ada, "POST", "/comfyume/jobs", {"prompt": graphs.gated(gate, prefixes[1])})
    send(ada, "POST", f"/comfyume/jobs/{stopped['id']}/cancel")
    assert wait_until(lambda: _when_ended(ada, stopped["id"]), 30)["state"] == "cancelled"
    gate.touch()
    again = send(ada, "POST", f"/comfyume/jobs/{stopped['id']}/again")
    assert again["id"] != stopped["id"]
    assert wait_until(lambda: _when_ended(ada, again["id"]), 30)["files"][0]["filename"] == f"{prefixes[1]}_00001_.png"
    listed = ada.get("/comfyume/jobs", state="ended", limit=2)
    assert [each["id"] for each in listed["jobs"]] == [again["id"], stopped["id"]]
    following = ada.get("/comfyume/jobs", state="ended", limit=1, before=listed["next"])
    assert [each["id"] for each in following["jobs"]] == [first["id"]]
    archive = ada.request("GET", f"/comfyume/results.zip?job={first['id']}&job={again['id']}")
    with zipfile.ZipFile(io.BytesIO(archive)) as found:
        assert found.testzip() is None
        assert found.namelist() == [f"{prefix}_00001_.png" for prefix in prefixes]


def _when_ended(client: Client, job_id: str) -> Any:
    job = client.get(f"/comfyume/jobs/{job_id}")
    return job if job["state"] not in ("queued", "running") else None


def test_what_is_wrong_is_said_as_a_problem(person: Callable[..., Client], pair: Pair) -> None:
    ada, bob = person("ada", connect=False), person("bob", connect=False)
    job = send(ada, "POST", "/comfyume/jobs", {"prompt": graphs.image(graphs.name("own"))})["id"]
    assert refusal(lambda: bob.get(f"/comfyume/jobs/{job}")) == (404, "not-found")
    assert refusal(lambda: send(bob, "POST", f"/comfyume/jobs/{job}/again")) == (404, "not-found")
    assert refusal(lambda: bob.get("/comfyume/jobs", user="ada")) == (403, "not-allowed")
    assert refusal(lambda: bob.get("/comfyume/jobs", limit="x")) == (400, "invalid-request")
    assert refusal(lambda: send(bob, "PATCH", "/comfyume/queue", {"paused": True})) == (403, "not-allowed")
    assert refusal(lambda: follow(bob, "jobs")) == (409, "no-socket")
    assert refusal(lambda: follow(bob, "workshop")) == (403, "not-allowed")
    assert refusal(lambda: send(bob, "POST", "/comfyume/jobs", {"prompt": {}}))[0] == 400
    status, kind = refusal(lambda: send(bob, "POST", "/comfyume/jobs", {"prompt": {"1": graphs.node("NoSuchNode")}}))
    assert (status, kind) != (500, "refused")
    nobody = Client(pair.frontend.address, connect=False)
    assert refusal(lambda: nobody.get("/comfyume/jobs")) == (401, "not-signed-in")
    assert refusal(lambda: bob.request("GET", "/comfyume/results.zip?job=none")) == (404, "no-files")


def test_two_thousand_jobs_can_be_changed_or_cancelled_at_once_and_more_bytes_are_a_problem(
    person: Callable[..., Client],
) -> None:
    ines = person("ines", connect=False)
    ids = [str(uuid.uuid4()) for _ in range(2_000)]
    assert send(ines, "PATCH", "/comfyume/jobs", {"ids": ids, "level": "1"}) == {"changed": []}
    assert send(ines, "POST", "/comfyume/jobs/cancel", {"ids": ids}) == {"cancelled": []}
    one_more = {"ids": [*ids, "x"]}
    assert refusal(lambda: send(ines, "POST", "/comfyume/jobs/cancel", one_more)) == (400, "invalid-request")
    too_large = {"ids": ["x" * 64] * 4_000}
    assert refusal(lambda: send(ines, "POST", "/comfyume/jobs/cancel", too_large)) == (413, "body-too-large")
    assert refusal(lambda: send(ines, "PATCH", "/comfyume/jobs", {**too_large, "held": True}))[0] == 413
    assert refusal(lambda: send(ines, "POST", "/comfyume/messages", {"text": "x" * 20_000})) == (413, "body-too-large")


def test_from_a_workers_event_to_the_instructors_socket_takes_less_than_a_quarter_second(
    person: Callable[..., Client], pair: Pair
) -> None:
    waits = []
    with person("ada") as ada, person("ines") as ines, ThreadPoolExecutor(1) as beside:
        follow(ines, "workshop")
        for _ in range(20):
            gate = pair.folder / graphs.name("gate")
            job = ada.submit(graphs.gated(gate))
            told(ines, "workshop", lambda change, job=job: job in str(change.get("jobs", {}).get("set", ())))
            seen = beside.submit(told, ines, "workshop", lambda change, job=job: job in _gone(change))
            gate.touch()
            ended = ada.wait(job)[-1].at
            seen.result()
            waits.append(ines.events[-1].at - ended)
    print("seconds from the end of a job in its person's page to the instructor's:", sorted(waits))
    assert sorted(waits)[-2] < 0.25


def _set(change: Any) -> list[Any]:
    return list(change.get("jobs", {}).get("set", ()))


def _gone(change: Any) -> list[str]:
    return list(change.get("jobs", {}).get("gone", ()))


def test_a_script_without_a_socket_hears_the_same_as_a_page(person: Callable[..., Client], pair: Pair) -> None:
    ada = person("ada", connect=False)
    request = urllib.request.Request(f"{pair.frontend.url}/comfyume/feeds/jobs", headers=basic("ada"))
    with urllib.request.urlopen(request, timeout=20) as stream:

        def next_told() -> Any:
            while not (line := stream.readline()).startswith(b"data: "):
                pass
            return json.loads(line[6:])

        assert next_told()["data"]["jobs"] == []
        gate = pair.folder / graphs.name("gate")
        job = send(ada, "POST", "/comfyume/jobs", {"prompt": graphs.gated(gate)})["id"]
        while not (told_now := next_told())["data"]["jobs"]:
            pass
        assert (told_now["type"], told_now["data"]["jobs"][0]["id"]) == ("comfyume.jobs", job)
        gate.touch()
        while next_told()["data"]["jobs"]:
            pass


def test_history_and_cost_add_up_and_stay_when_a_person_clears_theirs(person: Callable[..., Client]) -> None:
    bob, ines = person("bob", connect=False), person("ines", connect=False)
    with person("bob") as page:
        jobs = [page.submit(graphs.image(graphs.name("cost"))) for _ in range(3)]
        for job in jobs:
            page.wait(job)
    bob.post("/history", {"clear": True})
    assert bob.get("/comfyume/jobs", state="ended")["jobs"] == []
    told_now = ines.get("/comfyume/history", user="bob")
    rows = {row["job"]: row for row in told_now["jobs"]}
    assert set(jobs) <= set(rows)
    for job in jobs:
        assert rows[job]["files"] == 1
        assert rows[job]["cost"] == pytest.approx(rows[job]["ran"] / 100, abs=1e-4)
    totals = told_now["totals"]
    assert totals["jobs"] == sum(totals["states"].values()) == len(told_now["jobs"])
    assert totals["cost"] == pytest.approx(sum(row["cost"] or 0 for row in rows.values()), abs=1e-3)
    assert [each["user"] for each in told_now["people"]] == ["bob"]
    table = ines.request("GET", "/comfyume/history.csv?user=bob").decode()
    assert {row["job"] for row in csv.DictReader(io.StringIO(table))} == set(rows)
    assert {row["job"] for row in ines.get("/comfyume/history.json", user="bob")} == set(rows)


def test_the_instructor_sees_who_is_here_what_templates_lack_and_how_it_went(person: Callable[..., Client]) -> None:
    ines = person("ines", connect=False)
    with person("ada"), person("ines") as watching:
        if "ada" not in follow(watching, "workshop")["here"]:
            told(watching, "workshop", lambda change: "ada" in change.get("here", ()))
        people = wait_until(
            lambda: [each for each in ines.get("/comfyume/people") if each["user"] == "ada" and each["here"]], 30
        )
        assert people[0]["last_seen"] > 0
    templates = {each["name"]: each for each in ines.get("/comfyume/templates")}
    assert (templates["test-card"]["files"], templates["test-card"]["missing"]) == ([], 0)
    files = templates["flux2-klein-4b-text-to-image"]["files"]
    assert {"diffusion_models", "text_encoders", "vae"} == {file["folder"] for file in files}
    assert templates["flux2-klein-4b-text-to-image"]["missing"] == 3
    series = wait_until(lambda: (found := ines.get("/comfyume/series", hours=1)) and found["at"] and found, 30)
    assert {len(column) for column in series.values()} == {len(series["at"])}
    assert series["workers"][-1] == 1


def test_the_instructor_reads_what_the_frontend_is_set_to_without_secrets(person: Callable[..., Client]) -> None:
    told_now = person("ines", connect=False).get("/comfyume/settings")
    assert (told_now["mode"], told_now["lease"] >= 1, "secret" in told_now) == ("frontend", True, False)
    assert "@" not in told_now["redis_url"]
    assert refusal(lambda: person("ada", connect=False).get("/comfyume/settings")) == (403, "not-allowed")


def test_a_latecomer_is_added_and_somebody_is_removed(person: Callable[..., Client], pair: Pair) -> None:
    ines = person("ines", connect=False)
    given = send(ines, "POST", "/comfyume/people", {"user": "Late@Example.org"})
    assert (given["user"], given["role"]) == ("late@example.org", "participant")
    late = Client(pair.frontend.address, headers=basic(given["user"], given["password"]), connect=False)
    assert late.get("/comfyume/me")["role"] == "participant"
    assert refusal(lambda: send(late, "POST", "/comfyume/people", {"user": "friend"}))[0] == 403
    assert refusal(lambda: send(ines, "POST", "/comfyume/people", {"user": "late@example.org"})) == (409, "user-exists")
    assert refusal(lambda: send(ines, "POST", "/comfyume/people", {"user": "../etc"}))[0] == 400
    assert refusal(lambda: send(ines, "DELETE", "/comfyume/people/ines")) == (409, "yourself")
    send(ines, "DELETE", "/comfyume/people/late@example.org")
    assert refusal(lambda: late.get("/comfyume/me"))[0] == 401
    assert refusal(lambda: send(ines, "DELETE", "/comfyume/people/late@example.org"))[0] == 404


def test_a_new_password_is_told_once_and_ends_the_old_ones_sessions(person: Callable[..., Client], pair: Pair) -> None:
    ines = person("ines", connect=False)
    given = send(ines, "POST", "/comfyume/people/cleo/password")
    assert Client(pair.frontend.address, headers=basic("cleo", given["password"]), connect=False).get("/comfyume/me")
    assert refusal(lambda: person("cleo", connect=False).get("/comfyume/me"))[0] in (401, 403)
