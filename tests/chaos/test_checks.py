"""Each checker says nothing about what may happen, and something about what may not."""

from __future__ import annotations

from typing import Any

import pytest

from comfyume.tests.chaos import checks
from comfyume.tests.chaos.cancels import one_winner
from comfyume.tests.chaos.clocks import is_time_of_day
from comfyume.tests.chaos.kills import waits
from comfyume.tests.chaos.mutations import MUTATIONS, Mutation
from comfyume.tests.chaos.order import in_order, served_meanwhile
from comfyume.tests.chaos.outputs import all_or_nothing
from comfyume.tests.chaos.record import Entry, History
from comfyume.tests.chaos.sizes import never_held, refused_well
from comfyume.tests.chaos.whole_room import FULL, all_heard, all_took, in_time
from comfyume.tests.harness.package import ROOT


def entry(what: str, job: str = "j", at: float = 0.0, **data: Any) -> Entry:
    return Entry(what, at, at, job, data)


def final(job: str = "j", **changes: Any) -> Entry:
    result = {"outputs": {"1": {"images": [{"filename": f"{job}.bin"}], "claim": ["c"]}}}
    fields = {"state": "done", "attempt": "1", "lost": "", "claim": "c", "listed": True, "result": result}
    return entry("final", job, **{**fields, **changes})


SUBMIT = entry("submit", files=1, user="ada")
DONE = entry("batch", attempt=1, ends="done", names=[])
FILE = entry("file", name="j.bin", claim="c", right=True)
GOOD = [SUBMIT, entry("batch", attempt=1, ends=None, names=[]), DONE, final(), FILE]


def test_nothing_is_said_about_a_job_that_ends_well() -> None:
    assert checks.sound(History(GOOD)) == []
    assert checks.left_behind(History(GOOD)) == []


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        ([SUBMIT, final(state="queued")], "is queued at the end"),
        ([SUBMIT], "is missing at the end"),
        ([SUBMIT, final(listed=False), FILE], "not in its user's history"),
        ([*GOOD, DONE], "ended 2 times"),
        ([SUBMIT, DONE, final(state="error")], "was told to be done and is error"),
        ([SUBMIT, entry("batch", attempt=2, ends=None), DONE, final(), FILE], "was heard behind attempt 2"),
        ([*GOOD, entry("batch", attempt=1, ends=None)], "was heard behind the end"),
        ([SUBMIT, final()], "which is not there"),
        ([SUBMIT, final(), entry("file", name="j.bin", claim="d", right=True)], "another job or attempt wrote"),
        ([SUBMIT, final(), entry("file", name="j.bin", claim="c", right=False)], "is not what a job wrote"),
        ([entry("submit", files=2, user="ada"), final(), FILE], "names 1 files, not 2"),
        ([SUBMIT, final(claim="d"), FILE], "but claim d won"),
    ],
)
def test_what_may_not_happen_is_said(entries: list[Entry], complaint: str) -> None:
    assert any(complaint in sentence for sentence in checks.sound(History(entries)))


def test_two_jobs_may_not_name_one_file() -> None:
    other = final("k", result=final().data["result"])
    found = checks.files_right(History([*GOOD, entry("submit", "k", files=1, user="ada"), other]))
    assert any("is named by job k and by job j" in sentence for sentence in found)


def test_a_file_that_no_result_names_is_found() -> None:
    assert checks.left_behind(History([*GOOD, entry("file", name="x.bin", claim="b", right=True)])) != []


def test_losses_need_a_cause() -> None:
    history = History([final(lost="2")])
    assert checks.losses_have_a_cause(history, 2) == []
    assert checks.losses_have_a_cause(history, 1) != []
    assert checks.losses_have_a_cause(History([final(state="quarantined", lost="2")]), 5) != []


def test_the_wait_of_a_lost_job_lasts_until_it_begins_again_or_to_the_end() -> None:
    lost = [entry("run begin", pid=7, at=1.0), entry("kill", "", pid=7, at=2.0)]
    assert waits(History([*lost, entry("run begin", pid=8, at=5.0), final()])) == [3.0]
    assert waits(History([*lost, Entry("final", 9.0, 9.0, "j", final(state="queued").data)])) == [7.0]
    assert waits(History([*lost, final()])) == []


def test_a_job_that_was_cancelled_while_it_waited_may_not_run() -> None:
    cancelled = [entry("cancel", taken=True), final(state="cancelled", listed=False)]
    assert one_winner(History(cancelled), set()) == []
    assert one_winner(History([*cancelled, entry("run begin")]), set()) != []
    assert one_winner(History([final(state="cancelled")]), set()) != []
    assert one_winner(History([entry("cancel", taken=True), final()]), {"j"}) != []


def test_the_order_of_one_person_is_kept() -> None:
    submits = [entry("submit", "a", user="ada"), entry("submit", "b", user="ada")]
    claims = [entry("claimed", "a", user="ada"), entry("claimed", "b", user="ada")]
    assert in_order(History([*submits, *claims])) == []
    assert in_order(History([*submits, *reversed(claims)])) != []
    assert in_order(History([*submits, claims[0]])) != []


