"""The template graphs and the nodes in them, against the real ComfyUI: valid in it, and the test card runs."""

from __future__ import annotations

import io
import json
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from comfyume.settings import default_worker_id
from comfyume.tests.harness.client import Client, Event
from comfyume.tests.harness.discovery import ComfyInstall
from comfyume.tests.harness.processes import ComfyProcess

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(ROOT.glob("workflows/*.json"))}
MODEL_TEMPLATES = [name for name in TEMPLATES if name != "test-card"]
NOTES = {"Note", "MarkdownNote"}
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3"}
PREVIEW_IMAGE, TEXT = "1", "3"

NODES_ONLY = """
import importlib, sys, types
package = types.ModuleType("comfyume")
package.__path__ = [{root!r}]
sys.modules["comfyume"] = package
nodes = importlib.import_module("comfyume.comfyume_nodes")
NODE_CLASS_MAPPINGS = nodes.NODE_CLASS_MAPPINGS
NODE_DISPLAY_NAME_MAPPINGS = nodes.NODE_DISPLAY_NAME_MAPPINGS
"""


@pytest.fixture(scope="module")
def server(comfyui: ComfyInstall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyProcess]:
    """One ComfyUI that has our nodes and nothing else of the extension: the templates are about ComfyUI itself."""
    folder = tmp_path_factory.mktemp(f"templates-{comfyui.label}")
    pack = folder / "nodes_only"
    pack.mkdir()
    (pack / "__init__.py").write_text(NODES_ONLY.format(root=str(ROOT)), encoding="utf-8")
    with ComfyProcess(comfyui, folder / "base", mode="vanilla", node_packs=[pack]) as running:
        yield running


@pytest.fixture
def client(server: ComfyProcess) -> Iterator[Client]:
    """One browser on that ComfyUI."""
    with Client(server.address) as browser:
        yield browser


