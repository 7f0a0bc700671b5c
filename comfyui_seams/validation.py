"""Seam: ``execution.validate_prompt``, ComfyUI's check of a graph before it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import execution

_validate_here = execution.validate_prompt


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


def validate_now(prompt_id: str, prompt: dict[str, Any], outputs: list[str] | None) -> Verdict:
    """Check a graph in a thread that has no event loop.

    ComfyUI's check is a coroutine that waits for nothing unless a node's own check is one. So it is run without a loop
    first, which takes half the time. What it finds wrong then may be the missing loop, and is checked again with one;
    that does no harm, since the check changes nothing but the types of values.
    """
    coroutine = validate(prompt_id, prompt, outputs)
    try:
        coroutine.send(None)
    except StopIteration as done:
        verdict: Verdict = done.value
        if verdict.valid:
            return verdict
    finally:
        coroutine.close()
    return asyncio.run(validate(prompt_id, prompt, outputs))


async def validate(prompt_id: str, prompt: dict[str, Any], outputs: list[str] | None) -> Verdict:
    """Check a graph with the nodes of this process; casts its values in place, as ComfyUI does."""
    return Verdict(*await _validate_here(prompt_id, prompt, outputs))


def install(check: Callable[[str, dict[str, Any], list[str] | None], Awaitable[Verdict]]) -> None:
    """Let ``/prompt`` ask this check instead of ComfyUI's own."""

    async def validate_prompt(prompt_id: str, prompt: dict[str, Any], partial_execution_list: list[str] | None) -> Any:
        return (await check(prompt_id, prompt, partial_execution_list)).as_tuple()

    execution.validate_prompt = validate_prompt
