"""Every route of the running application is classified, and answers those whom its row names and nobody else."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from comfyume.accounts.users import ADDRESSES
from comfyume.server_routes.access import Who, who_may
from comfyume.tests.api.exchanges import Operations
from comfyume.tests.api.stress import OWN_DESCRIPTION
from comfyume.tests.harness.client import wait_until
from comfyume.tests.harness.discovery import ComfyInstall
from comfyume.tests.harness.package import ROOT
from comfyume.tests.harness.people import add_users_to_store, basic, password_of, wait_until_known
from comfyume.tests.harness.processes import ComfyProcess, RedisServer

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]

ROUTES_PACK = ROOT / "tests" / "node_packs" / "cfm_routes"
#: ComfyUI's routes that nobody in a workshop may use, on purpose: files by the content of all people's, and what begins
#: with /api once more.
REFUSED = re.compile(r"/(?:api/)?(?:assets|tags)(?:/.*)?|/api/api/.*")
#: Routes of the pack, about which the settings of this test say something, or nothing.
OPENED, UNCLASSIFIED = "/cfm/routes", "/cfm/unclassified/{name}"

#: From here requests come through a proxy that is trusted.
PROXY = "127.0.0.2"

PEOPLE = {"nobody": {}, "ada": basic("ada"), "bob": basic("bob"), "ines": basic("ines")}


@dataclass(frozen=True)
class Frontend:
    """A frontend with users, and the routes that it says it has."""

    process: ComfyProcess
    store: RedisServer
    routes: list[tuple[str, str]]

    def sign_in(
        self, name: str, password: str | None = None, address: str = "127.0.0.1", **headers: str
    ) -> tuple[int, dict[str, str]]:
        """Sign in as the page does; the status, and the header by which the browser is known from then on."""
        connection = http.client.HTTPConnection("127.0.0.1", self.process.port, 30, source_address=(address, 0))
        body = json.dumps({"user": name, "password": password_of(name) if password is None else password})
        connection.request("POST", "/comfyume/sign-in", body, {"Content-Type": "application/json", **headers})
        response = connection.getresponse()
        response.read()
        cookies = [cookie.partition(";") for name, cookie in response.getheaders() if name == "Set-Cookie"]
        connection.close()
        for _, _, flags in cookies:
            assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= {flag.strip() for flag in flags.split(";")}
        return response.status, {"Cookie": "; ".join(cookie for cookie, _, _ in cookies)}

    def status(self, method: str, path: str, who: str, **headers: str) -> int:
        """The status with which a request is answered; a socket's handshake is one too."""
        return self.ask(method, path, who, **headers)[0]

    def lets_in(self, method: str, path: str, who: str) -> bool:
        """Whether a request reached its handler, whatever that made of it."""
        status, body = self.ask(method, path, who)
        if method == "HEAD" and status in (401, 403):
            # Without a body it does not say why.
            status, body = self.ask("GET", path, who)
        return status not in (401, 403) or not re.search(rb"not[_-](?:signed[_-]in|allowed)", body)

    def ask(self, method: str, path: str, who: str, address: str = "127.0.0.1", **headers: str) -> tuple[int, bytes]:
        """As ``status``, and the body where there is one of interest; ``address`` is where it comes from."""
        connection = http.client.HTTPConnection("127.0.0.1", self.process.port, 30, source_address=(address, 0))
        body = b"{}" if method in ("POST", "PUT", "PATCH", "DELETE") else None
        try:
            own = {"Content-Type": "application/json"} if body else {}
            connection.request(method, path, body, {**own, **PEOPLE[who], **headers})
            response = connection.getresponse()
            return response.status, b"" if response.status in (101, 200) else response.read()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def frontend(comfyui: ComfyInstall, tmp_path_factory: pytest.TempPathFactory, short_folder: Path) -> Iterator[Frontend]:
    folder = tmp_path_factory.mktemp(f"access-{comfyui.label}")
    with RedisServer(short_folder / f"access-{comfyui.label}", port=None) as store:
        process = ComfyProcess(
            comfyui,
            folder,
            mode="frontend",
            store_url=store.url,
            workshop="access",
            env={
                "COMFYUME_ROUTES": f"participant GET {OPENED}",
                "COMFYUME_TRUSTED_PROXIES": PROXY,
                "COMFYUME_USER_HEADER": "X-User",
            },
            node_packs=[ROUTES_PACK],
        )
        with process:
            alone = Frontend(process, store, [])
            assert alone.status("GET", "/queue", "nobody") == 200, "without users it is this machine's"
            for header in ("X-Forwarded-For", "X-Real-IP", "Forwarded"):
                assert alone.status("GET", "/queue", "nobody", **{header: "203.0.113.5"}) == 403
            add_users_to_store(store.url, "access", {"ada": "participant", "bob": "participant", "ines": "instructor"})
            wait_until_known(process.address)
            connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=30)
            connection.request("GET", OPENED, headers=PEOPLE["ada"])
            routes = [tuple(route) for route in json.loads(connection.getresponse().read())]
            connection.close()
            yield Frontend(process, store, routes)


