"""Fifty people on one frontend at once: what it costs, and that each hears of their own work alone.

A plain ComfyUI that does the same beside it says what is usual: it has the same browsers and prompts, but runs the
prompts itself, without pauses in them. The people are a process of their own (``tests/harness/crowd.py``).
"""

from __future__ import annotations

import io
import json
import os
import struct
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from comfyume.accounts import passwords
from comfyume.tests.harness import graphs, loop_lag
from comfyume.tests.harness.cores import cores_used, wait_at_rest
from comfyume.tests.harness.crowd import Crowd, Line, Step, Visitor
from comfyume.tests.harness.discovery import ComfyInstall
from comfyume.tests.harness.loop_lag import Lag
from comfyume.tests.harness.memory import Memory, forget_peak, memory_of
from comfyume.tests.harness.package import ROOT
from comfyume.tests.harness.pair import Pair
from comfyume.tests.harness.people import add_users, password_of
from comfyume.tests.harness.processes import ComfyProcess

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.alone,
    pytest.mark.timeout(400),
    pytest.mark.parametrize("comfyui", ["new"], indirect=True, scope="session"),
]

PEOPLE = [f"person{number:02}" for number in range(50)]
PROMPTS = 4
SKETCH = ROOT / "tests" / "node_packs" / "cfm_sketch"
#: Steps of a prompt, each with progress, a preview, a text and two events of the node's own.
STEPS = 4
#: What a page fetches as it opens, of what is each person's own or small.
OPENS = ("users", "settings", "extensions", "features", "queue", "history?max_items=64", "system_stats", "jobs")
#: Seconds for which the processes may start, all at once.
START = 200.0
#: A frontend may need this much more memory than ComfyUI.
MOST_MEMORY = 1.3
#: Seconds by which the frontend's loop is late at most, 99 of 100 times.
MOST_LAG = 0.05
#: Cores that other things than this test may use for times to be its own.
QUIET = 0.15
#: Events of which the next one says it all again: of several that wait, the last is sent.
PASSING = ("progress", "progress_state")
PREVIEW, TEXT, PREVIEW_WITH_METADATA, SKETCHED = 1, 3, 4, 78


@dataclass(frozen=True)
class Played:
    """What the crowd did at one server, and what that cost.

    Attributes:
        rest: the server's memory at rest, before anybody came.
        after: when all prompts had ended, the sockets still open; its peak is that of the time since ``rest``.
        looks, others: by step, how late the server's loop was, and how many cores other things used.
    """

    rest: Memory
    after: Memory
    steps: dict[str, Step]
    looks: dict[str, list[loop_lag.Look]]
    others: dict[str, float]
    lines: list[Line]

    def lag(self, step: str) -> Lag:
        return loop_lag.lag(self.looks[step])

    def of(self, person: str, what: str) -> list[Line]:
        return [line for line in self.lines if line.person == person and line.what == what]

    def jobs(self, person: str) -> list[str]:
        return [line.data["job"] for line in self.of(person, "submit")]

    def events(self, person: str) -> list[tuple[str, Any]]:
        return [(line.data["kind"], line.data["data"]) for line in self.of(person, "event")]

    def binaries(self, person: str) -> list[tuple[int, bytes]]:
        messages = [line.content for line in self.of(person, "binary")]
        return [(struct.unpack(">I", message[:4])[0], message[4:]) for message in messages]

    def told(self, person: str, job: str) -> tuple[tuple[str, Any], ...]:
        """What was told of a job, in order, by kind and node, without what passes."""
        events = [(kind, data) for kind, data in self.events(person) if data.get("prompt_id") == job]
        return tuple((kind, data.get("node")) for kind, data in events if kind not in PASSING)


@dataclass(frozen=True)
class Fifty:
    """The same crowd at a plain ComfyUI and at a frontend."""

    plain: Played
    room: Played


def color_of(person: str) -> tuple[int, int, int]:
    """A color that nobody else has, nor JPEG makes of another's."""
    number = PEOPLE.index(person)
    return 5 * number, 255 - 5 * number, 128


def is_picture_of(person: str, content: bytes) -> bool:
    """Whether this is a picture of the person's color, as nearly as JPEG leaves it."""
    with Image.open(io.BytesIO(content)) as picture:
        pixel = picture.convert("RGB").getpixel((5, 5))
    return all(abs(a - b) <= 2 for a, b in zip(pixel, color_of(person), strict=True))


def prefix_of(person: str, index: int) -> str:
    """Half of the pictures have a name that everybody uses, half one of the person's own."""
    return person if index % 2 else "ComfyUI"


def prompt_of(person: str, index: int, pause: float) -> graphs.Graph:
    red, green, blue = color_of(person)
    color = red << 16 | green << 8 | blue
    sketch = graphs.node("CfmSketch", word=person, color=color, steps=STEPS, pause=pause, number=graphs.number())
    return {"1": sketch, "2": graphs.node("SaveImage", images=["1", 0], filename_prefix=prefix_of(person, index))}


