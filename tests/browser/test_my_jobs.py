"""A participant's page: their jobs from the queue to the result, what they are told, and what they see of a loss."""

from __future__ import annotations

import json
import re
import time
import zipfile
from functools import partial
from typing import Any

import pytest
from playwright.sync_api import expect

from comfyume.commands.source_tree import ROOT
from comfyume.job_queue.jobs import GIB
from comfyume.tests.browser import graphs, workshop_panel
from comfyume.tests.browser.conftest import FIRST_VISIT_IS_OVER
from comfyume.tests.browser.interface import PATIENCE, Interface, see
from comfyume.tests.browser.made_up import answer, job_row
from comfyume.tests.browser.my_jobs import banner, button, cards, open_jobs, panel, toasts
from comfyume.tests.browser.visitors import Enter, ask, script_of, submit
from comfyume.tests.harness import graphs as harness_graphs
from comfyume.tests.harness.pair import Pair, wait_until_known
from comfyume.tests.harness.people import add_users
from comfyume.tests.harness.processes import READY_SECONDS

pytestmark = [pytest.mark.browser, pytest.mark.acceptance, pytest.mark.timeout(240)]

PEOPLE = ("ada", "bob", "cleo", "dora", "emil", "finn", "gwen", "hugo", "ida")
COMES_BACK = """hidden => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""
NOT_A_NAME = "<img src=x onerror=window.taken=1>"


@pytest.fixture(scope="module")
def room(shared_room: Pair) -> Pair:
    """A workshop with an instructor, and with participants who were here before but have made nothing yet."""
    add_users(shared_room, dict.fromkeys(PEOPLE, "participant"))
    for name in (*PEOPLE, "ines"):
        script_of(shared_room, name).post(FIRST_VISIT_IS_OVER, True)
    return shared_room


@pytest.fixture
def enter(enter: Enter) -> Enter:
    """Lets a person in, with the tab of their jobs open; perhaps one that is ``told`` of other jobs than there are."""

    def let_in(name: str, *, told: dict[str, Any] | None = None, **options: Any) -> Interface:
        tab = enter(name, **options)
        if told is not None:
            tab.page.route("**/comfyume/feeds/jobs?*", partial(answer, body=told))
            tab.reload()
        open_jobs(tab)
        return tab

    return let_in


def image(prefix: str, color: int = 1) -> dict[str, Any]:
    """A prompt that takes no time, as a script sends it."""
    size = {"width": 64, "height": 64, "batch_size": 1}
    return {
        "1": {"class_type": "EmptyImage", "inputs": {**size, "color": color}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix}},
    }


def failing(text: str) -> dict[str, Any]:
    return image("never") | {"1": {"class_type": "BrowserFailingPicture", "inputs": {"text": text}}}


def run_slowly(tab: Interface, seconds: float, shade: int, prefix: str) -> None:
    tab.load(graphs.slow(seconds, prefix=prefix, shade=shade), prefix)
    tab.run()


def test_a_newcomer_reads_what_to_do(enter: Enter) -> None:
    tab = enter("ada")
    see(panel(tab), "Press Run")
    tab.picture("dark")
    tab.page.get_by_role("button", name="Open the templates").click()
    tab.page.get_by_role("dialog").first.wait_for()


def test_a_job_is_seen_from_its_place_in_the_queue_to_its_picture(enter: Enter) -> None:
    tab = enter("bob")
    run_slowly(tab, 6, 10, "first")
    run_slowly(tab, 1, 20, "second")
    see(cards(tab, "running"), re.compile(r"first · job \d+.*Slow Picture: step \d+ of 24", re.DOTALL))
    see(cards(tab, "queued"), "Place 1 in the queue.")
    bar = cards(tab, "running").get_by_role("progressbar", name="Progress of job")
    expect(bar).to_have_js_property("max", 24)
    expect(button(tab)).to_contain_text("2")
    expect(button(tab)).to_have_attribute("aria-label", "My jobs: 2 wait or run")
    tab.picture("1-running")
    expect(cards(tab, "done")).to_have_count(2, timeout=PATIENCE)
    for name in ("first_00001_.png", "second_00001_.png"):
        tab.wait(
            "name => { const [picture] = document.querySelectorAll(`.cfm-jobs img[alt='${name}']`);"
            " return picture?.complete && picture.naturalWidth > 0; }",
            name,
        )
    expect(button(tab)).not_to_contain_text(re.compile(r"\d"))
    tab.picture("2-done")


def test_a_job_is_cancelled_and_run_again_by_keyboard(enter: Enter) -> None:
    tab = enter("cleo")
    run_slowly(tab, 60, 30, "cancelled")
    run_slowly(tab, 1, 40, "kept")
    expect(cards(tab, "queued")).to_have_count(1, timeout=PATIENCE)
    cards(tab, "running").get_by_role("button").focus()
    tab.page.keyboard.press("Enter")
    expect(cards(tab, "cancelled")).to_have_count(1, timeout=PATIENCE)
    # The second runs now, so the list is there to go on from.
    expect(tab.page.get_by_role("heading", name="Waiting and running")).to_be_focused()
    expect(cards(tab, "done")).to_have_count(1, timeout=PATIENCE)
    cards(tab, "done").get_by_role("button", name="Run again: job").focus()
    tab.page.keyboard.press("Enter")
    expect(cards(tab, "done")).to_have_count(2, timeout=PATIENCE)
    tab.picture("end")


def test_results_are_downloaded_one_by_one_and_all_at_once(enter: Enter, room: Pair) -> None:
    tab = enter("dora")
    script = script_of(room, "dora")
    for number in range(23):
        script.post("/prompt", {"prompt": image("result", number)})
    expect(cards(tab, "done")).to_have_count(23, timeout=PATIENCE)
    with tab.page.expect_download() as one:
        tab.page.get_by_role("link", name="Download result_00007_.png").click()
    assert one.value.suggested_filename == "result_00007_.png"
    with tab.page.expect_download() as everything:
        tab.page.get_by_role("link", name="Download all as a zip").click()
    assert everything.value.suggested_filename == "results.zip"
    with zipfile.ZipFile(everything.value.path()) as archive:
        assert len(archive.namelist()) == 23
    # What is older comes when it is asked for.
    button(tab).click()
    button(tab).click()
    expect(cards(tab, "done")).to_have_count(20, timeout=PATIENCE)
    tab.page.get_by_role("button", name="Show older jobs").click()
    expect(cards(tab, "done")).to_have_count(23, timeout=PATIENCE)


def test_films_and_sounds_are_played_where_they_are_listed(enter: Enter, room: Pair) -> None:
    tab = enter("ida")
    prompt = {
        "1": harness_graphs.node("EmptyImage", width=64, height=64, batch_size=16, color=0x336699),
        "2": harness_graphs.node("SaveWEBM", images=["1", 0], filename_prefix="film", codec="vp9", fps=8.0, crf=32.0),
        "3": harness_graphs.node("EmptyAudio", duration=2.0, sample_rate=44100, channels=2),
        "4": harness_graphs.node("SaveAudio", audio=["3", 0], filename_prefix="sound"),
    }
    script_of(room, "ida").post("/prompt", {"prompt": prompt, "name": "Title sequence"})
    see(cards(tab, "done"), "Title sequence")
    for kind, file in {"video": "film_00001_.webm", "audio": "sound_00001"}.items():
        see(cards(tab, "done"), file)
        player = cards(tab, "done").locator(kind)
        player.scroll_into_view_if_needed()
        player.evaluate("player => { player.muted = true; return player.play(); }")
        tab.wait("kind => document.querySelector(`.cfm-jobs ${kind}`).currentTime > 0.2", kind)
    tab.picture("end")


def test_what_a_job_waits_for_is_said_in_words(enter: Enter) -> None:
    whys: dict[str, dict[str, Any]] = {
        "Waiting for a GPU with 46 GiB free.": {"why": "memory", "need": 46 * GIB},
        "Waiting for a GPU with enough memory free.": {"why": "memory", "need": None},
        "Waiting for a GPU that has loras/film.safetensors.": {"why": "models", "lacks": "loras/film.safetensors"},
        "Waiting for a GPU that has the node NodeOfNobody.": {"why": "nodes", "lacks": "NodeOfNobody"},
        "Waiting for a GPU: none is there right now.": {"why": "no_worker"},
        "The instructor holds this job back.": {"why": "held", "held": True},
        "Place 7 in the queue. Starts in about 3 minutes.": {"starts_at": time.time() + 170, "position": 7},
    }
    jobs = [job_row(number, starts_at=None) | {"position": None} | why for number, why in enumerate(whys.values())]
    told = {"now": time.time(), "store": True, "workers": 1, "paused": False, "queued": 9, "jobs": jobs}
    tab = enter("ida", told=told)
    for number, words in enumerate(whys):
        see(panel(tab).locator(f"[data-job=job-{number}]"), words)
    tab.picture("end")


def test_only_failures_that_comfyui_does_not_show_are_told(enter: Enter, room: Pair) -> None:
    tab = enter("emil")
    tab.load(graphs.failing("the film is torn"), "failing")
    tab.run()
    see(cards(tab, "error"), "the film is torn")
    tab.show_error()
    tab.page.keyboard.press("Escape")
    script_of(room, "emil").post("/prompt", {"prompt": failing("the lens is dirty")})
    see(toasts(tab), "the lens is dirty")
    expect(toasts(tab)).to_have_count(1)
    expect(cards(tab, "error")).to_have_count(2)
    tab.picture("end")


def test_who_comes_back_is_told_what_is_done(enter: Enter, room: Pair) -> None:
    tab = enter("emil")
    done = cards(tab, "done")
    before = done.count()
    script_of(room, "emil").post("/prompt", {"prompt": image("seen")})
    expect(done).to_have_count(before + 1, timeout=PATIENCE)
    tab.page.evaluate(COMES_BACK, True)
    for color in (1, 2):
        script_of(room, "emil").post("/prompt", {"prompt": image("unseen", color)})
    expect(done).to_have_count(before + 3, timeout=PATIENCE)
    expect(toasts(tab)).to_have_count(0)
    tab.page.evaluate(COMES_BACK, False)
    see(toasts(tab), "2 jobs are done")


def test_the_instructor_pauses_holds_and_speaks(enter: Enter, room: Pair) -> None:
    tab = enter("finn")
    ask(room, "PATCH", "/comfyume/queue", {"paused": True})
    see(toasts(tab), "The queue is paused")
    job = script_of(room, "finn").post("/prompt", {"prompt": image("held")})["prompt_id"]
    see(cards(tab, "queued"), "Place 1 in the queue. The queue is paused.")
    ask(room, "PATCH", "/comfyume/jobs", {"ids": [job], "held": True})
    see(cards(tab, "queued"), "The instructor holds this job back.")
    ask(room, "POST", "/comfyume/messages", {"text": f"Lunch is at one. {NOT_A_NAME}"})
    see(toasts(tab).last, f"Message from inesLunch is at one. {NOT_A_NAME}")
    tab.picture("end")
    other = script_of(room, "finn").post("/prompt", {"prompt": image("never"), "name": f"A dream {NOT_A_NAME}"})
    ask(room, "POST", "/comfyume/jobs/cancel", {"ids": [other["prompt_id"]]})
    see(toasts(tab).last, f"ines has cancelled a job of yoursA dream {NOT_A_NAME} · job")
    ask(room, "PATCH", "/comfyume/jobs", {"ids": [job], "held": False})
    ask(room, "PATCH", "/comfyume/queue", {"paused": False})
    see(toasts(tab).last, "The queue goes on")
    expect(cards(tab, "done")).to_have_count(1, timeout=PATIENCE)
    assert tab.page.evaluate("window.taken") is None


def test_names_are_text_and_the_page_keeps_its_shape(enter: Enter, room: Pair) -> None:
    """In the dark, in the light and on a phone."""
    tab = enter("gwen", width=400)
    script = script_of(room, "gwen")
    script.post("/prompt", {"prompt": image(f"{NOT_A_NAME.replace(' ', '')}{'long' * 30}")})
    script.post("/prompt", {"prompt": failing(f"{NOT_A_NAME} {'long' * 200}")})
    expect(cards(tab, "done")).to_have_count(1, timeout=PATIENCE)
    see(cards(tab, "error"), NOT_A_NAME)
    graph = graphs.slow(60, prefix="named")
    for node in graph["nodes"]:
        node["title"] = NOT_A_NAME
    tab.load(graph, f"{NOT_A_NAME}{'long' * 30}")
    tab.page.evaluate("() => void app.extensionManager.command.execute('Comfy.QueuePrompt')")
    see(cards(tab, "running"), f"{NOT_A_NAME}: step")
    see(cards(tab, "running"), f"{NOT_A_NAME}long")
    for palette in ("dark", "light"):
        tab.choose_palette(palette)
        tab.picture(palette)
        assert panel(tab).evaluate("panel => panel.scrollWidth <= panel.clientWidth")
        assert panel(tab).evaluate("panel => panel.parentElement.scrollWidth <= panel.parentElement.clientWidth")
    assert tab.page.evaluate("window.taken") is None
    # The next test has the worker for itself.
    toasts(tab).get_by_role("button").click()
    cards(tab, "running").get_by_role("button").click()
    expect(cards(tab, "cancelled")).to_have_count(1, timeout=PATIENCE)


@pytest.mark.parametrize(("chosen", "spoken"), [("fr", "fr"), ("ja", "en")], ids=["written", "not written"])
def test_my_jobs_and_workshop_speak_the_language_of_comfyuis_settings(
    enter: Enter, room: Pair, chosen: str, spoken: str
) -> None:
    words = {
        key: text
        for file in ("page", "workshop")
        for key, text in json.loads((ROOT / f"locales/{spoken}/{file}.json").read_text(encoding="utf-8")).items()
    }
    ask(room, "PATCH", "/comfyume/queue", {"paused": True})
    [job] = submit(room, "ines")
    tab = enter("ines")
    tab.choose("Locale", chosen)
    tab.reload()
    expect(button(tab)).to_have_attribute("aria-label", words["jobs.badge.one"])
    open_jobs(tab)
    see(panel(tab), words["jobs.title"])
    see(cards(tab, "queued"), words["job.why.paused"])
    tab.picture(f"{chosen}-my-jobs")
    workshop_panel.open_panel(tab)
    see(workshop_panel.lines(tab), words["trouble.paused.one"].replace("{count}", "1"))
    see(workshop_panel.panel(tab), words["mode.fair"])
    # Numbers and their units are of the same language as the sentences around them.
    waited = workshop_panel.row(tab, job).locator(".cfw-waited")
    expect(waited).to_have_text(re.compile(r"^\d+\s(s|min)$" if spoken == "fr" else r"^\d+\s(sec|min)$"))
    assert not re.search("[\u3000-\u9fff]", workshop_panel.panel(tab).inner_text())
    tab.picture(f"{chosen}-workshop")
    tab.choose("Locale", "en")
    ask(room, "POST", "/comfyume/jobs/cancel", {"ids": [job]})
    ask(room, "PATCH", "/comfyume/queue", {"paused": False})


def test_a_lost_worker_is_told_to_who_waits_for_it(enter: Enter, room: Pair) -> None:
    tab = enter("hugo")
    room.worker.stop()
    see(toasts(tab), "No GPU is there right now")
    expect(banner(tab)).to_be_empty()
    script_of(room, "hugo").post("/prompt", {"prompt": image("waiting")})
    see(cards(tab, "queued"), "Waiting for a GPU: none is there right now.")
    see(banner(tab), "No GPU is there right now. Your job starts as soon as one is.")
    tab.picture("1-lost")
    room.worker.start().wait_ready()
    wait_until_known(room.frontend, 1, READY_SECONDS)
    see(banner(tab), "A GPU is there again.")
    tab.picture("2-back")
    expect(cards(tab, "done")).to_have_count(1, timeout=PATIENCE)
    expect(banner(tab)).to_be_empty(timeout=PATIENCE)


def test_a_lost_frontend_is_told_once_and_its_jobs_are_there_when_it_is_back(enter: Enter, room: Pair) -> None:
    tab = enter("hugo")
    run_slowly(tab, 4, 50, "meanwhile")
    expect(cards(tab, "running")).to_have_count(1, timeout=PATIENCE)
    done = cards(tab, "done").count()
    room.frontend.stop()
    see(banner(tab), "The connection to the server is lost.")
    # ComfyUI has a message of its own for this.
    messages = tab.page.locator(".p-toast-message")
    expect(messages).to_have_count(0)
    tab.picture("1-lost")
    room.frontend.start().wait_ready()
    see(banner(tab), "The server is back.")
    expect(messages).to_have_count(0)
    expect(cards(tab, "done")).to_have_count(done + 1, timeout=PATIENCE)
    expect(cards(tab, "running")).to_have_count(0)
    tab.picture("2-back")


def test_a_lost_store_is_told_until_it_is_back(enter: Enter, room: Pair) -> None:
    tab = enter("hugo")
    room.store.stop()
    see(banner(tab), "The queue cannot be reached.")
    tab.picture("1-lost")
    room.store.start()
    see(banner(tab), "The queue is back.")
    script_of(room, "hugo").post("/prompt", {"prompt": image("after")})
    see(cards(tab, "done").first, "after_00001_.png")
