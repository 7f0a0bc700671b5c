"""The first prompt: from the nodes' definitions to an API prompt, and what the answers say."""

from __future__ import annotations

import json

import pytest

from comfyume.commands import first_prompt
from comfyume.commands.errors import CommandError
from comfyume.commands.source_tree import ROOT


def test_the_prompt_is_made_of_the_templates_nodes():
    template = json.loads((ROOT / "workflows" / "test-card.json").read_text(encoding="utf-8"))
    in_template = {node["type"] for node in template["nodes"]}
    prompt = first_prompt.test_card_prompt({"ComfyumeTestCard": {"input": {"required": {}}}})
    assert {node["class_type"] for node in prompt.values()} <= in_template


def test_inputs_have_the_defaults_of_the_definition():
    required = {"width": ["INT", {"default": 768}], "pattern": [["bars", "circle"]], "label": ["STRING", {}]}
    prompt = first_prompt.test_card_prompt({"ComfyumeTestCard": {"input": {"required": required}}})
    assert prompt["1"]["inputs"] == {"width": 768, "pattern": "bars", "label": ""}


def test_a_server_without_the_node_is_told_apart():
    with pytest.raises(CommandError, match="does not know the node ComfyumeTestCard"):
        first_prompt.test_card_prompt({})


@pytest.mark.parametrize(
    ("definition", "value"),
    [
        (["INT", {"default": 7}], 7),
        (["FLOAT", {}], 0.0),
        (["BOOLEAN"], False),
        (["COMBO", {"options": ["first", "second"]}], "first"),
        ([["first", "second"], {}], "first"),
    ],
)
def test_a_widgets_first_value(definition, value):
    assert first_prompt.default_value(definition) == value


def test_a_refusal_names_every_reason():
    answer = {
        "error": {"type": "prompt_outputs_failed_validation", "message": "Prompt outputs failed validation"},
        "node_errors": {"1": {"errors": [{"message": "Value too big", "details": "width: 5000 > 4096"}]}},
    }
    assert first_prompt.refusal(json.dumps(answer)) == "Prompt outputs failed validation; width: 5000 > 4096"


@pytest.mark.parametrize("text", ["Service Unavailable", '{"error": "the store is down"}', "[]"])
def test_a_refusal_in_another_form_is_shown_as_it_is(text):
    assert first_prompt.refusal(text) == text


def test_the_picture_is_the_first_of_the_history():
    image = {"filename": "a.png", "subfolder": "", "type": "output"}
    history = {"id": {"outputs": {"3": {"text": ["x"]}, "2": {"images": [image, {**image, "filename": "b.png"}]}}}}
    assert first_prompt.first_image(history, "id") == image


def test_a_history_without_a_picture_is_an_error():
    with pytest.raises(CommandError, match="names no picture"):
        first_prompt.first_image({"id": {"outputs": {}}}, "id")
