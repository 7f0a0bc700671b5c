"""How jobs end, in the shapes of ComfyUI's status and events."""

from __future__ import annotations

import time
from typing import Any


def final_state(status: dict[str, Any]) -> str:
    """The state in which ComfyUI's status leaves a job."""
    if status["completed"]:
        return "done"
    return "cancelled" if any(name == "execution_interrupted" for name, _ in status["messages"]) else "error"


def count_files(outputs: dict[str, Any]) -> int:
    """How many files a job has made, by the outputs of its nodes. Those for the moment do not count."""
    return sum(
        isinstance(file, dict) and "filename" in file and file.get("type") == "output"
        for node in outputs.values()
        for entries in (node.values() if isinstance(node, dict) else ())
        for file in (entries if isinstance(entries, list) else ())
    )


def failed_status(messages: list[Any], event: str, data: dict[str, Any]) -> dict[str, Any]:
    """ComfyUI's status of a job that ended with this event."""
    return {"status_str": "error", "completed": False, "messages": [*messages, [event, data]]}


def now_ms() -> int:
    """Milliseconds as ComfyUI stamps its events."""
    return int(time.time() * 1000)


def timed_out_data(data: dict[str, Any], seconds: float) -> dict[str, Any]:
    """ComfyUI's event of an interrupt as that of an error."""
    return {
        **data,
        "exception_message": f"timed out: the prompt ran for more than {seconds:g} s, which is as long as one may here "
        "(COMFYUME_JOB_TIMEOUT).",
        "exception_type": "comfyume.TimedOut",
        "traceback": [],
        "current_inputs": {},
        "current_outputs": [],
        "timestamp": now_ms(),
    }


def timed_out_status(status: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The status of a job that was interrupted since it ran for too long; that of one which ended by itself stays."""
    messages = [
        ["execution_error", timed_out_data(data, seconds)] if name == "execution_interrupted" else [name, data]
        for name, data in status["messages"]
    ]
    return {**status, "messages": messages}


def undelivered_status(job_id: str, status: dict[str, Any], error: Exception) -> dict[str, Any]:
    """The status of a job that ran, but whose results did not arrive: an error, never a success without its files."""
    messages = [entry for entry in status["messages"] if entry[0] != "execution_success"]
    data = {
        "prompt_id": job_id,
        "node_id": "",
        "node_type": "",
        "executed": [],
        "exception_message": f"The prompt ran, but its results could not be brought back. {error}",
        "exception_type": "comfyume.ResultsNotDelivered",
        "traceback": [],
        "current_inputs": {},
        "current_outputs": [],
        "timestamp": now_ms(),
    }
    return failed_status(messages, "execution_error", data)
