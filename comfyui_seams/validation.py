"""Seam: ``execution.validate_prompt``, ComfyUI's check of a graph before it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import execution

from .answers import Verdict

_validate_here = execution.validate_prompt


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
