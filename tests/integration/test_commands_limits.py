"""`comfyume limits` and `comfyume activity`, as an instructor uses them, on a store of its own."""

from __future__ import annotations

from typing import Any

import pytest

from comfyume.job_queue.keys import Keys
from comfyume.tests.integration.conftest import Run


@pytest.fixture
def comfyume(comfyume: Run) -> Run:
    """With three users."""
    comfyume("users", "add", "user01..user03", "--generate")
    return comfyume


def test_limits_of_all_and_of_a_few_are_set_and_shown(comfyume: Run) -> None:
    assert comfyume("limits", "set", "--gpu-day", "90", "--disk", "20", "--per-person", "none")[0] == 0
    said = comfyume("limits", "set", "user02..user03", "--gpu-day", "none", "--disk", "5.5")[1]
    assert said == "For user02, user03: gpu-day none, disk 5.5.\n"
    status, shown, _ = comfyume("limits", "show")
    assert status == 0
    assert "        90  GPU minutes within 24 hours" in shown
    assert "  no limit  prompts in the queue" in shown
    assert "own limits" not in next(line for line in shown.splitlines() if line.startswith("user01"))
    assert shown.count("own limits: gpu-day none, disk 5.5") == 2
    comfyume("limits", "set", "user02", "--gpu-day", "usual", "--disk", "usual")
    assert comfyume("limits", "show")[1].count("own limits") == 1


def test_credits_are_granted(comfyume: Run) -> None:
    assert "Credits are not counted yet" in comfyume("limits", "grant", "3", "user01")[1]
    comfyume("limits", "set", "--credits-hour", "10")
    assert comfyume("limits", "grant", "2.5", "user01..user02")[1] == (
        "user01 was given 2.5 credits and has 5.5 now.\nuser02 was given 2.5 credits and has 12.5 now.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["set"], "Say which limit"),
        (["set", "--gpu-day", "many"], "--gpu-day many"),
        (["set", "--gpu-day", "-1"], "--gpu-day -1"),
        (["set", "--gpu-day", "nan"], "--gpu-day nan"),
        (["set", "--per-person", "1.5"], "--per-person 1.5"),
        (["set", "--gpu-day", "usual"], "`usual` is for the people who are named"),
        (["set", "nobody", "--gpu-day", "1"], "there is no user nobody"),
        (["grant", "1", "nobody"], "there is no user nobody"),
        (["grant", "inf", "user01"], "as a number"),
    ],
)
def test_what_makes_no_sense_changes_nothing(comfyume: Run, store: Any, arguments: list[str], says: str) -> None:
    before = {key: store.client().type(key) for key in store.client().scan_iter(f"{Keys(store.workshop).prefix}*")}
    status, _, problem = comfyume("limits", *arguments)
    assert (status, says in problem) == (1, True), problem
    after = {key: store.client().type(key) for key in store.client().scan_iter(f"{Keys(store.workshop).prefix}*")}
    assert after == before


def test_the_limits_of_who_is_removed_go_with_them(comfyume: Run) -> None:
    comfyume("limits", "set", "user01", "--disk", "1")
    comfyume("users", "remove", "user01")
    comfyume("users", "add", "user01", "--generate", "--sheet", "again.csv")
    assert "own limits" not in comfyume("limits", "show")[1]


def test_what_was_done_by_the_command_line_is_in_the_log(comfyume: Run) -> None:
    comfyume("limits", "set", "user01", "--disk", "1")
    comfyume("users", "remove", "user03")
    status, told, _ = comfyume("activity")
    assert status == 0
    lines = told.splitlines()
    assert len(lines) == 5
    assert ["command line" in line for line in lines] == [True] * 5
    assert "user added" in lines[0]
    assert "user: user01" in lines[0]
    assert "limits" in lines[3]
    assert "user removed" in lines[4]
    assert comfyume("activity", "--last", "1")[1] == f"{lines[4]}\n"
    assert comfyume("activity", "--user", "ada")[1] == "Nothing is in the log.\n"
    assert comfyume("activity", "--last", "0")[0] == 1
