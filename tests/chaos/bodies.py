"""Bodies that somebody may post to ``/prompt``: large, deep, many, wrong, and what was never JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from comfyume.tests.harness import graphs

MB = 1_000_000
DEEP = 10_000
NODES = 100_000
#: As many as may pass.
MANY = 4_990


@dataclass(frozen=True)
class Body:
    """What is posted.

    Attributes:
        may_pass: whether it is a prompt like others, so that 200 is an answer too.
    """

    kind: str
    content: bytes
    may_pass: bool = False


def workflow(random: Random) -> Body:
    """A graph with the picture of a workflow of up to 50 MB, as the interface sends it along."""
    size = _size(random)
    one = {"id": 7, "pos": [1.5, 2.5], "size": [3, 4], "widgets_values": ["text", 1, True], "type": "KSampler"}
    nodes = [one] * (size // len(json.dumps(one)))
    return _prompt("a workflow of up to 50 MB", True, extra_data={"extra_pnginfo": {"workflow": {"nodes": nodes}}})


def huge_text(random: Random) -> Body:
    """A string of up to 50 MB as an input."""
    text = random.choice(("x", "ä", ",", "\n", "[")) * _size(random)
    return _prompt("a text of up to 50 MB", True, _image(filename_prefix=text))


def deep(random: Random) -> Body:
    """Lists or objects in each other, 10,000 deep, or as deep as Python's own reader goes."""
    depth = random.choice((DEEP, DEEP, 900))
    opening, closing = random.choice((("[", "]"), ('{"a":', "}")))
    value = opening * depth + "1" * (opening != "[") + closing * depth
    place = random.choice(('{"prompt": %s}', '{"prompt": {"1": %s}}', '{"prompt": {}, "extra_data": %s}'))
    if random.random() < 0.5:
        text = json.dumps({"prompt": _image(filename_prefix="AT")}).replace('"AT"', value)
        return Body(f"depth {depth}", text.encode(), depth < DEEP)
    return Body(f"depth {depth}", (place % value).encode(), depth < DEEP)


def no_number(random: Random) -> Body:
    """NaN and infinities, which are no JSON and which no browser reads, at any place."""
    value = random.choice(("NaN", "Infinity", "-Infinity", "1e999"))
    body = random.choice(
        (
            {"prompt": _image(color="AT")},
            {"prompt": _image(unknown="AT")},
            {"prompt": _image(), "extra_data": {"extra_pnginfo": {"workflow": {"zoom": "AT"}}}},
            {"prompt": _image(), "number": "AT"},
        )
    )
    return Body("NaN and infinities", json.dumps(body).replace('"AT"', value).encode())


def many_nodes(random: Random) -> Body:
    """100,000 nodes: side by side, each an output, or in one long row."""
    shape = random.choice(("apart", "outputs", "row"))
    count = random.choice((NODES, NODES, MANY))
    empty = graphs.image("x")["1"]
    if shape == "apart":
        graph = {**_image(), **{f"n{index}": empty for index in range(count)}}
    elif shape == "outputs":
        graph = {"1": empty} | {f"n{index}": graphs.node("PreviewImage", images=["1", 0]) for index in range(count)}
    else:
        graph = {"0": empty} | {
            str(index): graphs.node("ImageInvert", image=[str(index - 1), 0]) for index in range(1, count)
        }
        graph["out"] = graphs.node("PreviewImage", images=[str(count - 1), 0])
    return _prompt("up to 100,000 nodes", count < NODES, graph)


def many_values(random: Random) -> Body:
    """Up to 4 MB of next to nothing: lists, objects or numbers, of which each byte takes longest to read."""
    one: Any = random.choice(([], {}, 1, None))
    count = random.randint(400_000, 800_000)
    return _prompt("many small values", True, extra_data={"values": [one] * count})


def wrong_type(random: Random) -> Body:
    """A value of another type than ComfyUI expects, at a place that it looks at."""
    value = random.choice((None, True, 7, -1.5, "text", [], {}, [1, 2], {"a": [{}]}, [["1", 0]], 10**30, "10" * 3000))
    names = ("number", "front", "client_id", "extra_data", "partial_execution_targets", "prompt_id", "prompt")
    name = random.choice((*names, "node", "class_type", "inputs", "link"))
    body: dict[str, Any] = {"prompt": _image()}
    if name in names:
        body[name] = value
    elif name == "node":
        body["prompt"]["1"] = value
    elif name == "link":
        body["prompt"]["2"]["inputs"]["images"] = value
    else:
        body["prompt"]["1"][name] = value
    return Body("wrong types", json.dumps(body).encode(), may_pass=True)


def no_json(random: Random) -> Body:
    """What never was JSON, or is no longer."""
    whole = json.dumps({"prompt": _image()}).encode()
    return Body(
        "no JSON",
        random.choice(
            (
                b"",
                b"\0" * 1_000,
                random.randbytes(100_000),
                whole[: random.randrange(1, len(whole))],
                whole.replace(b"EmptyImage", b"\xff\xfe"),
                b"[" * MB,
                b'{"number": ' + b"9" * 10_000 + b', "prompt": {}}',
            )
        ),
    )


KINDS: tuple[Callable[[Random], Body], ...] = (
    workflow,
    huge_text,
    deep,
    no_number,
    many_nodes,
    many_values,
    wrong_type,
    no_json,
)


def _size(random: Random) -> int:
    """Bytes: half of the bodies are of a size that may pass."""
    return random.randint(100, 4_500) * 1_000 if random.random() < 0.5 else random.randint(1, 50) * MB


def _image(**changes: Any) -> dict[str, Any]:
    graph = graphs.image("sizes")
    for name, value in changes.items():
        graph["2" if name == "filename_prefix" else "1"]["inputs"][name] = value
    return graph


def _prompt(kind: str, may_pass: bool, graph: Any = None, **more: Any) -> Body:
    return Body(kind, json.dumps({"prompt": graph or _image(), **more}).encode(), may_pass)
