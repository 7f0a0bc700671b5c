"""A running job's events on their way from its worker to the browsers.

A worker sends events in batches. A batch is one message: a JSON header, a line feed, and the payloads one behind the
other, exactly as they go into a browser's socket. Events that a browser may miss (a preview, a step of progress) are
published only; all others are also kept in the job's stream, so that a browser or frontend that was away can read them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

#: What a message on the channel tells that is no batch.
NOTICES = ("changed", "workers", "lost", "accounts", "measured", "policy", "message", "cancelled", "backup")


class Event(NamedTuple):
    """One event as it goes to a browser.

    Attributes:
        number: position among the job's events, from 1; a requeued job begins again with a new attempt.
        payload: the message for the socket: UTF-8 JSON text, or ComfyUI's binary frame with its four bytes of type.
        text: whether ``payload`` is text.
        keep: whether a browser must see it even after it was away.
        client: the ``clientId`` it is for, or None for all sockets of the job's user.
        name: ComfyUI's event type, or ``binary:N``.
    """

    number: int
    payload: bytes
    text: bool
    keep: bool
    client: str | None
    name: str


@dataclass(frozen=True)
class Batch:
    """Events of one attempt at one job, in order.

    Attributes:
        kept_before: number of the last kept event before this batch, by which a reader sees a gap.
        ends: the job's final state if this batch ends it.
        titles: what the nodes are called whose work the events tell of, by their ids: the person's own words.
        since: when its first event came up, Unix seconds by the store's clock; None if the worker does not know.
    """

    job_id: str
    user: str
    attempt: int
    events: Sequence[Event]
    kept_before: int = 0
    ends: str | None = None
    titles: Mapping[str, str] = field(default_factory=dict)
    since: float | None = None


@dataclass(frozen=True)
class Notice:
    """A message on the events' channel that is no batch.

    Attributes:
        kind: ``changed`` (a person's queue), ``workers`` (who lives, what they can run), ``lost`` (a job was given up),
            ``accounts`` (who may sign in, who is signed in), ``measured`` (a worker has measured its machine),
            ``policy`` (how the queue is worked off), ``message`` (an instructor speaks to all), ``cancelled`` (an
            instructor has cancelled somebody's jobs), ``backup`` (whether a worker's own files were backed up).
        data: its fields.
    """

    kind: str
    data: dict[str, Any] = field(default_factory=dict)


def encode(batch: Batch, *, only_kept: bool = False) -> bytes:
    """The message for a batch; ``only_kept`` leaves out what may be missed."""
    events = [event for event in batch.events if event.keep or not only_kept]
    header: dict[str, Any] = {
        "job": batch.job_id,
        "user": batch.user,
        "attempt": batch.attempt,
        "kept_before": batch.kept_before,
        "ends": batch.ends,
        "events": [
            [event.number, len(event.payload), event.text, event.keep, event.client, event.name] for event in events
        ],
    }
    if batch.titles:
        header["titles"] = dict(batch.titles)
    if batch.since is not None:
        header["since"] = batch.since
    return b"".join([json.dumps(header).encode(), b"\n", *(event.payload for event in events)])


def decode(message: bytes) -> Batch | Notice:
    """Read a message of the events' channel.

    Raises:
        ValueError: when it is none of ours.
    """
    head, _, body = message.partition(b"\n")
    header = json.loads(head)
    if "job" not in header:
        kind = next((kind for kind in NOTICES if kind in header), None)
        if kind is None:
            raise ValueError(f"unknown message on the events' channel: {head[:200]!r}")
        return Notice(kind, header)
    events = []
    start = 0
    for number, length, text, keep, client, name in header["events"]:
        events.append(Event(number, body[start : start + length], text, keep, client, name))
        start += length
    if start != len(body):
        raise ValueError(f"a batch of job {header['job']} is not as long as its header says")
    return Batch(
        header["job"],
        header["user"],
        header["attempt"],
        events,
        header["kept_before"],
        header["ends"],
        header.get("titles", {}),
        header.get("since"),
    )
