"""What the seams answer, in types that need no ComfyUI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """ComfyUI's answer: whether anything can run, its error, the output nodes that can, the errors of each node."""

    valid: bool
    error: Any
    outputs: list[str]
    node_errors: dict[str, Any]

    def as_tuple(self) -> tuple[bool, Any, list[str], dict[str, Any]]:
        """The form in which ComfyUI passes it on."""
        return (self.valid, self.error, self.outputs, self.node_errors)

    def first_problem(self) -> tuple[str, str]:
        """The first node that is wrong (or an empty string) and a sentence that says what is."""
        for node_id, problem in self.node_errors.items():
            for error in problem.get("errors", []):
                return node_id, f"{error['message']}: {error['details']}"
        error = self.error or {}
        node_id = str((error.get("extra_info") or {}).get("node_id", ""))
        return node_id, f"{error.get('message', 'Invalid prompt')} {error.get('details', '')}".strip()


@dataclass(frozen=True)
class Memory:
    """The memory of one device, in bytes.

    Attributes:
        free: what nobody has.
        reclaimable: what the engine holds and gives back on demand, such as models that it keeps loaded.
        source: who says so, for the log.
    """

    total: int
    free: int
    reclaimable: int
    source: str
