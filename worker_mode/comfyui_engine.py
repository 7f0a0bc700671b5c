"""ComfyUI as the engine of a worker: its own executor and its own executing thread run the prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..comfyui_seams import (
    cache_keys,
    catalogue_export,
    devices,
    event_tap,
    executing,
    films,
    interrupts,
    memory,
    server,
    validation,
)
from ..comfyui_seams.answers import Memory, Verdict
from ..job_queue.catalogue import Catalogue


class ComfyUIEngine:
    """See ``Engine``. The ComfyUI of this process."""

    def __init__(self) -> None:
        executing.install()
        memory.install()
        cache_keys.install()

    async def offer(self) -> Catalogue:
        """See ``Engine``."""
        return await catalogue_export.export()

    def describe(self) -> dict[str, Any]:
        """See ``Engine``."""
        return devices.describe()

    def measure(self) -> dict[str, Any]:
        """See ``Engine``."""
        return memory.measure()

    def browser_files(self) -> dict[str, dict[str, Path]]:
        """See ``Engine``."""
        return catalogue_export.extension_files()

    def count_frames(self, file: Path) -> int:
        """See ``Engine``."""
        return films.count_frames(file)

    def model_metadata(self, folder: str, file: str) -> Any:
        """See ``Engine``."""
        return catalogue_export.model_metadata(folder, file)

    def check_now(self, job_id: str, prompt: dict[str, Any], outputs: list[str] | None) -> Verdict:
        """See ``Engine``."""
        return validation.validate_now(job_id, prompt, outputs)

    async def check(self, job_id: str, prompt: dict[str, Any], outputs: list[str] | None) -> Verdict:
        """See ``Engine``."""
        return await validation.validate(job_id, prompt, outputs)

    def interrupt(self) -> None:
        """See ``Engine``."""
        interrupts.interrupt_here()

    def set_flag(self, name: str, value: Any) -> None:
        """See ``Engine``."""
        server.set_flag(name, value)

    def memory(self) -> Memory | None:
        """See ``Engine``."""
        return memory.look()

    def unload(self) -> None:
        """See ``Engine``."""
        memory.unload()

    def begin_measuring(self) -> None:
        """See ``Engine``."""
        memory.begin_measuring()

    def peak(self) -> int | None:
        """See ``Engine``."""
        return memory.peak()

    def tell(self, event: str, data: Any, client: str | None = None) -> None:
        """See ``Engine``."""
        event_tap.send_in_order(event, data, client)

    def message(self, event: str, data: Any) -> bytes:
        """See ``Engine``."""
        return event_tap.message(event, data)

    def announce_client(self, client: str | None, features: dict[str, Any]) -> None:
        """See ``Engine``."""
        event_tap.announce_client(client, features)

    def forget_client(self, client: str | None) -> None:
        """See ``Engine``."""
        event_tap.forget_client(client)