@pytest.fixture(params=TEMPLATES)
def template(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Each template graph in turn."""
    return TEMPLATES[request.param]


@dataclass(frozen=True)
class Input:
    """One input of a node as ``/object_info`` declares it; ``type`` is COMBO for every kind of list."""

    name: str
    type: str
    options: dict[str, Any]
    required: bool

    @property
    def is_widget(self) -> bool:
        return self.type in WIDGETS or "widgetType" in self.options

    @property
    def choices(self) -> list[Any]:
        """What a list lets a person choose."""
        return [choice["key"] if isinstance(choice, dict) else choice for choice in self.options["options"]]


def declared_inputs(definition: dict[str, Any]) -> list[Input]:
    """The inputs of a node's definition, in the order in which the interface makes their widgets."""
    inputs = []
    for section in ("required", "optional"):
        for name in definition["input_order"].get(section, []):
            kind, *options = definition["input"][section][name]
            options = dict(options[0]) if options else {}
            if isinstance(kind, list):
                kind, options = "COMBO", {**options, "options": kind}
            inputs.append(Input(name, kind, options, section == "required"))
    return inputs


def widget_values(node: dict[str, Any], definition: dict[str, Any]) -> dict[str, Any]:
    """Name a node's ``widgets_values`` as the interface does when it loads the graph."""
    values = iter(node["widgets_values"])
    named = {}
    for declared in declared_inputs(definition):
        if not declared.is_widget:
            continue
        value = next(values, None)
        assert value is not None or not declared.required, f"{node['type']} has no value for {declared.name}"
        if value is None:
            continue
        named[declared.name] = value
        if declared.type == "COMFY_DYNAMICCOMBO_V3":
            chosen = next(option for option in declared.options["options"] if option["key"] == value)
            assert not chosen["inputs"].get("required"), "a choice that brings widgets of its own is not converted here"
        if declared.options.get("control_after_generate"):
            assert next(values) in ("fixed", "increment", "decrement", "randomize")
    assert not list(values), f"{node['type']} has more values than widgets"
    return named


def nodes_that_run(graph: dict[str, Any]) -> list[dict[str, Any]]:
    """The nodes but for the notes; the templates bypass and mute none, and need neither reroutes nor subgraphs."""
    assert {node["mode"] for node in graph["nodes"]} == {0}
    return [node for node in graph["nodes"] if node["type"] not in NOTES]


def to_prompt(graph: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Convert an interface graph to the prompt that the interface would queue."""
    sources = {link[0]: [str(link[1]), link[2]] for link in graph["links"]}
    prompt = {}
    for node in nodes_that_run(graph):
        inputs = widget_values(node, definitions[node["type"]])
        inputs |= {slot["name"]: sources[slot["link"]] for slot in node["inputs"] if slot["link"] is not None}
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def declared_models(graph: dict[str, Any]) -> dict[str, str]:
    """Model file names of a graph and the folder of each."""
    models = [model for node in graph["nodes"] for model in node["properties"].get("models", [])]
    return {model["name"]: model["directory"] for model in models}


@contextmanager
def model_files(server: ComfyProcess, graph: dict[str, Any]) -> Iterator[None]:
    """Let the graph's model files be there, empty, in the folders that the graph says and in no other."""
    files = [server.base / "models" / folder / name for name, folder in declared_models(graph).items()]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    yield
    for file in files:
        file.unlink()


def is_valid(value: Any, declared: Input) -> bool:
    """Say whether a person could have set a widget to this value."""
    if declared.type in ("COMBO", "COMFY_DYNAMICCOMBO_V3"):
        return value in declared.choices
    if declared.type == "STRING":
        return isinstance(value, str)
    if declared.type == "BOOLEAN":
        return isinstance(value, bool)
    if declared.type == "INT" and not isinstance(value, int):
        return False
    low, high = declared.options.get("min", float("-inf")), declared.options.get("max", float("inf"))
    on_step = declared.type != "INT" or low == float("-inf") or (value - low) % declared.options.get("step", 1) == 0
    return low <= value <= high and on_step


def picture(content: bytes) -> Image.Image:
    """Decode a picture that ComfyUI sent."""
    return Image.open(io.BytesIO(content)).convert("RGB")


def difference(one: Image.Image, other: Image.Image) -> float:
    """Mean difference of two pictures, 0 to 255, at the size of the first."""
    pair = (np.asarray(image.resize(one.size), dtype=np.float32) for image in (one, other))
    return float(np.abs(np.subtract(*pair)).mean())


def test_there_are_five_templates_with_names_fit_for_an_address():
    assert len(TEMPLATES) == 5
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in TEMPLATES)


def test_each_template_has_an_id_of_its_own():
    assert len({str(uuid.UUID(graph["id"])) for graph in TEMPLATES.values()}) == len(TEMPLATES)


def test_nodes_and_links_agree_with_each_other(template: dict[str, Any]):
    nodes = {node["id"]: node for node in template["nodes"]}
    links = {link[0]: link for link in template["links"]}
    assert len(nodes) == len(template["nodes"])
    assert len(links) == len(template["links"])
    assert max(nodes) == template["last_node_id"]
    assert max(links) == template["last_link_id"]
    for number, (_, origin, origin_slot, target, target_slot, _type) in links.items():
        assert number in nodes[origin]["outputs"][origin_slot]["links"]
        assert nodes[target]["inputs"][target_slot]["link"] == number
    ends = [slot["link"] for node in nodes.values() for slot in node["inputs"] if slot["link"] is not None]
    starts = [link for node in nodes.values() for slot in node["outputs"] for link in slot["links"] or []]
    assert sorted(ends) == sorted(starts) == sorted(links)


def test_a_note_tells_a_beginner_in_a_few_words_what_to_change(template: dict[str, Any]):
    (note,) = [node for node in template["nodes"] if node["type"] in NOTES]
    assert 20 < len(note["widgets_values"][0].split()) < 100


@pytest.mark.parametrize("name", MODEL_TEMPLATES)
def test_a_template_with_models_names_every_file_it_needs_and_where_to_get_it(name: str):
    graph = TEMPLATES[name]
    models = [model for node in graph["nodes"] for model in node["properties"].get("models", [])]
    assert len(declared_models(graph)) >= 3
    for model in models:
        assert model.keys() == {"name", "url", "directory"}
        assert re.fullmatch(r"https://huggingface\.co/.+/resolve/main/.+", model["url"])
        assert model["url"].endswith("/" + model["name"])
        assert declared_models(graph)[model["name"]] == model["directory"]


@pytest.mark.parametrize("name", MODEL_TEMPLATES)
def test_the_model_files_are_those_of_the_official_templates(name: str, comfyui: ComfyInstall):
    packages = comfyui.python.parent.parent.glob("lib/python*/site-packages/comfyui_workflow_templates_json/templates")
    official = [file.read_text(encoding="utf-8") for folder in packages for file in folder.glob("*.json")]
    if not official:
        pytest.skip("comfyui-workflow-templates-json is not installed beside this ComfyUI")
    together = "".join(official)
    for node in TEMPLATES[name]["nodes"]:
        for model in node["properties"].get("models", []):
            assert f'"{model["url"]}"' in together, model["url"]


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name.startswith("ltx2")])
def test_the_video_its_sound_and_its_conditioning_have_one_frame_rate(name: str, client: Client):
    definitions = client.get("/object_info")
    values = [widget_values(node, definitions[node["type"]]) for node in nodes_that_run(TEMPLATES[name])]
    rates = [value for named in values for key, value in named.items() if key in ("fps", "frame_rate")]
    assert rates == [24, 24, 24]