def test_turns_are_counted_while_somebody_waits() -> None:
    flood = [entry("submit", f"f{index}", user="flood") for index in range(3)]
    turns = [entry("claimed", f"f{index}", user="flood") for index in range(2)]
    history = History([*flood, entry("submit", "v", user="visitor"), *turns, entry("claimed", "v", user="visitor")])
    assert served_meanwhile(history, visitors_only=True)["v"] == 2


def test_a_time_of_the_day_is_known_in_any_unit() -> None:
    import time

    assert all(is_time_of_day(str(int(time.time() * scale)).encode()) for scale in (1, 1e3, 1e6, 1e9))
    assert not any(map(is_time_of_day, [b"", b"2000", b"86400000", b"abc", str(time.monotonic_ns() // 1000).encode()]))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({}, ""),
        ({"found": ["1 bytes, a", "1 bytes, b"]}, ""),
        ({"found": ["1 bytes, a"]}, "is done"),
        ({"found": ["1 bytes, a", "nothing"]}, "is done"),
        ({"found": ["1 bytes, a", "1 bytes, c"]}, "is done"),
        ({"state": "running"}, "is running"),
        ({"state": "error", "found": [], "why": "No space left on the person's disk"}, ""),
        ({"state": "error", "found": [], "why": "no"}, "says no more"),
        ({"state": "error", "why": "No space left on the person's disk"}, "names files"),
        ({"state": "error", "found": [], "why": "x" * 30, "may_fail": False}, "although the fault"),
    ],
)
def test_a_job_has_all_of_its_files_or_says_why_not(changes: dict[str, Any], complaint: str) -> None:
    files = ["1 bytes, b", "1 bytes, a"]
    fields = {"state": "done", "found": files, "wanted": files, "why": "", "fault": "reset", "may_fail": True}
    found = all_or_nothing(entry("looked", **{**fields, **changes}))
    assert bool(found) == bool(complaint)
    assert all(complaint in sentence for sentence in found)


@pytest.mark.parametrize(
    ("status", "may_pass", "is_told", "pending", "is_right"),
    [
        (413, False, True, 0, True),
        (400, True, True, 0, True),
        (200, True, True, 1, True),
        (200, False, True, 1, False),
        (200, True, True, 0, False),
        (500, False, True, 0, False),
        (0, True, True, 0, False),
        (400, False, False, 0, False),
        (400, False, True, 1, False),
    ],
)
def test_what_is_no_prompt_is_refused(status: int, may_pass: bool, is_told: bool, pending: int, is_right: bool) -> None:
    posted = entry("posted", kind="x", size=1, status=status, may_pass=may_pass, is_told=is_told)
    read = entry("read", kind="x", status=200, pending=pending, accepted=status == 200)
    assert (refused_well(History([posted, read])) == []) == is_right


def test_a_queue_that_cannot_be_read_is_noticed() -> None:
    assert refused_well(History([entry("read", kind="x", status=0, pending=0, accepted=False)])) != []


@pytest.mark.parametrize(("held", "cpu", "is_held"), [(0.2, 0.15, True), (0.2, 0.05, False), (0.05, 0.2, False)])
def test_what_holds_the_loop_is_computing(held: float, cpu: float, is_held: bool) -> None:
    posted = Entry("posted", 1.0, 2.0, "", {"kind": "x"})
    stall = entry("stall", "", 1.5, begin=1.5, end=1.5 + held, held=held, cpu=cpu)
    assert bool(never_held(History([posted, stall]))) == is_held
    later = entry("stall", "", 3.0, begin=3.0, end=4.0, held=1.0, cpu=1.0)
    assert never_held(History([posted, later])) == []


def test_a_room_is_carried_when_submits_claims_and_ends_come_in_time() -> None:
    submit, claim = Entry("submit", 0.0, 0.05, "j", {"status": 200}), entry("claim", took=0.01)
    end, stop = entry("end", at=1.0, client="tab"), entry("stopped", "", at=2.0)
    history = History([submit, claim, end, stop, entry("browser", "", client="tab", heard=["j"])])
    assert all_took(history) + all_heard(history) + in_time(history, FULL) == []
    assert all_heard(History([end, stop, entry("browser", "", client="tab", heard=[])])) != []
    assert all_heard(History([entry("end", at=3.0, client="tab"), stop])) == []
    assert len(in_time(History([Entry("submit", 0.0, 0.2, "j", {}), entry("claim", took=0.1)]), FULL)) == 2
    assert in_time(History(), FULL) != []
    assert all_took(History([Entry("submit", 0.0, 0.2, "j", {"status": 503})])) != []


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: f"{mutation.guarantee}: {mutation.title}")
def test_a_mutation_still_fits_the_code(mutation: Mutation) -> None:
    assert (ROOT / mutation.file).read_text(encoding="utf-8").count(mutation.old) == 1
