"""Which snapshot is meant by words, and which are kept by rules."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyume.backups.errors import NoSuchSnapshot, WrongMoment, WrongRule
from comfyume.backups.manifest import is_id, moment_of, new_id
from comfyume.backups.moments import chosen, moment_meant
from comfyume.backups.retention import Rule, kept, rules_of

HOUR, DAY = 3600.0, 86400.0


def at(*moment: int) -> float:
    """A moment by this machine's clock."""
    return time.mktime((*moment, *(0,) * (8 - len(moment)), -1))


NOW = at(2026, 11, 30, 15, 30)


def ids(*moments: float) -> list[str]:
    return sorted(new_id(moment, f"{number:08x}") for number, moment in enumerate(moments))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-30 14:00", at(2026, 11, 30, 14, 0, 59)),
        ("2026-11-30T14:00:05", at(2026, 11, 30, 14, 0, 5)),
        ("2026-11-29", at(2026, 11, 29, 23, 59, 59)),
        ("14:00", at(2026, 11, 30, 14, 0, 59)),
        ("9:05", at(2026, 11, 30, 9, 5, 59)),
        ("yesterday", at(2026, 11, 29, 23, 59, 59)),
        ("Yesterday 8:15", at(2026, 11, 29, 8, 15, 59)),
        ("today 08:15", at(2026, 11, 30, 8, 15, 59)),
        ("2h ago", NOW - 2 * HOUR),
        ("1.5 hours ago", NOW - 1.5 * HOUR),
        ("90 min ago", NOW - 1.5 * HOUR),
        ("3 days ago", NOW - 3 * DAY),
        ("1w ago", NOW - 7 * DAY),
        ("latest", float("inf")),
        ("", float("inf")),
    ],
)
def test_words_name_a_moment_by_the_clock_of_who_writes_them(text: str, moment: float) -> None:
    assert moment_meant(text, NOW) == moment


@pytest.mark.parametrize(
    "text",
    ["soon", "25:00", "2026-13-01", "2026-02-30 10:00", "ago", "-2h ago", "14", "2h", "yesterday at noon", "T", " ago"],
)
def test_other_words_are_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(WrongMoment, match="Write it as `2026-11-30 14:00`"):
        moment_meant(text, NOW)


@given(st.text(max_size=40))
def test_whatever_is_written_is_a_moment_or_refused(text: str) -> None:
    with contextlib.suppress(WrongMoment):
        assert isinstance(moment_meant(text, NOW), float)


def test_the_newest_snapshot_by_then_is_taken() -> None:
    snapshots = ids(NOW - 5 * HOUR, NOW - 3 * HOUR, NOW - 1 * HOUR)
    assert chosen("2h ago", snapshots, NOW) == snapshots[1]
    assert chosen("3h ago", snapshots, NOW) == snapshots[1]
    assert chosen("latest", snapshots, NOW) == snapshots[2]
    assert chosen(snapshots[0], snapshots, NOW) == snapshots[0]
    with pytest.raises(NoSuchSnapshot, match="No snapshot was taken by 2026-11-29"):
        chosen("yesterday", snapshots, NOW)
    with pytest.raises(NoSuchSnapshot, match=r"There is no snapshot 20200101T000000.000Z-00000000"):
        chosen("20200101T000000.000Z-00000000", snapshots, NOW)
    with pytest.raises(NoSuchSnapshot, match="Make one"):
        chosen("latest", [], NOW)


def test_a_name_tells_its_moment() -> None:
    name = new_id(NOW, "0123abcd")
    assert is_id(name)
    assert moment_of(name) == NOW
    assert not is_id(name[:-1])


def test_rules_are_read() -> None:
    assert rules_of("24h=24,7d=7") == (Rule(DAY, 24), Rule(7 * DAY, 7))
    assert rules_of(" 2w = 14 ") == (Rule(14 * DAY, 14),)


@pytest.mark.parametrize("text", ["", "24h", "24h=0", "0h=1", "24=24", "24h=24,", "a=b", "24h=-1", "24y=1"])
def test_other_words_are_no_rules(text: str) -> None:
    with pytest.raises(WrongRule, match="24h=24,7d=7"):
        rules_of(text)


def test_hourly_snapshots_of_a_month_become_a_day_of_hours_and_a_week_of_days() -> None:
    # On the hour, in a time zone of whole hours or not.
    now = time.mktime((2026, 11, 30, 12, 0, 30, 0, 0, -1))
    snapshots = ids(*(now - number * HOUR for number in range(24 * 30)))
    keep = sorted(kept(snapshots, rules_of("24h=24,7d=7"), now), reverse=True)
    ages = [round((now - moment_of(each)) / HOUR) for each in keep]
    assert ages[:24] == list(range(24))
    assert 5 <= len(ages[24:]) <= 7
    assert ages[-1] < 7 * 24


RULES = st.lists(
    st.builds(Rule, st.sampled_from([HOUR, 6 * HOUR, DAY, 7 * DAY, 30 * DAY]), st.integers(1, 40)), max_size=3
)
MOMENTS = st.lists(st.integers(int(NOW - 40 * DAY), int(NOW)), max_size=60)


@given(MOMENTS, RULES)
def test_rules_keep_no_more_than_they_say_and_always_the_newest(moments: list[int], rules: list[Rule]) -> None:
    snapshots = ids(*moments)
    keep = kept(snapshots, rules, NOW)
    assert keep <= set(snapshots)
    assert len(keep) <= 1 + sum(rule.count for rule in rules)
    if snapshots:
        assert max(snapshots) in keep
    # What is in no rule's time goes; what was kept is kept again; and each slot that had one still has one.
    for snapshot in keep - {max(snapshots, default="")}:
        assert any(moment_of(snapshot) > NOW - rule.span for rule in rules)
    assert kept(keep, rules, NOW) == keep
    for rule in rules:
        newest = sorted({moment_of(each) // rule.slot for each in snapshots if moment_of(each) > NOW - rule.span})
        assert {moment_of(each) // rule.slot for each in keep} >= set(newest[-rule.count :])


@given(MOMENTS, RULES, st.integers(0, int(3 * DAY)))
def test_what_is_cleared_up_now_and_later_is_no_less_than_what_is_cleared_up_later(
    moments: list[int], rules: list[Rule], later: int
) -> None:
    snapshots = ids(*moments)
    assert kept(kept(snapshots, rules, NOW), rules, NOW + later) == kept(snapshots, rules, NOW + later)
