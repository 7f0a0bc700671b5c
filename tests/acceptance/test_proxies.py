"""`docs/deploy.md` as it is written: ComfyUI's own TLS, nginx and Caddy before a real frontend, with a real worker."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import shlex
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import websocket
from PIL import Image

from comfyume.accounts.sessions import Sessions
from comfyume.job_queue.connection import connect_async
from comfyume.job_queue.keys import Keys
from comfyume.tests.harness import graphs, proxies
from comfyume.tests.harness.client import Event
from comfyume.tests.harness.discovery import ComfyInstall
from comfyume.tests.harness.graphs import node
from comfyume.tests.harness.pair import Pair
from comfyume.tests.harness.people import add_users_to_store, basic, password_of
from comfyume.tests.harness.processes import ComfyProcess, RedisServer, free_port
from comfyume.tests.harness.proxies import NAME, Answer, Certificate, Document, Door, ProxyProcess, Relay, TlsClient

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(240),
    pytest.mark.parametrize("comfyui", ["new"], indirect=True, scope="session"),
]

OWN, BEHIND, NAMING = "ComfyUI's own TLS", "Behind a proxy", "A proxy that knows who asks"
WORKSHOP = "proxies"
#: Addresses of this machine that are no trusted proxy's.
HERE, THERE = "127.0.0.5", "127.0.0.6"
PREVIEW_WITH_METADATA = "4"
#: Three of them start at once.
START_SECONDS = 180.0
SLOW_NAME_SERVER = 5.0


@dataclass(frozen=True)
class Workshop:
    """A frontend to put proxies before, one with TLS of its own, and a worker for both.

    Attributes:
        relay: how the worker comes to the door that is tried.
    """

    document: Document
    certificate: Certificate
    store: RedisServer
    frontend: ComfyProcess
    own_tls: Door
    relay: Relay

    def behind(self, kind: str, folder: Path) -> ProxyProcess:
        """A proxy before the frontend, as the document has it."""
        text = self.document.code(BEHIND, kind)
        return proxies.MAKERS[kind](folder, text, self.frontend.address, self.certificate)

    def behind_naming(self, kind: str, folder: Path, upstream: str) -> ProxyProcess:
        """As ``behind``, with the document's lines for a proxy that asks for passwords and names the user."""
        hashed = bcrypt.hashpw(password_of("user007").encode(), bcrypt.gensalt(4)).decode()
        text = self.document.code(NAMING, kind)
        if kind == "nginx":
            passwords = folder.with_suffix(".htpasswd")
            passwords.write_text(f"user007:{hashed}\n")
            text = proxies.replaced(text, {"/etc/nginx/workshop.htpasswd": passwords})
            text = proxies.replaced(self.document.code(BEHIND, kind), {"    location / {": f"{text}    location / {{"})
        else:
            text = proxies.replaced(text, {"ada $2y$05$...": f"user007 {hashed}"})
        return proxies.MAKERS[kind](folder, text, upstream, self.certificate)

    def addresses_of(self, user: str) -> list[str]:
        """Where the frontend believes a user's browsers to be, the oldest session first."""

        async def read() -> list[str]:
            client = connect_async(self.store.url)
            try:
                sessions = await Sessions(client, Keys(WORKSHOP)).of_user(user)
            finally:
                await client.aclose()
            return [session.label.rpartition(" at ")[2] for session in sessions]

        # Playwright's loop may be the running one of this thread.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(lambda: asyncio.run(read())).result()