def visitors(password: bool, pause: float) -> list[Visitor]:
    """Every second page shows previews in the newer format, which says whose they are."""
    return [
        Visitor(
            person,
            password_of(person) if password else "",
            [prompt_of(person, index, pause) for index in range(PROMPTS)],
            {"supports_preview_metadata": number % 2 == 0},
            [f"/api/{path}" for path in OPENS],
        )
        for number, person in enumerate(PEOPLE)
    ]


def play(process: ComfyProcess, people: Sequence[Visitor], lag_file: Path, ours: Sequence[int]) -> Played:
    """Let the crowd come, work and leave."""
    pid = process.pid
    rest = memory_of(pid)
    forget_peak(pid)
    steps: dict[str, Step] = {}
    looks: dict[str, list[loop_lag.Look]] = {}
    others: dict[str, float] = {}
    with Crowd(process.address, people, process.base / "crowd") as crowd:
        for name in ("sign in", "connect", "open", "work", "look back"):
            before = cores_used([*ours, crowd.pid])
            step = steps[name] = crowd.step(name)
            others[name] = cores_used([*ours, crowd.pid]).others_since(before)
            looks[name] = loop_lag.during(lag_file, step.began, step.ended)
            late = f"loop late by {loop_lag.lag(looks[name])}"
            print(f"{process.mode}: {name} in {step.took:.2f} s, {late}; others used {others[name]:.2f} cores")
        after = memory_of(pid)
        lines = crowd.finish()
    played = Played(rest, after, steps, looks, others, lines)
    tell(process.mode, played)
    return played


@pytest.fixture(scope="module")
def fifty(comfyui: ComfyInstall, tmp_path_factory: pytest.TempPathFactory) -> Fifty:
    """All of it, once. Both servers run all the time, so that each is measured beside the same others."""
    folder = tmp_path_factory.mktemp("fifty")
    plain_lag, room_lag = folder / "plain-lag.bin", folder / "room-lag.bin"
    plain = ComfyProcess(
        comfyui,
        folder / "plain",
        mode="vanilla",
        env={loop_lag.VARIABLE: str(plain_lag)},
        node_packs=[SKETCH, loop_lag.PACK],
    )
    room = Pair(comfyui, folder / "room", frontend_env={loop_lag.VARIABLE: str(room_lag)}, worker_node_packs=[SKETCH])
    loop_lag.install(room.frontend)
    began = time.monotonic()
    try:
        plain.start()
        room.start(START)
        plain.wait_ready(START)
        servers = [plain, room.frontend, room.worker]
        assert room.store.process is not None
        ours = [os.getpid(), room.store.process.pid, *(process.pid for process in servers)]
        for process in servers:
            wait_at_rest(process.pid)
        print(f"\nstarted and at rest in {time.monotonic() - began:.0f} s")
        without = play(plain, visitors(password=False, pause=0.0), plain_lag, ours)
        add_users(room, dict.fromkeys(PEOPLE, "participant"))
        for process in servers:
            wait_at_rest(process.pid)
        found = Fifty(without, play(room.frontend, visitors(password=True, pause=0.01), room_lag, ours))
    finally:
        room.stop()
        plain.stop()
    print(f"all in {time.monotonic() - began:.0f} s")
    return found


def tell(name: str, played: Played) -> None:
    """Print further figures."""
    print(f"{name} at rest: {played.rest}\n{name} after:   {played.after}")
    for what in ("sign in", "open", "submit", "list", "view"):
        if times := sorted(line.took for line in played.lines if line.what == what):
            p50, p99 = (1000 * loop_lag.quantile(times, share) for share in (0.5, 0.99))
            print(f"{name}: {len(times)} x {what}: p50 {p50:.0f} ms, p99 {p99:.0f} ms")
    messages = sum(line.what in ("event", "binary") for line in played.lines)
    work = played.steps["work"].took
    print(
        f"{name}: {len(PEOPLE) * PROMPTS} prompts in {work:.1f} s, {len(PEOPLE) * PROMPTS / work:.1f} prompts and "
        f"{messages / work:.0f} messages a second"
    )


def test_a_frontend_with_fifty_people_is_hardly_larger_than_comfyui(fifty: Fifty) -> None:
    """Resident memory, since it does not depend on who else has the same libraries mapped; see `Memory`."""
    ratios = {
        "at rest": fifty.room.rest.resident / fifty.plain.rest.resident,
        "after as many prompts": fifty.room.after.resident / fifty.plain.after.resident,
        "peak beside ComfyUI at rest": fifty.room.after.peak / fifty.plain.rest.resident,
        "private, after": fifty.room.after.private / fifty.plain.after.private,
        "private, after, beside ComfyUI at rest": fifty.room.after.private / fifty.plain.rest.private,
    }
    print({name: round(ratio, 3) for name, ratio in ratios.items()})
    assert max(ratios.values()) <= MOST_MEMORY


