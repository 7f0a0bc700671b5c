"""Whose request or job is being served: the variables that the seams look at."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

#: A queue item as ComfyUI makes it: number, prompt id, prompt, extra data, output node ids, sensitive extra data.
QueueItem = tuple[float, str, dict[str, Any], dict[str, Any], list[str], dict[str, Any]]


@dataclass(frozen=True)
class Folders:
    """The three folders that ComfyUI's handlers and nodes see, absolute."""

    input: Path
    output: Path
    temp: Path

    def __iter__(self) -> Iterator[tuple[str, Path]]:
        return iter((("input", self.input), ("output", self.output), ("temp", self.temp)))


@dataclass(frozen=True)
class Submit:
    """Store this prompt."""

    item: QueueItem


@dataclass(frozen=True)
class Cancel:
    """Cancel jobs of the person; ``job_ids`` None means all that are in this state."""

    which: Literal["any", "queued", "running"]
    job_ids: tuple[str, ...] | None


@dataclass(frozen=True)
class Forget:
    """Delete finished jobs of the person from history; None means all."""

    job_ids: tuple[str, ...] | None


@dataclass(frozen=True)
class SetFlag:
    """Set a flag of the queue (``free_memory``, ``unload_models``) on the workers."""

    name: str
    value: Any


Change = Submit | Cancel | Forget | SetFlag


@dataclass
class Visit:
    """One request of one person: what ComfyUI's handler may read of the queue, and what it asks to change.

    ComfyUI's queue is called synchronously on the event loop, so what a handler will read is fetched before it runs,
    and what it changes is sent to the store after it, before its response goes out.

    Attributes:
        user: id of the person.
        folders: the person's folders.
        running: the person's jobs that a worker has.
        pending: the person's jobs that wait.
        history: the finished jobs that this request reads, by id, the oldest first.
        remaining: how many of the person's jobs have not ended.
        interrupt_target: the one job that ``/interrupt`` names, if it names one.
        order: ``back``, ``front`` or the number that ``/prompt`` asked for.
        changes: what the handler asked to change, in order.
        is_large: whether the request's prompt takes long to look at.
    """

    user: str
    folders: Folders
    running: list[QueueItem] = field(default_factory=list)
    pending: list[QueueItem] = field(default_factory=list)
    history: dict[str, dict[str, Any]] = field(default_factory=dict)
    remaining: int = 0
    interrupt_target: str | None = None
    order: Literal["back", "front"] | float = "back"
    changes: list[Change] = field(default_factory=list)
    is_large: bool = False


#: The request that is being served in this task, on a frontend.
current_visit: ContextVar[Visit | None] = ContextVar("comfyume_visit", default=None)

#: The folders of the job that this thread or task executes, on a worker.
job_folders: ContextVar[Folders | None] = ContextVar("comfyume_job_folders", default=None)
