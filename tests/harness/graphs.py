"""Graphs for tests, in the form that ``/prompt`` takes. Nodes named ``Cfm...`` are those of ``tests/node_packs``."""

from __future__ import annotations

import itertools
import uuid
from pathlib import Path
from typing import Any

from .package import ROOT

Graph = dict[str, Any]
PACK = ROOT / "tests" / "node_packs" / "cfm_pack"
SECOND_PACK = ROOT / "tests" / "node_packs" / "cfm_second"

_numbers = itertools.count(1 + uuid.uuid4().int % 1_000_000_000)


def number() -> int:
    """A number that no other graph of this run has, so that no cache answers for the node."""
    return next(_numbers)


def name(word: str = "t") -> str:
    """A file name prefix that no other test has."""
    return f"{word}{uuid.uuid4().hex[:8]}"


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    """One node."""
    return {"class_type": class_type, "inputs": inputs}


def image(prefix: str, *, color: int = 0, batch: int = 1, size: int = 16, save: str = "SaveImage") -> Graph:
    """A plain picture, saved."""
    inputs = {"filename_prefix": prefix} if save == "SaveImage" else {}
    return {
        "1": node("EmptyImage", width=size, height=size, batch_size=batch, color=color),
        "2": node(save, images=["1", 0], **inputs),
    }


def gated(path: Path | str, prefix: str | None = None) -> Graph:
    """A picture that is saved once the file ``path`` exists; until then the job runs, and can be interrupted."""
    return {
        "1": node("CfmGate", path=str(path), number=number()),
        "2": node("SaveImage", images=["1", 0], filename_prefix=prefix or name("gated")),
    }


def load(file: str, prefix: str | None = None) -> Graph:
    """An image of the person's, loaded and saved again."""
    return {
        "1": node("LoadImage", image=file),
        "2": node("SaveImage", images=["1", 0], filename_prefix=prefix or name("loaded")),
    }


def write_file(file: str, mebibytes: int, *, declare: bool = True) -> Graph:
    """A file of a size, written into the output folder."""
    return {"1": node("CfmWriteFile", name=file, mebibytes=mebibytes, declare=declare, number=number())}


def read_text(file: str) -> Graph:
    """What is in a text file of the input folder, shown by node 2."""
    return {"1": node("CfmReadText", file=file), "2": node("PreviewAny", source=["1", 0])}


def failing() -> Graph:
    """A node that raises."""
    return {"1": node("CfmFail", number=number()), "2": node("PreviewImage", images=["1", 0])}