def test_comfyui_has_every_node_and_every_widget_value_is_one_it_offers(
    template: dict[str, Any], server: ComfyProcess, client: Client
):
    with model_files(server, template):
        definitions = client.get("/object_info")
        for node in nodes_that_run(template):
            assert node["type"] in definitions
            declared = {item.name: item for item in declared_inputs(definitions[node["type"]])}
            linked = {slot["name"] for slot in node["inputs"] if slot["link"] is not None}
            values = widget_values(node, definitions[node["type"]])
            for name, value in values.items():
                assert is_valid(value, declared[name]), f"{node['type']}.{name} = {value!r}"
            missing = {name for name, item in declared.items() if item.required} - linked - values.keys()
            assert not missing, f"{node['type']} lacks {missing}"


def test_every_link_joins_an_output_and_an_input_of_one_type(template: dict[str, Any], client: Client):
    definitions = client.get("/object_info")
    nodes = {node["id"]: node for node in template["nodes"]}
    for _, origin, origin_slot, target, target_slot, kind in template["links"]:
        given = definitions[nodes[origin]["type"]]["output"][origin_slot]
        name = nodes[target]["inputs"][target_slot]["name"]
        wanted = {item.name: item for item in declared_inputs(definitions[nodes[target]["type"]])}[name].type
        assert kind == given
        assert given in wanted.split(","), f"{nodes[origin]['type']} -> {nodes[target]['type']}.{name}"


@pytest.mark.parametrize("name", MODEL_TEMPLATES)
def test_the_models_declared_are_exactly_those_chosen_and_each_loader_declares_its_own(
    name: str, server: ComfyProcess, client: Client
):
    graph = TEMPLATES[name]
    definitions = client.get("/object_info")
    for node in nodes_that_run(graph):
        values = widget_values(node, definitions[node["type"]])
        chosen = {value for value in values.values() if isinstance(value, str) and value.endswith(".safetensors")}
        own = {model["name"] for model in node["properties"].get("models", [])}
        assert chosen == own, node["type"]


@pytest.mark.parametrize("name", MODEL_TEMPLATES)
def test_comfyui_accepts_the_prompt_once_the_models_are_there(name: str, server: ComfyProcess, client: Client):
    graph = TEMPLATES[name]
    prompt = to_prompt(graph, client.get("/object_info"))
    with model_files(server, graph):
        answer = client.post("/prompt", {"prompt": prompt, "client_id": client.client_id})
        assert answer["node_errors"] == {}
        # The files are empty, so that what follows can only fail; it need not be waited for.
        client.post("/queue", {"delete": [answer["prompt_id"]]})
        client.interrupt()
        deadline = time.monotonic() + 30
        while any(client.queue().values()):
            assert time.monotonic() < deadline, "the job neither failed nor stopped"
            time.sleep(0.05)


