"""The job that a worker runs, and what became of it."""

from __future__ import annotations

import concurrent.futures
import json
import time
from dataclasses import dataclass, field
from typing import Any

from ..blobs.errors import BlobError
from ..job_queue.events import Event
from ..job_queue.jobs import ClaimedJob
from ..job_queue.worker_queue import UpcomingClaim
from .publishing import Publisher

#: A shorter text is no key of a service, and might be part of anything.
SHORTEST_SECRET = 8
#: Letters of a node's title that are told.
LONGEST_TITLE = 100


@dataclass
class RunningJob:
    """The job that is being executed.

    Attributes:
        cancelled: whether its person asked to stop it.
        lost: whether its claim went to another worker.
        began: when its preparation began, by this process's monotonic clock in seconds.
        timed_out: the seconds that it may run, once it has run longer.
        undelivered: why a result could not be brought to its person.
        is_saved: whether its end is on disk, since the store does not take it now.
        unkept: events that are out but not in the job's stream yet.
        keep_at: when they must be in it, by this process's monotonic clock in seconds.
        state: the number, data and client of the last ``progress_state`` that waits. It names every node and replaces
            the one before, so only the one that is sent is encoded.
        published: the outputs of each node whose files are at the person's, with the names that they have there.
        titles: what the nodes are called that the events which wait tell of, by their ids.
        since: when the first of the events that wait came up, by the store's clock; None if that is not known.
        confirmed: when the store was asked last whether the claim stands, and it did; as ``began``.
    """

    job: ClaimedJob
    publisher: Publisher
    number: int = 0
    kept: int = 0
    cancelled: bool = False
    lost: bool = False
    began: float = field(default_factory=time.monotonic)
    timed_out: float | None = None
    undelivered: BlobError | OSError | None = None
    is_saved: bool = False
    published: dict[str, Any] = field(default_factory=dict)
    waiting: list[Event] = field(default_factory=list)
    state: tuple[int, Any, str | None] | None = None
    unkept: list[Event] = field(default_factory=list)
    keep_at: float = 0.0
    titles: dict[str, str] = field(default_factory=dict)
    since: float | None = None
    confirmed: float = field(default_factory=time.monotonic)
    _hidden: list[bytes] = field(default_factory=list)
    _known_titles: dict[str, str] = field(default_factory=dict)

    @property
    def client(self) -> str | None:
        """The ``clientId`` of the browser that queued it."""
        client = self.job.payload["extra_data"].get("client_id")
        return client if isinstance(client, str) else None

    def hide(self, secrets: dict[str, Any]) -> None:
        """Let ``redacted`` leave out these API keys."""
        keys = [key for key in secrets.values() if isinstance(key, str) and len(key) >= SHORTEST_SECRET]
        self._hidden = [json.dumps(key)[1:-1].encode() for key in keys]

    def note_node(self, node: str) -> None:
        """Say with the events that wait what a node is called."""
        if node not in self._known_titles:
            title = self.redacted(json.dumps(title_of(self.job.payload["prompt"], node)).encode())
            self._known_titles[node] = json.loads(title)[:LONGEST_TITLE]
        self.titles[node] = self._known_titles[node]

    def redacted(self, text: bytes) -> bytes:
        """JSON without the job's API keys: of a node that fails ComfyUI tells all inputs, hidden ones too."""
        for secret in self._hidden:
            text = text.replace(secret, b"***")
        return text


def title_of(prompt: dict[str, Any], node_id: str) -> str:
    """What a node is called: its title in the workflow, else its class; a node that another one has made at run time by
    the name of that one. Empty where nobody knows."""
    node = prompt.get(node_id) or prompt.get(node_id.partition(".")[0])
    if not isinstance(node, dict):
        return ""
    meta = node.get("_meta")
    names = (meta.get("title") if isinstance(meta, dict) else None, node.get("class_type"))
    return next((name for name in names if isinstance(name, str) and name), "")


@dataclass(frozen=True)
class Finish:
    """What became of a job, on its way through the sending loop.

    Attributes:
        upcoming: the claim for the next job, which is asked for with the end of this one; None to ask for none.
        catalogue: what the worker can run then.
        room: bytes of memory that the next job may need; None for any.
        peak: bytes of memory that the job took; None if nobody knows.
        done: takes the store's answer, with the next job in it.
    """

    running: RunningJob
    history_result: dict[str, Any]
    status: dict[str, Any]
    upcoming: UpcomingClaim | None
    catalogue: str
    room: int | None
    peak: int | None
    done: concurrent.futures.Future[list[bytes]]