def filled(path: str) -> str:
    """An address of a route: its parameters with something that is nothing."""
    uuid = "00000000-0000-4000-8000-000000000000"
    path = re.sub(r"\{\w*id\w*\}", uuid, path or "/")
    return re.sub(r"\{[^}]*\}", "nothing", path.replace("{directory_type}", "output"))


def test_every_route_is_classified(frontend: Frontend) -> None:
    assert len(frontend.routes) > 100
    unknown = [
        (method, path)
        for method, path in frontend.routes
        if who_may(method, filled(path)) is None and not REFUSED.fullmatch(path) and not path.endswith(UNCLASSIFIED)
    ]
    pack = [(method, f"{prefix}{OPENED}") for prefix in ("", "/api") for method in ("GET", "HEAD")]
    assert set(unknown) == set(pack), f"{set(unknown) ^ set(pack)}: say in server_routes/access.py who may use these"


@pytest.mark.parametrize("comfyui", ["new"], indirect=True, scope="session")
def test_docs_openapi_describes_each_route_of_the_extension_and_no_other(frontend: Frontend) -> None:
    described = Operations(yaml.safe_load(OWN_DESCRIPTION.read_text(encoding="utf-8"))).labels
    own = {f"{method} {path}" for method, path in frontend.routes if path.startswith("/comfyume")}
    assert own == set(described)


def test_every_answer_is_as_classified(frontend: Frontend) -> None:
    wrong = []
    for method, path in frontend.routes:
        address = filled(path)
        who = who_may(method, address)
        if path.removeprefix("/api") == OPENED:
            who = Who.PARTICIPANT
        got = {name: frontend.lets_in(method, address, name) for name in PEOPLE}
        expected = {
            Who.ANYBODY: {"nobody": True, "ada": True, "bob": True, "ines": True},
            Who.PARTICIPANT: {"nobody": False, "ada": True, "bob": True, "ines": True},
            Who.INSTRUCTOR: {"nobody": False, "ada": False, "bob": False, "ines": True},
            None: {"nobody": False, "ada": False, "bob": False, "ines": False},
        }[who]
        if got != expected:
            wrong.append((method, address, who, got))
        if "sign-out" in address:
            # It ended nothing: they sign in with every request.
            assert frontend.status("GET", "/queue", "ada") == 200
    assert not wrong, "\n".join(map(str, wrong))


def test_a_packs_route_is_refused_until_somebody_says_who_may_use_it(frontend: Frontend) -> None:
    for prefix in ("", "/api"):
        for name in ("ada", "ines"):
            assert frontend.status("GET", f"{prefix}{filled(UNCLASSIFIED)}", name) == 403
            assert frontend.status("GET", f"{prefix}{OPENED}", name) == 200
    log = frontend.process.log.read_text()
    assert 'COMFYUME_ROUTES="participant GET /cfm/unclassified/[^/]+"' in log


@pytest.mark.parametrize(
    "path",
    [
        "//internal/logs",
        "/api//internal/logs",
        "/%69nternal/logs",
        "/internal%2Flogs",
        "/internal/./logs",
        "/queue/../internal/logs",
        "/assets/..%2finternal/logs",
        "/assets/../internal/logs",
        "/internal/logs/",
        "/internal/logs;x",
        "/API/internal/logs",
        "/internal/logs%00",
        "/extensions/%2e%2e/internal/logs",
    ],
)
def test_no_spelling_of_an_address_opens_it(frontend: Frontend, path: str) -> None:
    assert frontend.status("GET", path, "ines") is not None
    assert frontend.status("GET", path, "ada") in (403, 404)
    assert frontend.status("GET", path, "nobody") in (401, 404)


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "file://"},
        {"Origin": ""},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "iframe"},
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example:80"},
        {"Host": "["},
        {"Host": "user@evil.example"},
    ],
)
def test_what_another_site_sends_is_refused(frontend: Frontend, method: str, headers: dict[str, str]) -> None:
    path = "/queue" if method == "GET" else "/interrupt"
    assert frontend.status(method, path, "ada", **headers) == 403
    handshake = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "x3JJHMbDL1EzLkh9GBhXDw==",
    }
    assert frontend.status("GET", "/ws", "ada", **handshake, **headers) == 403


