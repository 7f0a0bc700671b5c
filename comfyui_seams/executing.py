"""Seam: ``PromptExecutor.execute``, which is to end with the prompt's error, and not with the thread that runs prompts.

ComfyUI catches what a node raises. What its own preparations raise leaves ``execute`` and ends the one executing
thread: a link of an undeclared input to a node that is not there passes validation, and does that.
"""

from __future__ import annotations

import logging
import traceback
from typing import Any

from comfy.model_management import InterruptProcessingException
from execution import PromptExecutor

log = logging.getLogger("comfyume")


def install() -> None:
    """Let a prompt over which ComfyUI itself stumbles end with an error, like one whose node fails."""
    execute = PromptExecutor.execute

    def execute_or_tell(
        self: Any, prompt: Any, prompt_id: str, extra_data: Any = None, execute_outputs: Any = ()
    ) -> None:
        try:
            execute(self, prompt, prompt_id, extra_data or {}, list(execute_outputs))
        except Exception as error:
            log.exception("[comfyume] ComfyUI cannot execute job %s", prompt_id)
            _tell(self, prompt, prompt_id, list(execute_outputs), error)

    PromptExecutor.execute = execute_or_tell


def _tell(executor: Any, prompt: dict[str, Any], prompt_id: str, outputs: list[str], error: Exception) -> None:
    told = executor.status_messages
    # Its caches may be half made for this graph.
    executor.reset()
    executor.status_messages = told
    executor.success = False
    executor.history_result = {"outputs": {}, "meta": {}}
    node = next((name for name in (executor.server.last_node_id, *outputs) if name in prompt), None)
    data: dict[str, Any] = {
        "prompt_id": prompt_id,
        "node_id": node,
        "node_type": prompt[node].get("class_type", "") if node is not None else "",
        "executed": [],
    }
    executor.server.last_node_id = None
    if isinstance(error, InterruptProcessingException):
        executor.add_message("execution_interrupted", data, broadcast=True)
        return
    data |= {
        "exception_message": f"ComfyUI cannot execute this graph: {_reason(error)}",
        "exception_type": type(error).__name__,
        "traceback": traceback.format_exception(error)[-20:],
        "current_inputs": {},
        "current_outputs": [],
    }
    executor.add_message("execution_error", data, broadcast=False)


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "its chain of nodes is too long."
    return f"{type(error).__name__}: {error}"[:500]
