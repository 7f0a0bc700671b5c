"""Jobs in the shapes that ComfyUI's handlers and pages know."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from ..comfyui_seams.context import QueueItem
from ..job_queue.errors import LimitReached, NoRoom
from ..job_queue.jobs import StoredJob

#: Answered with status 503 when the store is away.
STORE_AWAY = "The workshop's store does not answer, so nothing was changed. Try again in a moment."


def queue_item(job_id: str, job: StoredJob) -> QueueItem:
    """An entry of ComfyUI's queue; secrets are never read back."""
    payload = job.payload
    return (job.number, job_id, payload["prompt"], payload["extra_data"], payload["outputs"], {})


def history_entry(job_id: str, job: StoredJob) -> dict[str, Any]:
    """An entry of ComfyUI's history."""
    payload = job.payload
    prompt = [job.number, job_id, payload.get("prompt", {}), payload["extra_data"], payload.get("outputs", [])]
    result = job.result or {}
    if "lost" in result:
        name, data = lost_data(result["lost"])
        status = {"status_str": "error", "completed": False, "messages": [[name, data]]}
        return {"prompt": prompt, "outputs": {}, "status": status, "meta": {}}
    return {"prompt": prompt, "outputs": result["outputs"], "status": result["status"], "meta": result["meta"]}


def lost_data(story: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """ComfyUI's event for a job that ended without its worker's word."""
    data: dict[str, Any] = {
        "prompt_id": story["job"],
        "node_id": story["losses"][-1]["node"],
        "node_type": "",
        "executed": [],
        "timestamp": story["timestamp"],
    }
    if story["state"] == "cancelled":
        return "execution_interrupted", data
    data |= {
        "exception_message": loss_message(story["losses"]),
        "exception_type": "comfyume.WorkerLost",
        "traceback": [],
        "current_inputs": {},
        "current_outputs": [],
    }
    return "execution_error", data


def loss_message(losses: Sequence[dict[str, Any]]) -> str:
    """What became of a job that was given up: which workers were lost with it, when, and at which node."""
    parts = []
    for loss in losses:
        moment = time.strftime("%H:%M:%S", time.localtime(loss["at"] / 1000))
        place = f" at node {loss['node']}" if loss["node"] else " before any node ran"
        parts.append(f"{loss['worker']} at {moment}{place}")
    return (
        f"The prompt was given up, since each of the {len(losses)} workers that ran it was lost: {'; '.join(parts)}. "
        "It may be what ends them. Run it again to have it tried anew."
    )


def lost_event(story: dict[str, Any]) -> tuple[str, str, bytes]:
    """The job's id, the name of its last event, and that event as it goes into a socket."""
    name, data = lost_data(story)
    return story["job"], name, json.dumps({"type": name, "data": data}).encode()


def error_answer(
    status: int, kind: str, message: str, details: str = "", *, retry_after: float | None = None
) -> web.Response:
    """An answer that is an error, in ComfyUI's shape.

    Args:
        retry_after: seconds until the same request may be sent again.
    """
    headers = {} if retry_after is None else {"Retry-After": str(math.ceil(retry_after))}
    return web.json_response(error_body(kind, message, details), status=status, headers=headers)


def limit_answer(error: LimitReached) -> web.Response:
    """An answer to who is over a limit."""
    if not isinstance(error, NoRoom):
        return error_answer(429, f"limit_{error.limit}", str(error), retry_after=error.retry_after)
    response = error_answer(413, f"limit_{error.limit}", str(error))
    # Of an upload that failed the page shows the status line alone.
    response.set_status(413, "Your files take all the space that one person may use here")
    return response


def error_body(kind: str, message: str, details: str = "") -> dict[str, Any]:
    """ComfyUI's shape of an error to ``/prompt``."""
    return {"error": {"type": kind, "message": message, "details": details, "extra_info": {}}, "node_errors": {}}


def json_of(response: web.StreamResponse) -> Any:
    """What a handler of ComfyUI answered as JSON; None where it is none, or an error."""
    return body_as_json(response) if response.status == 200 else None


def body_as_json(response: web.StreamResponse) -> Any:
    """The body of an answer, also of an error; None where it is no JSON."""
    if not isinstance(response, web.Response) or not isinstance(response.body, bytes):
        return None
    try:
        return json.loads(response.body)
    except ValueError:
        return None