def test_no_user_can_have_the_name_that_a_routes_address_begins_with(frontend: Frontend) -> None:
    begins = {path.split("/")[1] for _, path in frontend.routes if path.count("/") >= 1 and "cfm" not in path}
    assert {name for name in begins if name and "{" not in name} <= ADDRESSES


def test_what_our_own_page_sends_is_taken(frontend: Frontend) -> None:
    port = frontend.process.port
    assert frontend.status("POST", "/interrupt", "ada", Origin=f"http://127.0.0.1:{port}") == 200
    named = {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"}
    assert frontend.status("POST", "/interrupt", "ada", **named) == 200
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document", "Sec-Fetch-Mode": "navigate"}
    for path in ("/", "/comfyume/sign-in"):
        assert frontend.status("GET", path, "nobody", **link) == 200, "a link on another site leads here"
        assert frontend.status("POST", path, "nobody", **link) == 403
    for path in ("/queue", "/internal/logs", "/manager/reboot", "/userdata/a.json"):
        assert frontend.status("GET", path, "ines", **link) == 403, "a link leads to pages alone"


def test_a_session_opens_what_its_user_may_until_it_is_signed_out(frontend: Frontend) -> None:
    status, ada = frontend.sign_in("Ada", password_of("ada"))
    assert status == 200
    assert frontend.status("GET", "/queue", "nobody", **ada) == 200
    assert frontend.status("GET", "/internal/logs", "nobody", **ada) == 403
    _, elsewhere = frontend.sign_in("ada")
    assert frontend.status("POST", "/comfyume/sign-out", "nobody", **ada) == 200
    assert frontend.status("GET", "/queue", "nobody", **ada) == 401
    assert frontend.status("GET", "/queue", "nobody", **elsewhere) == 200
    assert frontend.status("POST", "/comfyume/sign-out/everywhere", "nobody", **elsewhere) == 200
    assert frontend.status("GET", "/queue", "nobody", **elsewhere) == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b'{"user": 1, "password": []}', 400),
        (b'{"user": "ada"}', 400),
        (b"[" * 10_000, 400),
        (b'{"user": "ada", "password": "' + b"x" * 20_000 + b'"}', 400),
        (b'{"user": "ada", "password": "\\ud800"}', 400),
        (b'{"user": "ada\\u0000", "password": "\\u0000"}', 401),
        (b'{"user": "", "password": ""}', 401),
        (b'{"user": "ines", "password": ""}', 401),
    ],
)
def test_what_is_no_sign_in_is_answered_and_signs_nobody_in(frontend: Frontend, body: bytes, status: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", frontend.process.port, timeout=30)
    connection.request("POST", "/comfyume/sign-in", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert (response.status, response.getheader("Set-Cookie")) == (status, None)
    assert json.loads(response.read())["detail"]
    connection.close()


def test_a_cookies_form_post_without_an_origin_is_refused(frontend: Frontend) -> None:
    _, ada = frontend.sign_in("ada")
    for kind, status in (("text/plain", 403), ("application/x-www-form-urlencoded", 403), ("application/json", 200)):
        assert frontend.status("POST", "/interrupt", "nobody", **ada, **{"Content-Type": kind}) == status


@pytest.mark.parametrize("path", ["/queue", "/history", "/settings", "/api/settings/some", "/interrupt"])
def test_a_body_that_takes_long_to_read_is_refused(frontend: Frontend, path: str) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", frontend.process.port, timeout=30)) as connection:
        body = b'{"delete": [' + b'"x",' * 200_000 + b'"x"]}'
        connection.request("POST", path, body, {"Content-Type": "application/json", **PEOPLE["ada"]})
        assert connection.getresponse().status == 413


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/history?max_items=99999999999999999999&offset=-99999999999999999999", b""),
        ("POST", "/history", b'{"delete": [null, true, 1, "\\ud800", "none"]}'),
        ("POST", "/queue", b'{"delete": [null, true, 1, "\\ud800", "none"]}'),
        ("GET", "/ada//[/x", b""),
        ("GET", "/view?filename=blake3:00", b""),
    ],
)
def test_odd_requests_end_in_no_error_of_the_server(frontend: Frontend, method: str, path: str, body: bytes) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", frontend.process.port, timeout=30)) as connection:
        connection.request(method, path, body or None, {"Content-Type": "application/json", **PEOPLE["ada"]})
        assert connection.getresponse().status < 500


