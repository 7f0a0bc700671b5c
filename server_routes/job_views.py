"""Jobs in the words of the API; see ``JobView`` in ``docs/openapi.yaml``."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator
from typing import Any

from ..job_queue.records import JobRecord
from .native_shapes import lost_data

#: What a file is by the word of the node that has made it, where its name does not say.
KINDS = {"images": "image", "gifs": "video", "video": "video", "videos": "video", "audio": "audio"}
MEDIA = ("image", "video", "audio")


def view_of(record: JobRecord, waits: dict[str, Any] | None = None) -> dict[str, Any]:
    """A job as people read it; ``waits`` is for what, while it does."""
    return {
        "id": record.job_id,
        "user": record.user,
        "name": record.name,
        "state": record.state,
        "number": record.number,
        "submitted": record.submitted,
        "started": record.started,
        "finished": record.finished,
        "worker": record.worker,
        "waits": waits,
        "error": _error_of(record.result),
        "files": list(files_of(record.result)),
    }


def files_of(result: dict[str, Any]) -> Iterator[dict[str, str]]:
    """The files that a job has made, by ComfyUI's three words for each, what it is, and the node it is from."""
    for node, outputs in (result.get("outputs") or {}).items():
        for word, entries in outputs.items() if isinstance(outputs, dict) else ():
            for file in entries if isinstance(entries, list) else ():
                if isinstance(file, dict) and isinstance(file.get("filename"), str):
                    name = file["filename"]
                    yield {
                        "filename": name,
                        "subfolder": str(file.get("subfolder") or ""),
                        "type": str(file.get("type") or "output"),
                        "media": _media_of(name, word),
                        "node": str(node),
                    }


def _media_of(name: str, word: str) -> str:
    kind = (mimetypes.guess_type(name)[0] or "").partition("/")[0]
    return kind if kind in MEDIA else KINDS.get(word, "other")


def _error_of(result: dict[str, Any]) -> dict[str, str] | None:
    """Why a job ended with an error; None for one that did not."""
    if "lost" in result:
        return _told(*lost_data(result["lost"]))
    for name, data in reversed((result.get("status") or {}).get("messages") or ()):
        if name == "execution_error":
            return _told(name, data)
    return None


def _told(name: str, data: dict[str, Any]) -> dict[str, str] | None:
    if name != "execution_error":
        return None
    words = ("exception_message", "node_id", "node_type")
    message, node_id, node_type = (str(data.get(word) or "").strip() for word in words)
    return {"message": message, "node_id": node_id, "node_type": node_type}
