"""The graphs that the browser tests open, as the interface saves them."""

from __future__ import annotations

from typing import Any

Graph = dict[str, Any]

SAVE_NODE = 2


def _node(number: int, kind: str, at: tuple[int, int], size: tuple[int, int], **parts: Any) -> Graph:
    given = {"inputs": [], "outputs": [], "widgets_values": [], **parts}
    return {"id": number, "type": kind, "pos": list(at), "size": list(size), "flags": {}, "order": number, **given} | {
        "mode": 0,
        "properties": {"Node name for S&R": kind},
    }


def _socket(name: str, kind: str, link: int | None = None) -> Graph:
    return {"name": name, "type": kind, "link": link}


def _out(kind: str, *links: int) -> Graph:
    return {"name": kind, "type": kind, "links": list(links)}


def _graph(nodes: list[Graph], links: list[list[Any]]) -> Graph:
    return {
        "last_node_id": len(nodes),
        "last_link_id": len(links),
        "nodes": nodes,
        "links": links,
        "groups": [],
        "config": {},
        "extra": {"ds": {"scale": 1, "offset": [0, 0]}},
        "version": 0.4,
    }


def _to_file(maker: Graph, prefix: str, *others: Graph) -> Graph:
    save = _node(
        SAVE_NODE, "SaveImage", (560, 160), (400, 400), inputs=[_socket("images", "IMAGE", 1)], widgets_values=[prefix]
    )
    return _graph([maker, save, *others], [[1, maker["id"], 0, SAVE_NODE, 0, "IMAGE"]])


def slow(seconds: float, *, prefix: str, shade: int = 100) -> Graph:
    """A node that takes its time, one that takes half a second, their file, and a node that has ended long before."""
    maker = _node(
        1, "BrowserSlowPicture", (120, 160), (360, 360), outputs=[_out("IMAGE", 2)], widgets_values=[seconds, shade]
    )
    name = _node(3, "BrowserAnnouncement", (120, 600), (360, 120), widgets_values=["already done"])
    look = _node(
        4,
        "BrowserSlowLook",
        (560, 600),
        (240, 60),
        inputs=[_socket("image", "IMAGE", 2)],
        outputs=[_out("IMAGE", 1)],
    )
    graph = _to_file(look, prefix, maker, name)
    graph["links"].append([2, 1, 0, 4, 0, "IMAGE"])
    graph["last_node_id"] = 4
    graph["last_link_id"] = 2
    return graph


def failing(text: str) -> Graph:
    """A node that raises an error with this text."""
    maker = _node(1, "BrowserFailingPicture", (120, 160), (360, 120), outputs=[_out("IMAGE", 1)], widgets_values=[text])
    return _to_file(maker, "never")


def impossible(checkpoint: str) -> Graph:
    """A node that names a checkpoint (1), and one whose input is missing (5); both lead to outputs."""
    nodes = [
        _node(
            1,
            "CheckpointLoaderSimple",
            (120, 160),
            (320, 100),
            outputs=[_out("MODEL"), _out("CLIP"), _out("VAE", 1)],
            widgets_values=[checkpoint],
        ),
        _node(3, "EmptyLatentImage", (120, 340), (320, 110), outputs=[_out("LATENT", 2)], widgets_values=[64, 64, 1]),
        _node(
            4,
            "VAEDecode",
            (520, 160),
            (200, 60),
            inputs=[_socket("samples", "LATENT", 2), _socket("vae", "VAE", 1)],
            outputs=[_out("IMAGE", 3)],
        ),
        _node(2, "PreviewImage", (780, 160), (260, 260), inputs=[_socket("images", "IMAGE", 3)]),
        _node(5, "SaveImage", (780, 500), (260, 90), inputs=[_socket("images", "IMAGE")], widgets_values=["never"]),
    ]
    return _graph(nodes, [[1, 1, 2, 4, 1, "VAE"], [2, 3, 0, 4, 0, "LATENT"], [3, 4, 0, 2, 0, "IMAGE"]])
