"""When queued jobs are expected to begin: the queue played ahead with what jobs of each kind took so far."""

from __future__ import annotations

import heapq
import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import get_args

from .jobs import Level

#: Jobs that are played ahead; those behind them are told no time.
MOST_PLAYED = 1_000
#: The name of a worker that can run everything; no worker has it. What is left to it nobody can run now.
ANY = ""
#: The levels in their order.
LEVELS = get_args(Level)


@dataclass(frozen=True)
class Expected:
    """What is expected of a queued job.

    Attributes:
        position: its place among all queued jobs in the order in which they will begin, from 1; in a pause, once the
            queue goes on, and behind all others what no live worker can run. None for one that is too far back.
        starts_in: seconds until it begins; None while no live worker can run it, while the queue is paused, or for
            one that is too far back.
        memory: bytes of a GPU's memory that it is taken to need; None when nothing is known.
        workers: the live workers that can run it now.
        lacks: what keeps all live workers from running it: ``memory``, or a need that none of them has.
    """

    position: int | None
    starts_in: float | None
    memory: int | None
    workers: tuple[str, ...]
    lacks: str = ""


@dataclass
class Lane:
    """One person's queued jobs of one kind at one level; ``duration`` in milliseconds."""

    level: str
    user: str
    duration: float
    memory: int | None
    workers: frozenset[str]
    jobs: deque[tuple[float, str]]
    lacks: str = ""


@dataclass
class Outlook:
    """What decides who goes next, at one moment; times in milliseconds.

    Attributes:
        workers: of each live worker, how long its job takes still and whom it is reserved for.
        usage: what each person used lately.
        turns: when each person was served last; only the order matters.
    """

    mode: str
    is_paused: bool
    workers: dict[str, tuple[float, str]]
    lanes: list[Lane]
    usage: dict[str, float] = field(default_factory=dict)
    turns: dict[str, float] = field(default_factory=dict)

    @classmethod
    def from_reply(cls, reply: bytes) -> Outlook:
        """From the answer of ``look_ahead.lua``. An empty table of Lua's is an object in JSON, so both are taken."""
        value = json.loads(reply)
        lanes = [
            Lane(
                lane["level"],
                lane["user"],
                lane["duration"],
                int(lane["memory"]) if "memory" in lane else None,
                frozenset(lane["workers"] or ()),
                deque((float(number), job_id) for job_id, number in _pairs(lane["jobs"])),
                lane.get("lacks", ""),
            )
            for lane in value["lanes"] or ()
        ]
        workers = {worker["name"]: (worker["left"], worker["reserved"]) for worker in value["workers"] or ()}
        return cls(value["mode"], value["paused"], workers, lanes, dict(value["usage"]), dict(value["turns"]))


def _pairs(flat: Sequence[str]) -> zip[tuple[str, str]]:
    return zip(flat[::2], flat[1::2], strict=True)


def forecast(outlook: Outlook) -> dict[str, Expected]:
    """Play the queue ahead: whoever is free first takes what the policy gives it. Changes ``outlook``.

    Returns:
        What is expected of each queued job, by id.
    """
    result = {
        job_id: Expected(None, None, lane.memory, tuple(sorted(lane.workers)), lane.lacks)
        for lane in outlook.lanes
        for _, job_id in lane.jobs
    }
    free = [(left, name) for name, (left, _) in outlook.workers.items()]
    heapq.heapify(free)
    ranking = _Ranking(outlook)
    latest = max(outlook.turns.values(), default=0.0)
    position = 0
    while position < MOST_PLAYED:
        now, name = heapq.heappop(free) if free else (None, ANY)
        lane = ranking.next_for(name)
        if lane is None:
            if name == ANY:
                break
            # Nothing that is queued now is for this worker.
            continue
        _, job_id = lane.jobs.popleft()
        position += 1
        starts_in = None if now is None or outlook.is_paused else now / 1000
        result[job_id] = replace(result[job_id], position=position, starts_in=starts_in)
        outlook.usage[lane.user] = outlook.usage.get(lane.user, 0.0) + lane.duration
        latest += 1
        outlook.turns[lane.user] = latest
        if now is not None:
            heapq.heappush(free, (now + lane.duration, name))
    return result


class _Ranking:
    """Which lane is next for a worker. Ranks only ever rise, so each is looked at again when it comes to the top.

    Workers that can run the same lanes share one heap.
    """

    def __init__(self, outlook: Outlook) -> None:
        self._outlook = outlook
        lanes_of: dict[str, list[int]] = {name: [] for name in (ANY, *outlook.workers)}
        for index, lane in enumerate(outlook.lanes):
            if lane.jobs:
                lanes_of[ANY].append(index)
            for name in lane.workers & outlook.workers.keys():
                only = outlook.workers[name][1]
                if lane.jobs and (not only or lane.user == only):
                    lanes_of[name].append(index)
        heaps: dict[tuple[int, ...], list[tuple[tuple[int, float, float], int]]] = {}
        self._heaps = {}
        for name, indices in lanes_of.items():
            kind = tuple(indices)
            if kind not in heaps:
                heaps[kind] = [(_rank(outlook, outlook.lanes[index]), index) for index in indices]
                heapq.heapify(heaps[kind])
            self._heaps[name] = heaps[kind]

    def next_for(self, worker: str) -> Lane | None:
        """The lane whose first job the worker takes next."""
        heap = self._heaps[worker]
        while heap:
            rank, index = heap[0]
            lane = self._outlook.lanes[index]
            if not lane.jobs:
                heapq.heappop(heap)
            elif (now := _rank(self._outlook, lane)) != rank:
                heapq.heapreplace(heap, (now, index))
            else:
                return lane
        return None


def _rank(outlook: Outlook, lane: Lane) -> tuple[int, float, float]:
    """The order of the policies in ``lua/includes``; within one person the number decides."""
    number = lane.jobs[0][0]
    level = LEVELS.index(lane.level)
    if outlook.mode == "fifo" or lane.level == "front":
        return level, number, number
    order = outlook.turns if outlook.mode == "round_robin" else outlook.usage
    return level, order.get(lane.user, 0.0), number
