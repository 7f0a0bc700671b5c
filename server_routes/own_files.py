"""Whether a file that a request names lies in the person's own folders, wherever links in them lead.

ComfyUI compares how addresses are written, which a link in a folder gets round.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aiohttp.web_request import FileField

from ..blobs.filing import is_below
from ..comfyui_seams.context import Folders

KINDS = ("input", "output", "temp")


class NotOwn(Exception):
    """A request names something that is not in the person's folders."""


def check_view(query: Mapping[str, str], folders: Folders) -> None:
    """Look at what ``/view`` asks for.

    Raises:
        NotOwn: it is elsewhere.
    """
    name, subfolder = query.get("filename", ""), query.get("subfolder", "")
    if name.startswith("blake3:"):
        # By content, whosever it is.
        raise NotOwn
    # As written: the system follows a link before it goes up from there.
    _check(
        folders,
        name,
        query.get("type", "output"),
        lambda root, bare: os.path.join(root, subfolder, os.path.basename(bare)),
    )


def check_upload(post: Mapping[str, Any], folders: Folders) -> None:
    """Look at where an upload goes, and at the picture whose mask it is.

    Raises:
        NotOwn: it is elsewhere.
    """
    image = post.get("image")
    name = image.filename if isinstance(image, FileField) else ""
    kind, subfolder = _text(post.get("type")) or "input", _text(post.get("subfolder"))
    root = dict(folders).get(kind)
    path = os.path.join(str(root), os.path.normpath(subfolder), name)
    if root is not None and not is_below(path, root):
        raise NotOwn
    try:
        original = json.loads(_text(post.get("original_ref")) or "{}")
    except ValueError:
        # The handler will say what is wrong with it.
        return
    if isinstance(original, dict) and original.get("filename"):
        below = str(original.get("subfolder", ""))
        _check(
            folders,
            str(original["filename"]),
            str(original.get("type", "output")),
            lambda root, bare: os.path.join(root, below, bare),
        )


def own_entries(listing: Sequence[Any], folder: Path) -> list[Any]:
    """What of ComfyUI's list of a folder, in any of its shapes, lies in it; blocking.

    A link in it may lead elsewhere, and the list follows it.
    """

    def name_of(entry: Any) -> str:
        if isinstance(entry, dict):
            return str(entry["path"])
        # Split up, the whole comes first.
        return str(entry[0] if isinstance(entry, list) else entry)

    return [entry for entry in listing if is_below(os.path.join(folder, name_of(entry)), folder)]


def check_preview(name: str) -> None:
    """Look at which model's preview is asked for; older ComfyUI looks at nothing.

    Raises:
        NotOwn: it is none below a folder of models.
    """
    if name.startswith("/") or not is_plain(name):
        raise NotOwn


def _check(folders: Folders, name: str, kind: str, path_of: Callable[[str, str], str]) -> None:
    # As ComfyUI's annotated_filepath has it.
    for annotated in ("output", "input", "temp"):
        if name.endswith(f"[{annotated}]"):
            kind, name = annotated, name[: -len(annotated) - 3]
            break
    if kind not in KINDS or not name:
        # There is no such folder or file, as the handler will say.
        return
    root = str(dict(folders)[kind])
    path = path_of(root, name)
    if not is_below(path, root):
        raise NotOwn


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def is_plain(path: str) -> bool:
    """Whether an address, decoded, has no part that means another folder, on any system."""
    return "\0" not in path and "\\" not in path and "//" not in path and not {".", ".."} & set(path.split("/"))
