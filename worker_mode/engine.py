"""What executes prompts on a worker, behind one small interface.

A worker claims jobs, brings their files, carries events and results, and keeps its leases alive; all that is the same
whatever runs the prompts. An engine runs them: ComfyUI is the first one (``comfyui_engine.py``), and ADR 0011 tells how
another one would be added.

An engine calls, from the one thread that executes, ``Executor.get`` for the next prompt and ``Executor.task_done`` with
what became of it. While it runs a prompt it gives each event, in order and on the event loop, to ``Courier.take_json``
or ``Courier.take_bytes``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from ..comfyui_seams.answers import Memory, Verdict
from ..job_queue.catalogue import Catalogue


class Engine(Protocol):
    """Runs prompts, one at a time."""

    # What it offers.

    async def offer(self) -> Catalogue:
        """What it can run now."""

    def describe(self) -> dict[str, Any]:
        """Its version and its devices, for people."""

    def measure(self) -> dict[str, Any]:
        """What its devices do now, for people; blocking.

        ``devices``, each with ``name``, ``vram_total`` and ``vram_free`` in bytes, ``use`` in percent and
        ``temperature`` in degrees Celsius or None where nobody can tell; and ``loaded``, the kinds of
        the models that are in memory.
        """

    def browser_files(self) -> dict[str, dict[str, Path]]:
        """The files that its node packs give to browsers, by pack and path; blocking."""

    def model_metadata(self, folder: str, file: str) -> Any:
        """What a model's header says, or None; blocking."""

    def count_frames(self, file: Path) -> int:
        """How many images or frames of a film a result is; blocking."""

    # Running.

    def check_now(self, job_id: str, prompt: dict[str, Any], outputs: list[str] | None) -> Verdict:
        """Check a graph before it runs; in the executing thread. May cast the graph's values in place."""

    async def check(self, job_id: str, prompt: dict[str, Any], outputs: list[str] | None) -> Verdict:
        """The same for a frontend that asks, on the event loop, while another prompt may be running."""

    def interrupt(self) -> None:
        """Stop what runs as soon as a node heeds it; from any thread."""

    def set_flag(self, name: str, value: Any) -> None:
        """Set ``unload_models`` or ``free_memory``, to be heeded between two prompts."""

    # Memory; in the executing thread, between two prompts.

    def memory(self) -> Memory | None:
        """The memory of the device that prompts run on; None where nobody can tell."""

    def unload(self) -> None:
        """Give back what can be had again, such as loaded models."""

    def begin_measuring(self) -> None:
        """A prompt begins."""

    def peak(self) -> int | None:
        """The most bytes that the prompt took, without models that it did not use; None where nobody can tell."""

    # Events.

    def tell(self, event: str, data: Any, client: str | None = None) -> None:
        """Send something to the courier behind every event that was sent before; from any thread."""

    def message(self, event: str, data: Any) -> bytes:
        """The text that goes into a browser's socket for an event."""

    def announce_client(self, client: str | None, features: dict[str, Any]) -> None:
        """A prompt of this browser begins, which can do such things."""

    def forget_client(self, client: str | None) -> None:
        """The prompt of this browser has ended."""
