"""The groups of trials, and how many each has in the normal suite and in a full run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from . import (
    bucket_faults,
    busy,
    cancels,
    clocks,
    cut_off,
    drains,
    full_store,
    kills,
    lost_replies,
    order,
    outputs,
    pauses,
    poison,
    same_submits,
    sizes,
    store_kills,
    whole_room,
)
from .reports import Report
from .stage import Stage


@dataclass(frozen=True)
class Group:
    """Trials that are run together.

    Attributes:
        guarantees: those that they try.
        run: runs a number of them.
        short: how many run with the test suite.
        full: how many a full run has.
        is_alone: whether it needs all cores, so that no other group may run at the same time.
    """

    guarantees: tuple[str, ...]
    run: Callable[[Stage, int], Awaitable[list[Report]]]
    short: int
    full: int
    is_alone: bool = False


#: Those that mostly wait, or take longest, begin first where several run at once.
GROUPS = [
    Group(("G7",), cut_off.run, 2, 100),
    Group(("G10",), order.run, 1, 20),
    Group(("G12",), drains.run, 2, 200),
    Group(("G6",), lost_replies.run, 1, 1000),
    Group(("G3",), pauses.run, 2, 500),
    Group(("G1",), store_kills.run, 4, 200),
    Group(("G9",), poison.run, 1, 100),
    Group(("G17",), clocks.run, 1, 100),
    Group(("G15",), full_store.run, 1, 50),
    Group(("G11",), cancels.run, 24, 2000),
    Group(("G8",), same_submits.run, 20, 1000),
    Group(("G16",), outputs.run, 25, 300),
    Group(("G20",), bucket_faults.run, 24, 300),
    Group(("G18",), sizes.run, 24, 800),
    Group(("G2", "G4"), kills.run, 6, 1000, is_alone=True),
    Group(("G5",), busy.run, 2, 200, is_alone=True),
    Group(("G19",), whole_room.run, 1, 3, is_alone=True),
]