def card_prompt(client: Client, **inputs: Any) -> tuple[dict[str, Any], str]:
    """The test card's prompt with some inputs changed, and the id of the card's node."""
    prompt = to_prompt(TEMPLATES["test-card"], client.get("/object_info"))
    (card,) = [key for key, node in prompt.items() if node["class_type"] == "ComfyumeTestCard"]
    prompt[card]["inputs"] |= inputs
    return prompt, card


def finished_picture(client: Client, prompt: dict[str, Any]) -> Image.Image:
    """Run the prompt and return the one picture it saved, got as the browser gets it."""
    entry = client.run(prompt)
    assert entry["status"]["status_str"] == "success"
    (saved,) = [image for output in entry["outputs"].values() for image in output.get("images", [])]
    return picture(client.view(saved["filename"], saved["subfolder"], saved["type"]))


def previews(events: list[Event]) -> list[Image.Image]:
    """The previews in the format for clients that announced no features: four bytes of picture type, then a JPEG."""
    return [picture(event.data[4:]) for event in events if event.kind == PREVIEW_IMAGE]


def test_the_test_card_makes_a_picture_and_previews_that_get_sharper(client: Client):
    prompt, card = card_prompt(client, steps=6, seconds_per_step=0.05, seed=time.time_ns(), width=640, height=480)
    result = finished_picture(client, prompt)
    assert result.size == (640, 480)

    steps = [event.data for event in client.events if event.kind == "progress" and event.data["node"] == card]
    assert [(step["value"], step["max"]) for step in steps] == [(step, 6) for step in range(1, 7)]
    away = [difference(preview, result) for preview in previews(client.events)]
    assert len(away) == 6
    assert away == sorted(away, reverse=True)
    assert away[0] > 10 * away[-1]


def test_the_test_card_depends_on_its_seed(client: Client):
    seed = time.time_ns()
    one, other = (
        finished_picture(client, card_prompt(client, steps=1, seconds_per_step=0.0, seed=each)[0])
        for each in (seed, seed + 1)
    )
    assert difference(one, other) > 20


def test_a_batch_of_test_cards_has_a_picture_for_each_seed(client: Client):
    prompt, _ = card_prompt(client, steps=1, seconds_per_step=0.0, seed=time.time_ns(), batch_size=3, width=128)
    images = [image for output in client.run(prompt)["outputs"].values() for image in output.get("images", [])]
    shown = {client.view(image["filename"], image["subfolder"], image["type"]) for image in images}
    assert len(images) == len(shown) == 3


def test_cancelling_the_test_card_takes_effect_at_once(client: Client):
    prompt, card = card_prompt(client, steps=1000, seconds_per_step=60.0, seed=time.time_ns())
    prompt_id = client.submit(prompt)
    client.wait_for(lambda event: event.kind == "executing" and event.data["node"] == card)
    time.sleep(0.3)  # into the first step, past the drawing
    asked = time.monotonic()
    client.interrupt()
    ended = client.wait(prompt_id)[-1]
    assert ended.kind == "execution_interrupted"
    assert ended.data["node_id"] == card
    assert ended.at - asked < 1.0  # tens of milliseconds as a rule; the step would have lasted a minute


def test_the_worker_name_is_told_as_output_and_on_the_node_and_anew_each_time(server: ComfyProcess, client: Client):
    prompt, _ = card_prompt(client, steps=1, seconds_per_step=0.0, seed=1)
    (worker,) = [key for key, node in prompt.items() if node["class_type"] == "ComfyumeWorkerName"]
    expected = server.environment.get("COMFYUME_WORKER_ID") or default_worker_id(server.environment)
    for _ in range(2):
        client.events.clear()
        assert client.run(prompt)["outputs"][worker]["text"] == [expected]
        told = [event.data for event in client.events if event.kind == TEXT]
        assert told == [len(worker).to_bytes(4, "big") + worker.encode() + expected.encode()]