def test_files_of_people_are_kept_by_no_cache_for_others(frontend: Frontend) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", frontend.process.port, timeout=30)) as connection:
        for path in ("/view?filename=none.png", "/api/userdata/none.png", "/user.css"):
            connection.request("GET", path, headers=PEOPLE["ada"])
            response = connection.getresponse()
            response.read()
            assert response.getheader("Cache-Control") == "private, no-cache", path


def test_while_the_store_is_away_people_see_what_they_had_and_nobody_gets_in(frontend: Frontend) -> None:
    _, ada = frontend.sign_in("ada")
    assert frontend.status("GET", "/settings", "nobody", **ada) == 200
    frontend.store.stop()
    try:
        for _ in range(3):
            assert frontend.status("GET", "/settings", "nobody", **ada) == 200
        assert frontend.status("GET", "/queue", "nobody", **ada) == 503
        assert frontend.status("GET", "/queue", "nobody") == 401
        assert frontend.status("GET", "/queue", "nobody", Cookie="comfyume_access=made-up") == 503
        assert frontend.sign_in("ada")[0] == 503
    finally:
        frontend.store.start()
    wait_until(lambda: frontend.status("GET", "/queue", "nobody", **ada) == 200)
    assert frontend.status("GET", "/queue", "nobody", Cookie="comfyume_access=made-up") == 401


def test_a_trusted_proxy_names_the_user_and_nobody_else_does(frontend: Frontend) -> None:
    def status(address: str, path: str = "/queue", **headers: str) -> int:
        return frontend.ask("GET", path, "nobody", address=address, **headers)[0]

    assert status(PROXY, **{"X-User": "Ada"}) == 200
    assert status(PROXY, "/internal/logs", **{"X-User": "ada"}) == 403
    assert status(PROXY, "/internal/logs", **{"X-User": "ines"}) == 200
    assert status(PROXY, **{"X-User": "carl"}) == 403
    assert status(PROXY) == 401
    for headers in ({"X-User": "ines"}, {"X-User": "ines", "X-Forwarded-For": PROXY}, {"comfy-user": "ines"}):
        assert status("127.0.0.1", **headers) == 401


def test_behind_a_trusted_proxy_who_fails_often_waits_alone(frontend: Frontend) -> None:
    def fail(address: str, forwarded: str) -> int:
        return frontend.sign_in("mallory", "guess", address=address, **{"X-Forwarded-For": forwarded})[0]

    assert [fail(PROXY, "203.0.113.5") for _ in range(7)] == [401] * 5 + [429] * 2
    assert fail(PROXY, "203.0.113.6") == 401
    assert fail(PROXY, "203.0.113.6, 203.0.113.5") == 429, "what somebody wrote before the proxy did is not believed"
    # Without a proxy the header is what anybody writes.
    assert [fail("127.0.0.3", f"203.0.113.{number}") for number in range(7)] == [401] * 5 + [429] * 2
    assert frontend.sign_in("ada", address=PROXY, **{"X-Forwarded-For": "203.0.113.5"})[0] == 200


def test_tls_at_the_proxy_makes_the_cookie_one_for_tls(frontend: Frontend) -> None:
    def cookies(address: str) -> list[str]:
        body = json.dumps({"user": "ada", "password": password_of("ada")})
        headers = {"Content-Type": "application/json", "X-Forwarded-Proto": "https"}
        with closing(
            http.client.HTTPConnection("127.0.0.1", frontend.process.port, 30, source_address=(address, 0))
        ) as connection:
            connection.request("POST", "/comfyume/sign-in", body, headers)
            response = connection.getresponse()
            response.read()
            return [value for name, value in response.getheaders() if name == "Set-Cookie"]

    assert all("Secure" in cookie for cookie in cookies(PROXY))
    assert not any("Secure" in cookie for cookie in cookies("127.0.0.1"))