def check_lag(played: Played, step: str) -> None:
    """The loop is late by `MOST_LAG` at most; what it waits for a core counts where nobody else wanted one."""
    lag = played.lag(step)
    assert lag.own_p99 < MOST_LAG
    if played.others[step] < QUIET:
        assert lag.p99 < MOST_LAG
    else:
        print(f"others used {played.others[step]:.2f} cores, so that waits for a core ({lag}) say nothing")


def test_the_loop_is_hardly_late_while_fifty_people_work(fifty: Fifty) -> None:
    check_lag(fifty.room, "work")


def test_passwords_of_fifty_people_at_once_do_not_hold_the_loop(fifty: Fifty) -> None:
    began = time.thread_time()
    passwords.hashed(password_of("person00"))
    hashing = time.thread_time() - began
    computed = sum(look.computed for look in fifty.room.looks["sign in"]) / len(PEOPLE)
    took = fifty.room.steps["sign in"].took
    milliseconds = f"{1000 * computed:.0f} ms of the loop's thread each; a hash takes {1000 * hashing:.0f} ms"
    print(f"all signed in after {took:.1f} s, {milliseconds}")
    check_lag(fifty.room, "sign in")
    assert computed < hashing / 4


def test_each_hears_of_their_own_prompts_and_of_nobody_elses(fifty: Fifty) -> None:
    for person in PEOPLE:
        jobs = fifty.room.jobs(person)
        assert len(set(jobs)) == PROMPTS
        waiting = []
        for kind, data in fifty.room.events(person):
            assert data.get("prompt_id", jobs[0]) in jobs
            assert data.get("word", person) == person
            if kind == "status":
                waiting.append(data["status"]["exec_info"]["queue_remaining"])
        assert max(waiting) <= PROMPTS, "two hundred waited in all"
        assert waiting[0] == waiting[-1] == 0 < max(waiting)
        steps = [data["step"] for kind, data in fifty.room.events(person) if kind == "cfm.sketched"]
        assert Counter(steps) == dict.fromkeys(range(STEPS), PROMPTS)


def test_each_is_told_of_their_own_prompts_what_comfyui_tells(fifty: Fifty) -> None:
    for person in PEOPLE:
        usual = {fifty.plain.told(person, job) for job in fifty.plain.jobs(person)}
        assert len(usual) == 1
        for job in fifty.room.jobs(person):
            told = fifty.room.told(person, job)
            assert {told} == usual
            assert ("execution_success", None) in told
            assert told[-1] == ("executing", None)


def test_each_is_sent_their_own_previews_and_texts(fifty: Fifty) -> None:
    for number, person in enumerate(PEOPLE):
        words = Counter(f"{person} {step}" for step in range(STEPS) for _ in range(PROMPTS))
        texts, sketched, previewed = [], [], []
        for kind, content in fifty.room.binaries(person):
            if kind == SKETCHED:
                sketched.append(content.decode())
            elif kind == TEXT:
                texts.append(behind_length(content)[1].decode())
            elif kind == PREVIEW_WITH_METADATA:
                metadata, picture = behind_length(content)
                previewed.append(json.loads(metadata)["prompt_id"])
                assert is_picture_of(person, picture)
            else:
                assert kind == PREVIEW
                previewed.append(None)
                assert is_picture_of(person, content[4:])
        assert Counter(sketched) == words
        # Of several that wait, the last is sent.
        assert set(texts) <= set(words)
        assert len(texts) >= PROMPTS
        assert set(previewed) == ({None} if number % 2 else set(fifty.room.jobs(person)))
        assert len(previewed) >= PROMPTS


def test_each_is_told_of_their_own_files_and_finds_their_own_pictures_in_them(fifty: Fifty) -> None:
    for person in PEOPLE:
        executed = [data["output"]["images"] for kind, data in fifty.room.events(person) if kind == "executed"]
        named = sorted(picture["filename"] for pictures in executed for picture in pictures)
        assert named == [f"{name}_{count:05}_.png" for name in ("ComfyUI", person) for count in (1, 2)]
        seen = fifty.room.of(person, "view")
        assert sorted(line.data["picture"]["filename"] for line in seen) == named
        assert all(is_picture_of(person, line.content) for line in seen)


def test_each_finds_their_own_prompts_in_lists_and_history(fifty: Fifty) -> None:
    for person in PEOPLE:
        jobs = set(fifty.room.jobs(person))
        listed = [set(line.data["jobs"]) for line in fifty.room.of(person, "list")]
        assert set().union(*listed) == jobs
        (history,) = fifty.room.of(person, "history")
        assert set(history.data["jobs"]) == jobs


def behind_length(content: bytes) -> tuple[bytes, bytes]:
    """The two parts of ComfyUI's text events and newer previews: the length of the first stands before it."""
    end = 4 + struct.unpack(">I", content[:4])[0]
    return content[4:end], content[end:]
