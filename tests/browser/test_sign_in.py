"""People sign in, work, and sign out, each in a browser of their own; pages of other sites get nothing."""

from __future__ import annotations

import http.server
import json
import re
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from comfyume.commands.credentials import personal_link
from comfyume.tests.browser import graphs
from comfyume.tests.browser.conftest import FIRST_VISIT_IS_OVER
from comfyume.tests.browser.interface import PATIENCE, READY, Interface
from comfyume.tests.browser.visitors import fill_in, script_of, sign_in
from comfyume.tests.harness.client import Client
from comfyume.tests.harness.pair import Pair
from comfyume.tests.harness.people import add_users, basic, end_sessions, password_of

pytestmark = [pytest.mark.browser, pytest.mark.acceptance]

#: A person's page, while somebody else's may be opened beside it.
SIZE = {"width": 1400, "height": 800}


@pytest.fixture(scope="module")
def room(shared_room: Pair) -> Pair:
    """A workshop with two participants, who were here before, and an instructor."""
    add_users(shared_room, {"june": "participant", "karl": "participant"})
    for name in ("june", "karl"):
        script_of(shared_room, name).post(FIRST_VISIT_IS_OVER, True)
    return shared_room


Open = Callable[[], Interface]


@pytest.fixture
def browser_of(chromium: Browser, room: Pair, pictures: Callable[[str], Path]) -> Iterator[Open]:
    """Opens browsers that were never here."""
    contexts: list[BrowserContext] = []

    def open_browser() -> Interface:
        contexts.append(chromium.new_context(viewport=SIZE))
        return Interface(contexts[-1].new_page(), room.frontend.url, pictures)

    yield open_browser
    for context in contexts:
        context.close()


def come(tab: Interface, name: str) -> None:
    tab.page.goto(tab.url)
    sign_in(tab, name)


def test_two_people_sign_in_and_each_sees_only_their_own(browser_of: Open) -> None:
    june, karl = browser_of(), browser_of()
    june.page.goto(june.url)
    expect(june.page).to_have_url(re.compile("/comfyume/sign-in"))
    june.picture("1-sign-in")
    fill_in(june.page, "june", "wrong")
    expect(june.page.get_by_role("alert")).to_have_text("The name or the password is wrong.")
    june.picture("2-wrong-password")
    fill_in(june.page, "june")
    june.wait(READY)
    come(karl, "karl")
    june.load(graphs.slow(1, prefix="of-june"), "work-of-june")
    june.run()
    june.wait_idle()
    june.page.locator("img[src*='of-june_00001_.png']").first.wait_for()
    june.show_assets()
    june.page.locator(".side-bar-panel img[src*='of-june_00001_.png']").first.wait_for()
    june.picture("3-june")
    karl.show_assets()
    karl.picture("4-karl")
    assert "of-june" not in karl.page.content()
    assert karl.page.evaluate("fetch('/api/jobs').then(r => r.json()).then(body => body.jobs)") == []
    assert june.page.evaluate("fetch('/api/jobs').then(r => r.json()).then(body => body.jobs.length)") == 1


def test_who_is_over_a_limit_reads_why_and_runs_the_same_work_once_there_is_more(browser_of: Open, room: Pair) -> None:
    ines = Client(room.frontend.address, headers=basic("ines"), connect=False)

    def allow_karl(credits_hour: float | None) -> None:
        body = json.dumps({"credits_hour": credits_hour}).encode()
        ines.request("PUT", "/comfyume/people/karl/limits", body, {"Content-Type": "application/json"})

    karl = browser_of()
    come(karl, "karl")
    karl.load(graphs.slow(1, prefix="poor"), "work-of-karl")
    allow_karl(0)
    karl.run()
    karl.page.get_by_text(re.compile("you have 0 that your other prompts do not need")).first.wait_for()
    karl.picture("refused")
    karl.page.keyboard.press("Escape")
    assert karl.tab == "work-of-karl"
    allow_karl(None)
    karl.run()
    karl.wait_picture(karl.node_of("SaveImage"), "poor_00001_.png")


def test_after_the_session_has_ended_one_signs_in_and_is_back_at_the_same_work(browser_of: Open, room: Pair) -> None:
    june = browser_of()
    come(june, "june")
    june.load(graphs.slow(1, prefix="kept"), "unsaved-work")
    nodes = june.node_types
    end_sessions(room.store.url, room.workshop, "june")
    expect(june.page).to_have_url(re.compile("/comfyume/sign-in"), timeout=PATIENCE)
    fill_in(june.page, "june")
    june.wait(READY)
    assert "unsaved-work" in june.tabs
    assert june.node_types == nodes
    june.run()
    june.wait_idle()
    june.wait_picture(june.node_of("SaveImage"), "kept_00001_.png")


