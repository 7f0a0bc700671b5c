"""A frontend with a worker, a plain ComfyUI, and the runs of schemathesis that send both the same requests."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from comfyume.tests.harness import graphs, people
from comfyume.tests.harness.client import Client
from comfyume.tests.harness.discovery import ComfyInstall
from comfyume.tests.harness.package import ROOT
from comfyume.tests.harness.pair import Pair
from comfyume.tests.harness.processes import ComfyProcess, tail

from . import findings
from .exchanges import Exchange, Operations
from .fork import Fork

OWN_DESCRIPTION = ROOT / "docs" / "openapi.yaml"
FURTHER_DESCRIPTION = Path(__file__).parent / "further_routes.yaml"
#: The person whom comfyume's description names in its examples.
EXAMPLE = "user007"
#: A run that takes longer has come to a stop.
MOST_SECONDS = 3600


class RunFailed(Exception):
    """Not everything could be tested; the message says why."""


@dataclass(frozen=True)
class Plan:
    """How thoroughly to look.

    Attributes:
        examples: most random requests for each operation and kind; those at the edges of the schemas come in addition.
        has_links: whether operations are called in sequences too, each with what the one before answered.
    """

    seed: int
    examples: int
    has_links: bool = False

    @property
    def arguments(self) -> list[str]:
        """What schemathesis is told."""
        phases = "examples,coverage,fuzzing" + (",stateful" if self.has_links else "")
        return ["--phases", phases, "--max-examples", str(self.examples), "--seed", str(self.seed)]


@dataclass(frozen=True)
class Run:
    """What one run of schemathesis sent and got.

    Attributes:
        failures: what schemathesis says was wrong with the answers, by the checks that it was told to make.
        send_again: sends a request of this run once more.
        is_compared: whether a plain ComfyUI should answer alike.
    """

    name: str
    operations: Operations
    exchanges: list[Exchange]
    failures: str
    send_again: Callable[[Exchange], Exchange]
    is_compared: bool


class Stage:
    """The servers under stress, and who asks them.

    Args:
        pair: the workshop; ada, bob and another are made participants there, ines is made its instructor.
        folder: for what schemathesis leaves behind.
    """

    def __init__(self, pair: Pair, vanilla: ComfyProcess, folder: Path) -> None:
        self.pair = pair
        self.vanilla = vanilla
        self._folder = folder
        people.add_users(pair, {**dict.fromkeys(("ada", "bob", EXAMPLE), "participant"), "ines": "instructor"})
        address = pair.frontend.address
        self.cookie = people.cookie_of(address, "ada")
        self.script = people.basic("ada")
        self.other_script = people.basic("bob")
        self.instructors_script = people.basic("ines")
        self.instructor = people.cookie_of(address, "ines")
        self.addresses = {"frontend": address, "vanilla": vanilla.address}

    def run(
        self,
        name: str,
        description: Path,
        plan: Plan,
        headers: Mapping[str, str],
        *further: str,
        settings: str = "",
    ) -> Run:
        """Let schemathesis make requests from a description and send them to both.

        Args:
            headers: sent to the frontend with each request that has none of that name.
            further: arguments of schemathesis.
            settings: its ``schemathesis.toml``, by which it looks at the answers itself; without it, they are
                compared with a plain ComfyUI's instead.

        Raises:
            RunFailed: some operations were not tested, or a server has ended meanwhile.
        """
        folder = self._folder / name
        folder.mkdir(parents=True)
        (folder / "schemathesis.toml").write_text(settings)
        with Fork(self.addresses, {"frontend": headers}) as fork:
            command = [
                *(str(Path(sys.executable).parent / "schemathesis"), "run", str(description), "--url", fork.url),
                *(() if settings else ("--checks", "not_a_server_error")),
                *("--continue-on-failure", "--no-shrink", "--generation-database", "none"),
                *("--generation-with-security-parameters", "false", "--request-timeout", "60"),
                *("--warnings", "off", "--no-color", *plan.arguments, *further),
            ]
            outcome = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=MOST_SECONDS, check=False
            )
        self._check_alive()
        said = outcome.stdout + outcome.stderr
        # 1 tells of failures, which are looked at here; an error is something that could not be tested.
        if outcome.returncode not in (0, 1) or "= ERRORS =" in said:
            raise RunFailed(said)
        _, is_failed, failures = said.partition("= FAILURES =")
        operations = Operations(yaml.safe_load(description.read_text(encoding="utf-8")))
        failures = failures if is_failed and settings else ""
        return Run(name, operations, fork.exchanges, failures, fork.send_again, is_compared=not settings)

    def _check_alive(self) -> None:
        """Make sure that nobody answers nothing because they are no longer there."""
        servers = {"frontend": self.pair.frontend, "worker": self.pair.worker, "vanilla": self.vanilla}
        for name, server in servers.items():
            if server.process is None or server.process.poll() is not None:
                raise RunFailed(f"the {name} has ended while it was stressed:\n{tail(server.log)}")

    def still_works(self) -> None:
        """See a prompt of ada's run, and its picture arrive."""
        with Client(self.addresses["frontend"], headers=self.cookie) as client:
            entry = client.run(graphs.image("alive", color=graphs.number() % 2**24))
            assert client.view(**entry["outputs"]["2"]["images"][0]).startswith(b"\x89PNG")

    def state(self) -> str:
        """What runs and waits in the workshop, and whose it is."""
        told = []
        for name in ("ada", "bob", "ines"):
            with Client(self.addresses["frontend"], headers=people.basic(name), connect=False) as client:
                queue = client.queue()
                told.append(f"{name}: {len(queue['queue_pending'])} wait, {queue['queue_running']!r:.2000} runs")
                told.append(f"{client.get('/comfyume/jobs', state='active')['jobs'][:3]}")
        return "; ".join(told)

    @property
    def worker_name(self) -> str:
        """What the workshop knows the worker by."""
        with Client(self.addresses["frontend"], headers=self.instructors_script, connect=False) as client:
            return str(client.get("/comfyume/workers")[0]["name"])

    def undo(self) -> None:
        """Take back what instructors may have changed in a run: limits of all, how the queue goes, a drained worker."""
        with Client(self.addresses["frontend"], headers=self.instructors_script, connect=False) as client:
            for method, path, body in (
                ("PUT", "/comfyume/limits", dict.fromkeys(client.get("/comfyume/limits"))),
                ("PATCH", "/comfyume/queue", {"mode": "fair", "paused": False}),
                ("PATCH", f"/comfyume/workers/{self.worker_name}", {"drained": False, "reserved_for": None}),
            ):
                client.request(method, path, json.dumps(body).encode(), {"Content-Type": "application/json"})

    @contextmanager
    def page(self, headers: Mapping[str, str]) -> Iterator[str]:
        """A page of somebody's with an open socket: its client id."""
        with Client(self.addresses["frontend"], headers=headers) as client:
            yield client.client_id

    def ended_job(self) -> str:
        """A job of bob's that has made a picture: its id."""
        with Client(self.addresses["frontend"], headers=self.other_script) as client:
            job = client.submit(graphs.image("ended", color=graphs.number() % 2**24))
            client.wait(job)
        return job

    @contextmanager
    def running_job(self) -> Iterator[tuple[str, str]]:
        """A job of bob's that runs until this ends: its id, and the claim under which it runs."""
        gate = self._folder / uuid.uuid4().hex
        with Client(self.addresses["frontend"], headers=self.other_script) as client:
            job = client.submit(graphs.gated(gate))
            client.wait_for(lambda event: event.kind == "progress" and event.prompt_id == job)
            with self.pair.store.client() as store:
                claim = store.hget(f"comfyume:{{{self.pair.workshop}}}:job:{job}", "claim")
            try:
                yield job, str(claim)
            finally:
                gate.touch()
                client.wait(job)


