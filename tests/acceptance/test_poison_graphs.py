"""Graphs over which ComfyUI's executing thread stumbles, instead of the node: none of them may stop a worker."""

from __future__ import annotations

import pytest

from comfyume.tests.harness import graphs
from comfyume.tests.harness.client import Client, RequestRefused, wait_until
from comfyume.tests.harness.graphs import Graph, node

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]

#: Seconds that such a prompt, or the next one, may take.
PATIENCE = 15.0
# ComfyUI's validation looks at the inputs that a node declares; its executor follows links of any name.
POISON: dict[str, Graph] = {
    "a link to a node that is not there": {"1": node("PreviewAny", source="x", extra=["9", 0])},
    "a link to a node without inputs": {
        "1": node("PreviewAny", source="x", extra=["2", 0]),
        "2": {"class_type": "PreviewAny"},
    },
    "a chain that is too long": {
        "1": node("PreviewAny", source="x", extra=["2", 0]),
        **{str(number): node("PreviewAny", source="x", extra=[str(number + 1), 0]) for number in range(2, 3000)},
        "3000": node("PreviewAny", source="x"),
    },
}


def test_graphs_that_cannot_be_executed_are_refused_or_end_and_the_next_one_runs(client: Client) -> None:
    endings = {what: ending_of(client, graph) for what, graph in POISON.items()}
    endings["a graph that is right"] = ending_of(client, graphs.image("next", color=graphs.number() % 2**24))
    assert endings == {**dict.fromkeys(POISON, "error"), "a graph that is right": "success"}


def ending_of(client: Client, graph: Graph) -> str:
    """What became of a prompt: ``error`` also if it was refused."""
    try:
        job = client.submit(graph)
    except RequestRefused as refused:
        return "error" if refused.status == 400 else str(refused)
    try:
        client.wait(job, PATIENCE)
    except TimeoutError:
        return "it does not end"
    entry = wait_until(lambda: client.history(job))[job]
    return str(entry["status"]["status_str"])
