"""The workshop on the store: its scripts, all that it holds, and time passing by a word instead of a wait."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import redis

from comfyume.benchmarks.simulator.play import BEGIN, REAL_CLOCK, VIRTUAL_CLOCK
from comfyume.job_queue.keys import Keys
from comfyume.job_queue.scripts import source

from .things import CATALOGUES

#: Milliseconds from each change to the next.
TICK_MS = 1
#: Seconds; longer than any sequence of steps takes.
LEASE = 1800.0
LEASE_MS = int(LEASE * 1000)

#: Every key of a workshop: its name, type, milliseconds to live, and content.
_READ_ALL = """
local readers = {
  hash = {'HGETALL'}, zset = {'ZRANGE', 0, -1, 'WITHSCORES'}, set = {'SMEMBERS'}, list = {'LRANGE', 0, -1},
  string = {'GET'}, stream = {'XRANGE', '-', '+'},
}
local found, cursor = {}, '0'
repeat
  local page = redis.call('SCAN', cursor, 'MATCH', ARGV[1] .. '*', 'COUNT', 1000)
  cursor = page[1]
  for _, key in ipairs(page[2]) do
    local kind = redis.call('TYPE', key).ok
    local reader = readers[kind]
    local content = redis.call(reader[1], key, unpack(reader, 2))
    found[#found + 1] = {string.sub(key, #ARGV[1] + 1), kind, redis.call('PTTL', key), content}
  end
until cursor == '0'
return found
"""


@dataclass(frozen=True)
class Picture:
    """All that a workshop holds at one moment, by the names of its keys without their prefix.

    Attributes:
        held: dict of a hash, list of pairs of a sorted set, set, list of bytes, list of the entries of a stream as
            dicts, or string.
        ends: milliseconds to live of each key, -1 for ever.
    """

    held: dict[str, Any]
    ends: dict[str, int]

    def family(self, name: str) -> dict[str, Any]:
        """What stands under ``name:...``, by what follows."""
        return self._families.get(name, {})

    @cached_property
    def _families(self) -> dict[str, dict[str, Any]]:
        families: dict[str, dict[str, Any]] = defaultdict(dict)
        for key, value in self.held.items():
            name, _, rest = key.partition(":")
            families[name][rest] = value
        return families

    @property
    def jobs(self) -> dict[str, dict[str, str]]:
        """The hash of each job."""
        return self.family("job")

    def jobs_by_claim(self) -> dict[str, str]:
        """The job that each claim is bound to."""
        return {fields["claim"]: job_id for job_id, fields in self.jobs.items() if "claim" in fields}


def _content(kind: str, raw: Any) -> Any:
    if kind == "hash":
        words = [word.decode() for word in raw]
        return dict(zip(words[::2], words[1::2], strict=True))
    if kind == "zset":
        return [(name.decode(), float(score)) for name, score in zip(raw[::2], raw[1::2], strict=True)]
    if kind == "stream":
        words = [[word.decode() for word in fields] for _, fields in raw]
        return [dict(zip(entry[::2], entry[1::2], strict=True)) for entry in words]
    if kind == "set":
        return {member.decode() for member in raw}
    return raw.decode() if kind == "string" else raw


def on_virtual_clock(text: str) -> str:
    """A script that reads the time from a key; all else is as it runs in production."""
    return text.replace(REAL_CLOCK, VIRTUAL_CLOCK)


class StoredWorkshop:
    """A workshop of its own on a real store, at a time that the caller sets.

    ``read`` gives the text of a script. Leases and signs of life last by the store's own clock, and end by ``end_key``.
    """

    def __init__(self, client: redis.Redis, name: str, read: Callable[[str], str] = source) -> None:
        # The library types replies as text or bytes; without a decoder they are bytes.
        self.client: Any = client
        self.keys = Keys(name)
        self.now_ms = int(BEGIN * 1000)
        self._read = read
        self._scripts: dict[str, Any] = {}
        self._read_all = client.register_script(_READ_ALL)
        self._picture: Picture | None = None
        for catalogue, capabilities in CATALOGUES.items():
            self.client.sadd(self.keys.capabilities(catalogue), "", *capabilities)

    def run(self, script: str, *arguments: Any) -> Any:
        """The answer of a script."""
        if script not in self._scripts:
            self._scripts[script] = self.client.register_script(on_virtual_clock(self._read(script)))
        if script != "list_active":
            self.changed()
            self.let_pass(TICK_MS)
            self.client.set(f"{self.keys.prefix}clock", self.now_ms * 1000)
        return self._scripts[script](keys=[self.keys.prefix], args=list(arguments))

    def changed(self) -> None:
        """The last picture is out of date."""
        self._picture = None

    def picture(self) -> Picture:
        """All that the workshop holds now."""
        if self._picture is None:
            rows: Any = self._read_all(keys=[], args=[self.keys.prefix])
            held, ends = {}, {}
            for name, kind, ttl, raw in rows:
                if name != b"clock":
                    held[name.decode()] = _content(kind.decode(), raw)
                    ends[name.decode()] = int(ttl)
            self._picture = Picture(held, ends)
        return self._picture

    def clear(self) -> None:
        """Leave nothing behind."""
        self.changed()
        self.client.unlink(*(self.keys.prefix + name for name in [*self.picture().held, "clock"]))
        self.changed()

    # Time

    def let_pass(self, ms: int) -> None:
        """Let the store's clock go on."""
        self.now_ms += ms

    def end_key(self, name: str) -> None:
        """Let the time of a key run out."""
        self.client.delete(self.keys.prefix + name)
        self.changed()

    def set_last_sweep(self, seconds_ago: float) -> None:
        """Let the last sweep have been so long ago."""
        self.client.set(f"{self.keys.prefix}swept", self.now_ms - int(seconds_ago * 1000))
        self.changed()


def waiting_claims(idle: dict[str, str]) -> dict[str, tuple[str, int | None]]:
    """The claim with which each waiting worker waits, and how many bytes its job may need."""
    requests = {worker: json.loads(request) for worker, request in idle.items()}
    return {
        worker: (request["claim"], int(request["room"]) if request["room"] else None)
        for worker, request in requests.items()
    }