@pytest.fixture(scope="module")
def workshop(comfyui: ComfyInstall, tmp_path_factory: pytest.TempPathFactory, short_folder: Path) -> Iterator[Workshop]:
    folder = tmp_path_factory.mktemp("proxies")
    document, certificate = Document(), Certificate.make(folder)
    here = {**proxies.name_leads_here(folder / "names"), "COMFYUME_SECRET": "the same for all of them"}
    # Frontends have no reason to look the workshop's name up.
    slow = {**here, **proxies.name_leads_here(folder / "slow-names", SLOW_NAME_SERVER)}
    port = free_port()
    command = re.search(r"^python main\.py (.*)$", document.code(OWN, "sh"), re.MULTILINE)
    assert command
    parts = {
        "0.0.0.0": "127.0.0.1",  # noqa: S104 - replaced
        "--port 443": f"--port {port}",
        "key.pem": certificate.key,
        "cert.pem": certificate.certificate,
    }
    with ExitStack() as stack:
        relay = stack.enter_context(Relay())
        store = stack.enter_context(RedisServer(short_folder / WORKSHOP, port=None))
        add_users_to_store(
            store.url, WORKSHOP, {"user007": "participant", "user008": "participant", "ines": "instructor"}
        )
        own = ComfyProcess(
            comfyui,
            folder / "own",
            mode="frontend",
            port=port,
            env={**document.exports(OWN), "COMFYUME_REDIS_URL": store.url, "COMFYUME_WORKSHOP": WORKSHOP, **slow},
            args=shlex.split(proxies.replaced(command[1], parts)),
        )
        stack.callback(own.stop)
        own.start()
        worker = {f"https://{NAME}": f"https://{NAME}:{relay.port}", "cert.pem": str(certificate.certificate)}
        exports = {name: worker.get(value, value) for name, value in document.exports("Workers").items()}
        pair = Pair(
            comfyui,
            folder,
            workshop=WORKSHOP,
            store=store,
            env=here,
            frontend_env={**document.exports(BEHIND, NAMING), **slow},
            worker_env=exports,
            worker_node_packs=[graphs.PACK],
        )
        stack.callback(pair.stop)
        pair.start(START_SECONDS)
        door = Door.to(port, certificate)
        door.wait_open(own.process, START_SECONDS)
        yield Workshop(document, certificate, store, pair.frontend, door, relay)


@dataclass(frozen=True)
class Way:
    """One of the ways by which the document lets people in."""

    kind: str
    workshop: Workshop
    door: Door
    cookies: dict[str, str] = field(default_factory=dict)

    def stranger(self, source: str = HERE) -> TlsClient:
        """A browser that nobody knows."""
        return TlsClient(self.door.coming_from(source))

    def client(self, name: str) -> TlsClient:
        """A browser on which somebody is signed in; once only, since each time takes a core for a while."""
        client = self.stranger()
        if name not in self.cookies:
            client.sign_in(name)
            self.cookies[name] = client.headers["Cookie"]
        client.headers["Cookie"] = self.cookies[name]
        return client