def test_who_signs_out_is_asked_to_sign_in_on_every_browser(browser_of: Open) -> None:
    first, second = browser_of(), browser_of()
    for tab in (first, second):
        come(tab, "june")
    first.page.evaluate("() => void app.extensionManager.command.execute('comfyume.SignOutEverywhere')")
    expect(first.page).to_have_url(re.compile("/comfyume/sign-in"))
    expect(second.page).to_have_url(re.compile("/comfyume/sign-in"), timeout=PATIENCE)


def test_two_people_at_one_browser_find_their_own_work(browser_of: Open) -> None:
    tab = browser_of()
    come(tab, "june")
    tab.load(graphs.slow(1, prefix="junes"), "unsaved-of-june")
    for name, expected in (("karl", False), ("june", True)):
        tab.page.evaluate("() => void app.extensionManager.command.execute('comfyume.SignOut')")
        expect(tab.page).to_have_url(re.compile("/comfyume/sign-in"))
        fill_in(tab.page, name)
        tab.wait(READY)
        assert tab.page.evaluate("fetch('/comfyume/me').then(r => r.json()).then(me => me.user)") == name
        assert ("unsaved-of-june" in tab.tabs) is expected
        if name == "karl":
            assert "unsaved-of-june" not in tab.page.content()


def test_a_personal_link_on_another_site_signs_in_and_leaves_no_secret(
    browser_of: Open, room: Pair, tmp_path: Path
) -> None:
    link = personal_link(room.frontend.url, "june", password_of("june"))
    (tmp_path / "index.html").write_text(f'<a href="{link}">your ComfyUI</a>')
    tab = browser_of()
    with other_site(tmp_path) as site:
        tab.page.goto(site.replace("127.0.0.1", "localhost"))
        tab.page.get_by_text("your ComfyUI").click()
        tab.wait(READY)
    secret = quote(password_of("june"), safe="")
    entries = tab.page.evaluate("[location.href, document.referrer, JSON.stringify(history.state)]")
    assert not [each for each in entries if secret in each or "password" in each]
    tab.page.go_back()
    assert "password" not in tab.page.url
    for log in (room.frontend.log, room.worker.log):
        assert secret not in log.read_text()
        assert password_of("june") not in log.read_text()


@pytest.mark.parametrize("comfyui", ["new"], indirect=True, scope="session")
@pytest.mark.parametrize(
    "wanted", ["/.//evil.example/", "//evil.example/", "http://evil.example/", "//", "\\\\evil.example"]
)
def test_nobody_is_led_to_another_site(browser_of: Open, wanted: str) -> None:
    tab = browser_of()
    tab.page.goto(f"{tab.url}/comfyume/sign-in?next={quote(wanted, safe='')}")
    with tab.page.expect_navigation():
        fill_in(tab.page, "june")
    assert tab.page.url.startswith(tab.url)


@pytest.mark.parametrize("comfyui", ["new"], indirect=True, scope="session")
def test_a_link_makes_nobody_somebody_else(browser_of: Open) -> None:
    tab = browser_of()
    come(tab, "june")
    tab.page.goto(personal_link(tab.url, "karl", password_of("karl")))
    expect(tab.page.get_by_role("alert")).to_have_text("You are signed in as june. Do you want to be karl?")
    assert tab.page.evaluate("fetch('/comfyume/me').then(r => r.json()).then(me => me.user)") == "june"
    tab.page.get_by_role("button", name="Sign in").click()
    tab.wait(READY)
    assert tab.page.evaluate("fetch('/comfyume/me').then(r => r.json()).then(me => me.user)") == "karl"


class other_site:  # noqa: N801 - used as a context
    """A web server with the files of a folder, on this machine."""

    def __init__(self, folder: Path) -> None:
        handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
        handler.log_message = lambda *_: None  # type: ignore[attr-defined]
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}/index.html"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