@contextmanager
def stage(install: ComfyInstall, folder: Path) -> Iterator[Stage]:
    """Start a frontend with a worker, and a plain ComfyUI, and end them afterwards."""
    with ExitStack() as stack:
        pair = stack.enter_context(Pair(install, folder / "pair", worker_node_packs=[graphs.PACK]))
        vanilla = stack.enter_context(
            ComfyProcess(install, folder / "vanilla", mode="vanilla", node_packs=[graphs.PACK])
        )
        yield Stage(pair, vanilla, folder / "runs")


def run_comfyuis(
    on: Stage, install: ComfyInstall, plan: Plan, headers: Mapping[str, str], *further: str
) -> Iterator[Run]:
    """Stress ComfyUI's own routes, as whom these headers name.

    Args:
        further: arguments of schemathesis for ComfyUI's description; one that has none is stressed by ours alone.
    """
    description = install.path / "openapi.yaml"
    if description.is_file():
        yield on.run("comfyui", description, plan, headers, *further)
    yield on.run("further", FURTHER_DESCRIPTION, plan, headers)


def exceptions(on: Stage) -> list[str]:
    """What is in the frontend's log for no reason of ComfyUI's, and what of ours, or fatal, in the worker's."""
    theirs = findings.exceptions_in(on.vanilla.log)
    found = findings.new_exceptions(findings.exceptions_in(on.pair.frontend.log), theirs)
    found += [f"worker, {it}" for it in findings.exceptions_in(on.pair.worker.log) if it.is_ours]
    if "Exception in thread" in on.pair.worker.log.read_text(encoding="utf-8", errors="replace"):
        found.append("a thread of the worker has ended by an exception")
    return found


