"""Names of models: a folder of ComfyUI's ``models``, and a file in it. What graphs say is not trusted."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from .errors import KindRefused, UnsafeModelName

#: How the names of model files end.
ENDINGS = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx")
SAFETENSORS = (".safetensors", ".sft")
#: Python's pickles, which can run programs.
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
#: What folders were called before; ComfyUI looks into both.
FORMER = {"clip": "text_encoders", "unet": "diffusion_models"}
#: Folders that ComfyUI knows beside the models.
NO_MODELS = frozenset({"custom_nodes", "configs", "datasets"})
LONGEST = 255


def is_model(name: str) -> bool:
    """Whether a name is that of a model's file."""
    return name.lower().endswith(ENDINGS)


def plain(name: str) -> str:
    """A name with ``/`` between folders: a graph saved on Windows has other ones."""
    return name.replace("\\", "/")


def current(folder: str) -> str:
    """The name that a model folder has now."""
    return FORMER.get(folder, folder)


def checked(folder: str, name: str) -> tuple[str, str]:
    """A folder and a file's name, of which neither leads elsewhere.

    Raises:
        UnsafeModelName: one of them does, or is none.
    """
    parts = PurePosixPath(name).parts
    safe = (
        re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", folder)
        and folder not in NO_MODELS
        and is_model(name)
        and "/".join(parts) == name
        and len(parts) <= 8
        and all(part.isprintable() and len(part.encode()) <= LONGEST and not part.startswith(".") for part in parts)
        and not set(name) & set('\\:*?"<>|')
    )
    if not safe:
        raise UnsafeModelName(folder, name)
    return current(folder), name


def check_kind(folder: str, name: str, *, allow_pickles: bool) -> None:
    """See that a file is of a kind that is allowed.

    Raises:
        KindRefused: it is none.
    """
    if not allow_pickles and not name.lower().endswith(SAFETENSORS):
        raise KindRefused(folder, name, pickle=name.lower().endswith(PICKLES))
