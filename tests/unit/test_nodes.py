"""What the nodes draw and how they wait, without ComfyUI. That ComfyUI runs them is tested in acceptance."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from comfyume.comfyume_nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from comfyume.comfyume_nodes.testcard import MAX_SEED, sleep_until
from comfyume.comfyume_nodes.testcard_drawing import LABEL_CHARACTERS, draw_card, printable, unfinished


class Cancelled(BaseException):
    """Stands for ComfyUI's interrupt, which is no ``Exception`` either."""


def difference(one, other) -> float:
    """Mean difference of two pictures, 0 to 255."""
    return float(np.abs(np.asarray(one, dtype=np.float32) - np.asarray(other, dtype=np.float32)).mean())


def test_every_node_has_a_name_for_people():
    assert NODE_DISPLAY_NAME_MAPPINGS.keys() == NODE_CLASS_MAPPINGS.keys()


@pytest.mark.parametrize("node", NODE_CLASS_MAPPINGS.values(), ids=NODE_CLASS_MAPPINGS.keys())
def test_every_node_explains_itself_and_each_input(node):
    assert node.DESCRIPTION
    assert node.CATEGORY == "comfyume"
    assert callable(getattr(node, node.FUNCTION))
    for name, (_type, options) in node.INPUT_TYPES()["required"].items():
        assert options["tooltip"], name


def test_the_worker_name_is_never_taken_from_cache():
    assert math.isnan(NODE_CLASS_MAPPINGS["ComfyumeWorkerName"].IS_CHANGED())


@pytest.mark.parametrize("size", [(64, 64), (768, 512), (520, 1000), (4096, 64), (64, 4096), (2048, 1544)])
def test_a_card_has_exactly_the_size_asked_for(size):
    assert draw_card(*size, seed=1, label="size").size == size


def test_the_same_seed_and_label_give_the_same_picture():
    assert draw_card(256, 192, 5, "Ada").tobytes() == draw_card(256, 192, 5, "Ada").tobytes()


@pytest.mark.parametrize("seed", [0, 1, 41, 10_006, MAX_SEED - 1])
def test_neighbouring_seeds_are_told_apart_at_a_glance(seed):
    assert difference(draw_card(256, 192, seed, "x"), draw_card(256, 192, seed + 1, "x")) > 20


def test_the_label_is_on_the_picture():
    assert draw_card(256, 192, 5, "Ada").tobytes() != draw_card(256, 192, 5, "Bob").tobytes()


@pytest.mark.parametrize(
    ("label", "line"),
    [
        ("Jürgen Müller", "Jurgen Muller"),
        ("Strauß & Ørsted", "Strauss & Orsted"),
        ("  two\nlines\t", "two lines"),
        ("東京", ""),
        ("", ""),
    ],
)
def test_a_label_becomes_one_line_that_every_worker_draws_alike(label, line):
    assert printable(label) == line


def test_a_long_label_is_cut():
    assert printable("x" * 10_000) == "x" * LABEL_CHARACTERS


def test_a_card_gets_nearer_to_the_finished_one_with_each_step():
    card = draw_card(256, 192, 9, "steps")
    left = [difference(unfinished(card, step / 8, seed=9), card) for step in range(9)]
    assert left == sorted(left, reverse=True)
    assert left[0] > 40
    assert left[-1] == 0


def test_waiting_ends_at_the_deadline():
    start = time.monotonic()
    sleep_until(start + 0.1, lambda: None)
    assert 0.1 <= time.monotonic() - start < 0.3


def test_waiting_looks_for_an_interrupt_even_when_the_deadline_is_past():
    def raise_cancelled():
        raise Cancelled

    with pytest.raises(Cancelled):
        sleep_until(time.monotonic() - 1, raise_cancelled)


def test_an_interrupt_ends_a_long_wait_at_once():
    start = time.monotonic()

    def raise_after_a_moment():
        if time.monotonic() - start > 0.1:
            raise Cancelled

    with pytest.raises(Cancelled):
        sleep_until(start + 60, raise_after_a_moment)
    assert time.monotonic() - start < 0.2
