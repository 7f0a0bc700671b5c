"""Whose request or job is being served: the variables that the seams look at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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
        data_user: the name under which ComfyUI's user manager keeps their workflows and settings.
        is_instructor: whether they administer the workshop.
        session: id of the session in which they are signed in, if there is one.
        kept: what is kept of their password, if that came with the request.
        running: the person's jobs that a worker has.
        pending: the person's jobs that wait.
        history: the finished jobs that this request reads, by id, the oldest first.
        remaining: how many of the person's jobs have not ended.
        interrupt_target: the one job that ``/interrupt`` names, if it names one.
        webhook: where the end of the prompt is to be told, as it was sent; None for nowhere.
        name: of the workflow that the prompt was made of, as it was sent; empty where nobody has told.
        order: ``back``, ``front`` or the number that ``/prompt`` asked for.
        changes: what the handler asked to change, in order.
        is_large: whether the request's prompt takes long to look at.
        models: what people have brought of models that the person may use, by folder, as graphs name them; None while
            nobody has looked.
    """

    user: str
    folders: Folders
    data_user: str
    is_instructor: bool = False
    session: str | None = None
    kept: str | None = None
    running: list[QueueItem] = field(default_factory=list)
    pending: list[QueueItem] = field(default_factory=list)
    history: dict[str, dict[str, Any]] = field(default_factory=dict)
    remaining: int = 0
    interrupt_target: str | None = None
    webhook: Any = None
    name: Any = ""
    order: Literal["back", "front"] | float = "back"
    changes: list[Change] = field(default_factory=list)
    is_large: bool = False
    models: dict[str, list[str]] | None = None


#: The request that is being served in this task, on a frontend.
current_visit: ContextVar[Visit | None] = ContextVar("comfyume_visit", default=None)


@dataclass(frozen=True)
class JobMarks:
    """What tells a job's results from those of a job that looks the same.

    Attributes:
        user: whose job it is.
        files: what the job's files and people's models hold, by the words with which a graph names them.
    """

    user: str
    files: Mapping[str, str]

    @classmethod
    def of_files(
        cls, user: str, files: Iterable[tuple[str, str, str]], models: Mapping[str, str] | None = None
    ) -> JobMarks:
        """The marks of a job with these files: kind, path below the folder of its kind, and hash of the content.

        Args:
            models: hashes of what people have brought of models, by the words with which a graph names each.
        """
        named: dict[str, str] = dict(models or {})
        for kind, path, digest in files:
            # A graph names a file, or a folder and means all that is in it.
            parts = path.split("/")
            for words in ("/".join(parts[:length]) for length in range(1, len(parts) + 1)):
                for name in (words, f"{words} [{kind}]") if kind == "input" else (f"{words} [{kind}]",):
                    named[name] = named.get(name, "") + digest
        return cls(user, named)


#: The marks of the job that this thread or task executes, on a worker.
job_marks: ContextVar[JobMarks | None] = ContextVar("comfyume_job_marks", default=None)

#: What people have brought of models for the job that this thread or task checks or executes, on a worker: by folder
#: of models, the file that a graph means by these words.
job_models: ContextVar[Mapping[str, Mapping[str, Path]] | None] = ContextVar("comfyume_job_models", default=None)

#: The folders of the job that this thread or task executes, on a worker.
job_folders: ContextVar[Folders | None] = ContextVar("comfyume_job_folders", default=None)
