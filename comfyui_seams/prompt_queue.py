"""Seam: ``PromptServer.instance.prompt_queue``, ComfyUI's queue, answered from the workshop.

``main.py`` hands the queue to its executing thread right after the custom nodes have loaded, so the swap happens while
this extension is imported, or never.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Protocol

from execution import PromptQueue
from server import PromptServer

from .context import Cancel, Forget, QueueItem, SetFlag, Submit, current_visit

log = logging.getLogger("comfyume")


class Executing(Protocol):
    """What the executing thread asks of a worker. All methods block; none may raise, or the thread is gone for good."""

    def get(self, timeout: float | None) -> tuple[QueueItem, Any] | None:
        """The next item and its handle; None in time, and at once after ``wake``."""

    def task_done(self, handle: Any, history_result: dict[str, Any], status: Any) -> None:
        """Hand in what became of an item."""

    def wake(self) -> None:
        """Make ``get`` return None soon; called from any thread."""


class WorkshopQueue:
    """ComfyUI's queue over the workshop.

    On a frontend ``put`` and the readers work on the request that is being served; on a worker ``get`` and
    ``task_done`` go to its executor. A standalone process has both.
    """

    def __init__(self, *, serves_people: bool, executing: Executing | None) -> None:
        self._serves_people = serves_people
        self._executing = executing
        self._flags: dict[str, Any] = {}
        self._flags_lock = threading.Lock()
        self._flag_came = threading.Condition(self._flags_lock)
        self.mutex = threading.RLock()

    # What the executing thread calls.

    def get(self, timeout: float | None = None) -> tuple[QueueItem, Any] | None:
        """The next item to execute, or None when the time is over or a flag was set."""
        if self._executing is not None:
            with self._flags_lock:
                if self._flags:
                    return None
            return self._executing.get(timeout)
        # A frontend executes nothing: the thread sleeps until a flag arrives, and does the housekeeping it asks for.
        with self._flag_came:
            if not self._flags:
                self._flag_came.wait(timeout)
        return None

    def task_done(
        self,
        item_id: Any,
        history_result: dict[str, Any],
        status: PromptQueue.ExecutionStatus | None = None,
        process_item: Callable[[Any], Any] | None = None,
    ) -> None:
        """Hand in the result of an item. ``process_item`` would remove secrets, which are not in what is kept."""
        if self._executing is not None:
            self._executing.task_done(item_id, history_result, status)

    def set_flag(self, name: str, data: Any) -> None:
        """Ask for ``free_memory`` or ``unload_models``: of the workers when a person asks, else of this process."""
        visit = current_visit.get()
        if self._serves_people and visit is not None:
            visit.changes.append(SetFlag(name, data))
            return
        with self._flag_came:
            self._flags[name] = data
            self._flag_came.notify_all()
        if self._executing is not None:
            self._executing.wake()

    def get_flags(self, reset: bool = True) -> dict[str, Any]:
        """The flags that were set; they are taken with ``reset``."""
        with self._flags_lock:
            flags = dict(self._flags)
            if reset:
                self._flags.clear()
            return flags

    # What a request's handlers call.

    def put(self, item: QueueItem) -> None:
        """Place a prompt in the request's outbox; it is stored before the response goes out.

        Raises:
            RuntimeError: outside of a person's request, or on a worker, which takes no prompts of its own.
        """
        visit = current_visit.get()
        if not self._serves_people or visit is None:
            raise RuntimeError("Prompts of this workshop are queued by a request to a frontend's /prompt.")
        visit.changes.append(Submit(item))

    def get_current_queue(self) -> tuple[list[QueueItem], list[QueueItem]]:
        """The person's running and pending items."""
        return self.get_current_queue_volatile()

    def get_current_queue_volatile(self) -> tuple[list[QueueItem], list[QueueItem]]:
        """The person's running and pending items."""
        visit = current_visit.get()
        return (list(visit.running), list(visit.pending)) if visit is not None else ([], [])

    def get_tasks_remaining(self) -> int:
        """How many of the person's jobs have not ended."""
        visit = current_visit.get()
        return visit.remaining if visit is not None else 0

    def interrupt_if_running(self, prompt_id: str) -> bool:
        """Interrupt one running job of the person."""
        visit = current_visit.get()
        if visit is None or all(item[1] != prompt_id for item in visit.running):
            return False
        visit.changes.append(Cancel("running", (prompt_id,)))
        return True

    def wipe_queue(self) -> None:
        """Take all of the person's waiting jobs out of the queue."""
        visit = current_visit.get()
        if visit is not None:
            visit.changes.append(Cancel("queued", None))

    def delete_queue_item(self, function: Callable[[QueueItem], bool]) -> bool:
        """Take the first of the person's waiting jobs for which ``function`` is true out of the queue."""
        visit = current_visit.get()
        if visit is None:
            return False
        for item in visit.pending:
            if function(item):
                visit.changes.append(Cancel("queued", (item[1],)))
                visit.pending.remove(item)
                return True
        return False

    def get_history(
        self,
        prompt_id: str | None = None,
        max_items: int | None = None,
        offset: int = -1,
        map_function: Callable[[dict[str, Any]], Any] | None = None,
    ) -> dict[str, Any]:
        """The finished jobs of this request; its middleware has paged them by ``max_items`` and ``offset`` already."""
        visit = current_visit.get()
        if visit is None:
            return {}
        entries = visit.history
        if prompt_id is not None:
            entries = {prompt_id: entries[prompt_id]} if prompt_id in entries else {}
        if map_function is not None:
            return {job_id: map_function(entry) for job_id, entry in entries.items()}
        return dict(entries)

    def wipe_history(self) -> None:
        """Delete all of the person's history."""
        visit = current_visit.get()
        if visit is not None:
            visit.changes.append(Forget(None))

    def delete_history_item(self, id_to_delete: str) -> None:
        """Delete one finished job from the person's history."""
        visit = current_visit.get()
        # ComfyUI hands on whatever the request had in its list.
        if visit is not None and isinstance(id_to_delete, str) and id_to_delete.isascii():
            visit.changes.append(Forget((id_to_delete,)))

    # Node packs read these.

    @property
    def queue(self) -> list[QueueItem]:
        """The person's pending items."""
        return self.get_current_queue()[1]

    @property
    def currently_running(self) -> dict[str, QueueItem]:
        """The person's running items by id."""
        return {item[1]: item for item in self.get_current_queue()[0]}

    @property
    def history(self) -> dict[str, Any]:
        """What ``get_history`` answers."""
        return self.get_history()


def install(queue: WorkshopQueue) -> None:
    """Put the queue in ComfyUI's place."""
    PromptServer.instance.prompt_queue = queue