ATTACK = """async target => {
  const told = {};
  const attempt = async (name, work) => {
    try { told[name] = await work(); } catch (error) { told[name] = `failed: ${error}`; }
  };
  const prompt = JSON.stringify({ prompt: { 1: { class_type: "EmptyImage",
    inputs: { width: 64, height: 64, batch_size: 1, color: 1 } },
    2: { class_type: "PreviewImage", inputs: { images: ["1", 0] } } } });
  const frame = (attributes, html) => new Promise(resolve => {
    const element = Object.assign(document.createElement("iframe"), attributes);
    element.onload = () => setTimeout(resolve, 500);
    if (html) element.srcdoc = html;
    document.body.append(element);
  });
  for (const encoding of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]) {
    for (const path of ["/prompt", "/api/prompt", "/interrupt", "/history", "/upload/image"]) {
      const form = Object.assign(document.createElement("form"),
        { method: "post", action: target + path, enctype: encoding, target: `sink ${path} ${encoding}` });
      document.body.append(Object.assign(document.createElement("iframe"), { name: form.target }));
      const field = { name: prompt.slice(0, -1) + ',"x":"', value: '"}' };
      form.append(Object.assign(document.createElement("input"), field));
      document.body.append(form);
      form.submit();
      await new Promise(resolve => setTimeout(resolve, 50));
    }
  }
  for (const mode of ["no-cors", "cors"]) {
    for (const type of ["text/plain", "application/json"]) {
      await attempt(`${mode} ${type}`, async () => {
        const response = await fetch(target + "/prompt", { method: "POST", mode, credentials: "include", body: prompt,
          headers: { "Content-Type": type } });
        return `${response.status} ${await response.text()}`;
      });
    }
    await attempt(`${mode} read`, async () =>
      (await (await fetch(target + "/api/jobs", { mode, credentials: "include" })).text()));
  }
  await frame({ sandbox: "allow-scripts" }, `<script>fetch("${target}/prompt", { method: "POST", mode: "no-cors",
    credentials: "include", body: ${JSON.stringify(JSON.stringify(prompt))} });<\\/script>`.replace("<\\\\/", "</"));
  await attempt("socket", () => new Promise(resolve => {
    const socket = new WebSocket(target.replace("http", "ws") + "/ws?clientId=stolen");
    socket.onmessage = message => resolve(`message ${message.data}`);
    socket.onerror = () => resolve("failed: refused");
    setTimeout(() => resolve("failed: silent"), 3000);
  }));
  await attempt("picture", () => new Promise(resolve => {
    const image = new Image();
    image.onload = () => resolve("loaded");
    image.onerror = () => resolve("failed: no picture");
    image.src = target + "/view?filename=of-june_00001_.png";
  }));
  await attempt("script", () => new Promise(resolve => {
    const script = document.createElement("script");
    script.onload = () => resolve("loaded");
    script.onerror = () => resolve("failed: no script");
    script.src = target + "/api/settings";
    document.body.append(script);
  }));
  await frame({ src: target + "/" });
  await new Promise(resolve => setTimeout(resolve, 1000));
  return told;
}"""


@pytest.mark.parametrize("comfyui", ["new"], indirect=True, scope="session")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "evil.example"])
def test_a_page_of_another_site_gets_nothing(browser_of: Open, room: Pair, tmp_path: Path, host: str) -> None:
    """127.0.0.1 with another port is the same site to a browser, which sends it the cookie; the others are not."""
    tab = browser_of()
    come(tab, "june")
    before = tab.page.evaluate("fetch('/api/jobs').then(r => r.json()).then(body => body.jobs.length)")
    (tmp_path / "index.html").write_text("<!doctype html>")
    attacker = tab.page.context.new_page()
    tried: list[str] = []
    answered: list[tuple[str, int]] = []
    attacker.on("request", lambda request: tried.append(request.url))
    attacker.on("response", lambda response: answered.append((response.url, response.status)))
    with other_site(tmp_path) as site:
        if host == "evil.example":
            attacker.route("**/evil.html", lambda route: route.fulfill(path=tmp_path / "index.html"))
            attacker.goto("http://evil.example/evil.html")
        else:
            attacker.goto(site.replace("127.0.0.1", host))
        told = attacker.evaluate(ATTACK, room.frontend.url)
    got = {name: answer for name, answer in told.items() if not re.match("failed|0? *$", str(answer))}
    assert not got, json.dumps(told)
    assert len(told) >= 9
    assert len([url for url in tried if url.startswith(room.frontend.url)]) > 15
    reached = [(url, status) for url, status in answered if url.startswith(room.frontend.url)]
    assert {status for _, status in reached} <= {401, 403}, reached
    after = tab.page.evaluate("fetch('/api/jobs').then(r => r.json()).then(body => body.jobs.length)")
    assert after == before


def test_a_name_that_nobody_gave_to_the_workshop_is_refused(chromium: Browser, room: Pair) -> None:
    """As when a page of another site has its own name lead to this machine."""
    response = chromium.new_context().request.get(
        f"{room.frontend.url}/comfyume/sign-in", headers={"Host": f"evil.example:{room.frontend.port}"}
    )
    assert response.status == 403
    assert "COMFYUME_HOSTS=evil.example" in response.text()