#: What schemathesis would have otherwise, and why not.
SETTINGS = """
[checks]
# Who may not use a method gets 403, since nobody has said who may.
unsupported_method.enabled = false
# A worker without a claim gets 403, since nobody would sign in for it.
missing_required_header.enabled = false

# What no schema says: that only temp can be emptied, that a whole number is not written as 5.0, what a graph is, of
# which ComfyUI also takes what is not as it should be, that a digest is that of the content, and what is a model; nor
# that a file may be larger than the disk, which is an answer of 507.
[[operations]]
include-path = "/comfyume/files"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-path-regex = "/(?:limits|links)$"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-operation-id = "submitJob"
checks.positive_data_acceptance.enabled = false
checks.negative_data_rejection.enabled = false

[[operations]]
include-operation-id = "bringModel"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-path-regex = "^/comfyume/worker/"
checks.positive_data_acceptance.enabled = false
checks.not_a_server_error.enabled = false
"""


def run_own(on: Stage, plan: Plan) -> Iterator[Run]:
    """Hold the answers of comfyume's own routes against their description.

    As bob's script, as the instructor's, and as a worker with a claim; with names of what is not there, and of what is.
    """

    def run(name: str, asking: str, /, *chosen: str, **parameters: str) -> Run:
        given = "".join(f"{parameter} = {json.dumps(value)}\n" for parameter, value in parameters.items())
        settings = f"[parameters]\n{given}{SETTINGS}"
        header = ("-H", f"Authorization: {asking}")
        return on.run(name, OWN_DESCRIPTION, plan, {}, *header, *chosen, settings=settings)

    bob, ines = on.other_script["Authorization"], on.instructors_script["Authorization"]
    yield run("own", bob)
    yield run("job", bob, "--include-path-regex", r"^/comfyume/jobs/\{id\}", id=on.ended_job())
    with on.running_job() as (job, claim):
        yield run("worker", f"Bearer {claim}", "--include-path-regex", "^/comfyume/worker/", job_id=job)
        with on.page(on.other_script) as client:
            yield run("page", bob, "--include-path", "/comfyume/feeds/jobs", client=client)
        with on.page(on.instructors_script) as client:
            yield run("panel", ines, "--include-path", "/comfyume/feeds/workshop", client=client)
    yield run("instructor", ines, "--include-tag", "what people may use", "--include-tag", "the room")
    yield run("steering", ines, "--include-path", "/comfyume/workers/{name}", name=on.worker_name)
    # Of nobody whose password the other runs need.
    yield run("password", ines, "--include-operation-id", "renewPassword", name=EXAMPLE)
    on.undo()