@pytest.fixture(scope="module", params=["nginx", "caddy", "comfyui"])
def way(request: pytest.FixtureRequest, workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    kind = request.param
    with ExitStack() as stack:
        door = workshop.own_tls
        if kind != "comfyui":
            skip_without(kind)
            door = stack.enter_context(workshop.behind(kind, tmp_path_factory.mktemp("way") / kind)).door
        stack.enter_context(workshop.relay.leading_to(door))
        yield Way(kind, workshop, door)


def skip_without(kind: str) -> None:
    if proxies.program(kind) is None:
        pytest.skip(f"no {kind}: install it with `apt install {proxies.PACKAGES[kind]}`")


def test_who_signs_in_gets_a_cookie_for_tls_alone(way: Way) -> None:
    client = way.stranger()
    cookies = client.sign_in("user007")
    assert len(cookies) == 2
    for cookie in cookies:
        assert {"Secure", "HttpOnly", "SameSite=Lax"} <= set(cookie.split("; "))
    assert client.get("/comfyume/me")["user"] == "user007"


def test_a_personal_address_opens_for_its_owner_alone(way: Way) -> None:
    owner, other, nobody = way.client("user007"), way.client("user008"), way.stranger()
    assert b"<html" in owner.request("GET", "/user007/")
    assert owner.answer("GET", "/user007").headers["Location"] == "/user007/"
    for path in ("/user007/", "/user007/api/queue", "/user007/userdata/workflows%2Fa.json"):
        assert other.answer("GET", path).status == 403
        assert nobody.answer("GET", path).status == 401
    page = nobody.answer("GET", "/user007/", headers={"Accept": "text/html"})
    assert (page.status, page.headers["Location"]) == (302, "/comfyume/sign-in?next=%2Fuser007%2F")


@pytest.mark.parametrize("prefix", ["", "/api", "/user007", "/user007/api"])
def test_a_name_with_a_slash_and_a_space_is_saved_and_listed_as_it_is(way: Way, prefix: str) -> None:
    client = way.client("user007")
    folder = graphs.name()
    saved = client.request("POST", f"{prefix}/userdata/workflows%2F{folder}%2Fa%20%C3%A4.json?overwrite=false", b"{}")
    assert json.loads(saved) == f"workflows/{folder}/a ä.json"
    listed = client.get(f"{prefix}/userdata", dir=f"workflows/{folder}", recurse="true", full_info="true")
    assert [file["path"] for file in listed] == ["a ä.json"]
    assert client.request("GET", f"{prefix}/userdata/workflows%2F{folder}%2Fa%20%C3%A4.json") == b"{}"


def test_nobody_waits_for_a_name_server_when_a_page_sends_something(way: Way) -> None:
    client = way.client("user007")
    began = time.monotonic()
    client.post("/settings", {"Comfy.Quick": True})
    assert time.monotonic() - began < SLOW_NAME_SERVER


def finished(job: str) -> Any:
    return lambda event: event.kind == "executing" and event.data["node"] is None and event.prompt_id == job


def test_a_browser_hears_of_its_prompt_to_the_end_and_sees_previews_and_the_picture(way: Way) -> None:
    graph = {
        "1": node("CfmPreviews", steps=3, number=graphs.number()),
        "2": node("SaveImage", images=["1", 0], filename_prefix=graphs.name()),
    }
    with way.client("user007") as client:
        client.connect({"supports_preview_metadata": True})
        job = client.submit(graph)
        events: list[Event] = client.wait_for(finished(job))
        previews = [event.data for event in events if event.kind == PREVIEW_WITH_METADATA]
        assert len(previews) == 3
        assert all(b"\xff\xd8" in preview for preview in previews)
        assert {"execution_start", "progress", "executed", "execution_success"} <= {event.kind for event in events}
        (picture,) = client.history(job)[job]["outputs"]["2"]["images"]
        assert client.view(**picture).startswith(b"\x89PNG")


def test_a_picture_of_more_than_a_mebibyte_goes_to_the_worker_and_comes_back(way: Way) -> None:
    noise = Image.frombytes("RGB", (800, 800), os.urandom(800 * 800 * 3))
    file = io.BytesIO()
    noise.save(file, "PNG")
    before = dict(way.workshop.relay.moved)
    with way.client("user007") as client:
        client.connect()
        name = client.upload(file.getvalue(), f"{graphs.name()}.png")["name"]
        assert client.view(name, type="input") == file.getvalue()
        result = client.run(graphs.load(name))
        assert result["status"]["completed"], result["status"]
        (picture,) = result["outputs"]["2"]["images"]
        content = client.view(**picture)
    assert len(content) > 1024 * 1024
    moved = way.workshop.relay.moved
    assert moved["down"] - before["down"] > len(file.getvalue()), "the worker has fetched it by this way"
    assert moved["up"] - before["up"] > len(content), "and brought its result"
    with Image.open(io.BytesIO(content)) as seen:
        assert seen.convert("RGB").tobytes() == noise.tobytes()


@pytest.mark.parametrize(
    "forged", [THERE, "203.0.113.5, 127.0.0.1", ["203.0.113.5", "127.0.0.1"], "nonsense,"], ids=str
)
def test_nobody_is_believed_to_be_where_they_say(way: Way, forged: str | list[str]) -> None:
    client = way.stranger(HERE)
    client.sign_in("user007", {"X-Forwarded-For": forged, "X-Real-IP": THERE, "Forwarded": f"for={THERE}"})
    assert way.workshop.addresses_of("user007")[-1] == HERE


@pytest.mark.parametrize("host", ["evil.example", f"{NAME}.evil.example", f"evil.{NAME}"])
def test_a_name_that_is_not_the_workshops_leads_nowhere(way: Way, host: str) -> None:
    forged = {"Host": host, "X-Forwarded-Host": NAME}
    body = json.dumps({"user": "user007", "password": password_of("user007")}).encode()
    for answer in (
        way.stranger().answer("GET", "/comfyume/sign-in", headers=forged),
        way.stranger().answer("POST", "/comfyume/sign-in", body, {"Content-Type": "application/json", **forged}),
        way.client("user007").answer("GET", "/queue", headers=forged),
    ):
        assert is_refused(answer), answer
    with way.client("user007") as client:
        client.headers |= {"Host": host}
        with pytest.raises(websocket.WebSocketBadStatusException):
            client.connect()


def is_refused(answer: Answer) -> bool:
    """Whether nothing of the workshop is in an answer; Caddy has an empty page for names that it does not know."""
    is_empty = (answer.status, answer.body) == (200, b"") and answer.headers["Server"] == "Caddy"
    return (is_empty or answer.status in (400, 403)) and "Set-Cookie" not in answer.headers


def test_a_page_of_another_site_is_refused(way: Way) -> None:
    client = way.client("user007")
    headers = {"Content-Type": "application/json"}
    for origin in ("https://evil.example", f"http://{NAME}:8188", f"https://{NAME}:8443", "null"):
        assert client.answer("POST", "/interrupt", b"{}", {**headers, "Origin": origin}).status == 403
    assert client.answer("POST", "/interrupt", b"{}", headers).status == 200


def test_a_script_sends_its_token_or_a_password(way: Way) -> None:
    with way.client("user007") as client:
        token = client.headers.pop("Cookie").partition("=")[2].partition(";")[0]
    for headers in ({"Authorization": f"Bearer {token}"}, basic("user007")):
        assert "jobs" in TlsClient(way.door, headers=headers).get("/api/jobs")
    assert way.stranger().answer("GET", "/api/jobs").status == 401


@pytest.mark.parametrize("kind", ["nginx", "caddy"])
def test_the_proxy_alone_says_who_somebody_is(workshop: Workshop, kind: str, tmp_path: Path) -> None:
    skip_without(kind)
    forged = [{"X-Forwarded-User": "ines"}, {"X-Forwarded-User": ["ines", "ines"]}, {"x-forwarded-user": "INES"}]
    forged.append({"X-Forwarded-User": "ines", "Connection": "X-Forwarded-User"})
    with workshop.behind(kind, tmp_path / "plain") as plain:
        open_to_all = TlsClient(plain.door).answer("GET", "/comfyume/me", headers=forged[0])
        assert json.loads(open_to_all.body)["user"] == "ines", "without the document's lines it is believed"
    with workshop.behind_naming(kind, tmp_path / "naming", workshop.frontend.address) as naming:
        for headers in forged:
            assert TlsClient(naming.door).answer("GET", "/comfyume/me", headers=headers).status == 401
            right = {**headers, **basic("user007")}
            answer = TlsClient(naming.door).answer("GET", "/comfyume/me", headers=right)
            assert json.loads(answer.body) == {"user": "user007", "role": "participant", "can_sign_out": False}
        wrong = {**forged[0], **basic("user007", "guess")}
        assert TlsClient(naming.door).answer("GET", "/comfyume/me", headers=wrong).status == 401
        with workshop.relay.leading_to(naming.door), TlsClient(naming.door, headers=basic("user007")) as client:
            client.connect()
            result = client.run(graphs.image(graphs.name()))
            assert result["status"]["completed"], f"its worker needs no password: {result['status']}"
            assert client.view(**result["outputs"]["2"]["images"][0]).startswith(b"\x89PNG")


@pytest.mark.parametrize("kind", ["nginx", "caddy"])
def test_what_somebody_says_of_themselves_passes_the_proxy_at_no_address(
    workshop: Workshop, kind: str, tmp_path: Path
) -> None:
    skip_without(kind)
    with echo() as upstream, workshop.behind_naming(kind, tmp_path / kind, upstream) as naming:
        for path in ("/comfyume/worker/files/x", "/comfyume/worker/files/../files/x", "/queue"):
            sent = {"X-Forwarded-User": "ines", "X-Forwarded-For": "203.0.113.5"}
            sent |= basic("user007") if path == "/queue" else basic("ines", "guess")
            client = TlsClient(naming.door.coming_from(HERE))
            arrived = {name.lower(): value for name, value in client.answer("GET", path, headers=sent).headers.items()}
            assert arrived.get("got-x-forwarded-user", "") == ("user007" if path == "/queue" else "")
            assert arrived["got-x-forwarded-for"].rpartition(", ")[2] == HERE


@contextmanager
def echo() -> Iterator[str]:
    """A server that tells in its answer's headers what headers it got; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            for name, value in self.headers.items():
                self.send_header(f"Got-{name}", value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
