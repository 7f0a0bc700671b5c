"""What graphs need: read from ours and from ComfyUI's official ones, and in which order it is wanted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from comfyume.model_vault.errors import KindRefused, UnsafeModelName
from comfyume.model_vault.graphs import Mention, NoGraph, mentions, read_graph, tidied
from comfyume.model_vault.loaders import folder_of
from comfyume.model_vault.names import check_kind, checked, is_model
from comfyume.model_vault.needs import Need, Workflow, plan, read_workflows

ROOT = Path(__file__).resolve().parents[2]
HUB = "https://huggingface.co/o/r/resolve/main"
HASH = "ab" * 32


def node(kind: str = "VAELoader", *values: Any, mode: int = 0, models: Any = None) -> dict[str, Any]:
    properties = {} if models is None else {"models": models}
    return {"id": 1, "type": kind, "mode": mode, "widgets_values": list(values), "properties": properties}


def said(name: str, folder: str = "vae", **more: Any) -> dict[str, Any]:
    return {"name": name, "url": f"{HUB}/{name}", "directory": folder, **more}


def graph(*nodes: dict[str, Any], subgraphs: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    return {"nodes": list(nodes), "definitions": {"subgraphs": list(subgraphs)}}


def every_models_entry(value: Any) -> Iterator[dict[str, Any]]:
    """An independent reading: whatever is called "models", wherever it stands, if its entries are files."""
    if isinstance(value, dict):
        if isinstance(value.get("models"), list):
            yield from (each for each in value["models"] if isinstance(each, dict) and "url" in each)
        for each in value.values():
            yield from every_models_entry(each)
    elif isinstance(value, list):
        for each in value:
            yield from every_models_entry(each)


def own_metadata(value: dict[str, Any]) -> set[tuple[str, str, str]]:
    return {(each["directory"], each["name"], each["url"].split("?")[0]) for each in every_models_entry(value)}


def official() -> list[Path]:
    package = pytest.importorskip("comfyui_workflow_templates_json", reason="the official templates are not installed")
    folder = Path(str(resources.files(package))) / "templates"
    return [path for path in sorted(folder.glob("*.json")) if '"nodes"' in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", sorted(ROOT.glob("workflows/*.json")), ids=lambda path: path.stem)
def test_our_templates_need_what_their_metadata_says(path: Path) -> None:
    value = json.loads(path.read_text(encoding="utf-8"))
    found = {(each.folder, each.name, url) for each in mentions(value) for url in each.urls}
    assert found == own_metadata(value)
    assert all(each.folder and each.urls for each in mentions(value))


def test_the_plan_of_our_templates_has_every_file_once() -> None:
    workflows, problems = read_workflows([ROOT / "workflows"], trusted=True)
    made = plan(workflows)
    assert len(workflows) == 5
    assert not problems
    assert not made.problems
    assert not made.nowhere
    expected = {
        entry[:2] for path in ROOT.glob("workflows/*.json") for entry in own_metadata(json.loads(path.read_bytes()))
    }
    assert sorted(need.key for need in made.needs) == sorted(expected)
    assert len(expected) == 10


def test_the_plan_of_the_official_graphs_has_every_file_of_their_metadata() -> None:
    paths = official()
    assert len(paths) > 600
    workflows, _ = read_workflows(paths, trusted=True)
    assert len(workflows) == len(paths)
    made = plan(workflows)
    found = {(*need.key, url) for need in made.needs for url in need.urls}
    expected = {entry for path in paths for entry in own_metadata(json.loads(path.read_bytes()))}
    assert len({entry[:2] for entry in expected}) > 350
    assert found == expected
    assert not made.problems
    by_graph = {workflow.name: workflow for workflow in workflows}
    for path in paths:
        value = json.loads(path.read_bytes())
        assert {each.folder and (each.folder, each.name) for each in by_graph[path.stem].needs} >= {
            entry[:2] for entry in own_metadata(value)
        }


def test_loaders_are_known_as_the_official_graphs_use_them() -> None:
    told: Counter[bool] = Counter()
    for path in official():
        value = json.loads(path.read_bytes())
        subgraphs = (value.get("definitions") or {}).get("subgraphs") or []
        for each in [*value["nodes"], *(inner for subgraph in subgraphs for inner in subgraph["nodes"])]:
            said_by_name = {m["name"]: m["directory"] for m in (each.get("properties") or {}).get("models") or ()}
            widgets = each.get("widgets_values")
            files = [v for v in widgets if isinstance(v, str) and is_model(v)] if isinstance(widgets, list) else []
            for position, file in enumerate(files):
                folder = folder_of(each["type"], position)
                if file in said_by_name and folder:
                    assert folder == said_by_name[file], (path.name, each["type"], position)
                if file in said_by_name:
                    told[bool(folder)] += 1
    assert told[True] > 100 * told[False]


def test_nested_subgraphs_are_read() -> None:
    deepest = {"id": "c", "nodes": [node("VAELoader", "c.safetensors", models=[said("c.safetensors")])]}
    middle = {
        "id": "b",
        "nodes": [node("c"), node(models=[said("b.safetensors")])],
        "definitions": {"subgraphs": [deepest]},
    }
    found = mentions(graph(node("b", "c.safetensors"), node(models=[said("a.safetensors")]), subgraphs=(middle,)))
    assert [each.name for each in found] == ["a.safetensors", "b.safetensors", "c.safetensors"]
    assert all(each.folder == "vae" and each.runs for each in found)


def test_a_subgraph_that_nobody_calls_or_whose_node_is_off_does_not_run() -> None:
    inner = {"id": "b", "nodes": [node(models=[said("b.safetensors")])]}
    assert not mentions(graph(subgraphs=(inner,)))[0].runs
    assert not mentions(graph(node("b", mode=4), subgraphs=(inner,)))[0].runs
    assert mentions(graph(node("b"), subgraphs=(inner,)))[0].runs


@pytest.mark.parametrize("mode", [2, 4])
def test_models_of_nodes_that_are_switched_off_are_listed_and_wanted_last(mode: int) -> None:
    off = node(models=[said("off.safetensors")], mode=mode)
    made = plan([Workflow("one", tuple(mentions(graph(off, node(models=[said("on.safetensors")])))), trusted=True)])
    assert [(need.name, need.runs) for need in made.needs] == [("on.safetensors", True), ("off.safetensors", False)]


def test_widgets_of_known_loaders_tell_the_folder_and_others_do_not() -> None:
    found = mentions(
        graph(
            node("LTXAVTextEncoderLoader", "gemma.safetensors", "ltx.safetensors", "default"),
            node("CheckpointLoaderSimple", "sub\\sd.ckpt"),
            node("SomebodysLoader", "odd.gguf"),
        )
    )
    assert found == [
        Mention("text_encoders", "gemma.safetensors"),
        Mention("checkpoints", "ltx.safetensors"),
        Mention("checkpoints", "sub/sd.ckpt"),
        Mention("", "odd.gguf"),
    ]
    made = plan([Workflow("one", tuple(found), trusted=True)])
    assert [need.name for need in made.nowhere] == ["odd.gguf"]


def test_a_queued_graph_is_read_too() -> None:
    prompt = {"4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "x.safetensors"}}}
    assert mentions(prompt) == [Mention("checkpoints", "x.safetensors")]


def test_hashes_and_former_folder_names_are_understood() -> None:
    found = mentions(
        graph(
            node(models=[said("a.safetensors", "clip", hash=HASH.upper(), hash_type="SHA256")]),
            node(models=[said("b.safetensors", "unet", hash="12345678", hash_type="AutoV2")]),
        )
    )
    assert [(each.folder, each.sha256) for each in found] == [("text_encoders", HASH), ("diffusion_models", "")]


def test_odd_values_where_models_could_stand_are_no_models() -> None:
    odd = node(models={"not": "a list"})
    scene = {
        "id": 1,
        "type": "x",
        "properties": {"Scene Config": {"models": [{"position": 1}]}},
        "widgets_values": {"a": 3},
    }
    assert mentions(graph(odd, scene, {"type": "x", "properties": [], "widgets_values": None})) == []
    assert mentions(graph(node(models=[{"name": 7}, "x", {"url": "y"}]))) == []


def test_addresses_lose_only_the_word_for_browsers() -> None:
    assert tidied(f"{HUB}/a.safetensors?download=true") == f"{HUB}/a.safetensors"
    assert tidied("https://huggingface.co/o/r/blob/main/a.safetensors") == f"{HUB}/a.safetensors"
    assert tidied("https://[/") == "https://[/"
    assert tidied("https://civitai.com/api/download/models/1?type=Model&format=SafeTensor") == (
        "https://civitai.com/api/download/models/1?type=Model&format=SafeTensor"
    )


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("..", "a.safetensors"), ("loras/..", "a.safetensors"), ("", "a.safetensors"),
        ("custom_nodes", "a.safetensors"),
        ("loras", "../a.safetensors"), ("loras", "/etc/a.safetensors"), ("loras", "a/../../b.safetensors"),
        ("loras", "a\0.safetensors"), ("loras", "a.py"), ("loras", ".a.safetensors"), ("loras", "a//b.safetensors"),
        ("loras", "C:/a.safetensors"), ("loras", "a\n.safetensors"),
    ],
)  # fmt: skip
def test_names_that_lead_elsewhere_are_refused(folder: str, name: str) -> None:
    with pytest.raises(UnsafeModelName):
        checked(folder, name)
    wanted = Workflow("bad", (Mention(folder or "..", name),), trusted=False)
    made = plan([wanted])
    assert not made.needs
    assert len(made.problems) == 1


def test_pickles_are_refused_unless_they_are_allowed() -> None:
    with pytest.raises(KindRefused, match="any program"):
        check_kind("checkpoints", "a.ckpt", allow_pickles=False)
    check_kind("checkpoints", "a.ckpt", allow_pickles=True)
    check_kind("checkpoints", "a.SafeTensors", allow_pickles=False)


def test_the_smallest_complete_template_comes_first_and_people_after_templates() -> None:
    sizes = {"shared": 5, "big": 90, "small": 10, "mine": 1}

    def wanting(name: str, *files: str, trusted: bool = True) -> Workflow:
        return Workflow(name, tuple(Mention("vae", f"{file}.safetensors") for file in files), trusted)

    def size_of(need: Need) -> int:
        return sizes[need.name.partition(".")[0]]

    workflows = [wanting("ada", "mine", trusted=False), wanting("A", "shared", "big"), wanting("B", "small", "shared")]
    made = plan(workflows, size_of)
    assert [need.name.partition(".")[0] for need in made.needs] == ["shared", "small", "big", "mine"]
    sizes["big"] = 0  # it is there already
    made = plan(workflows, size_of)
    assert [need.name.partition(".")[0] for need in made.needs] == ["big", "shared", "small", "mine"]


def test_a_persons_workflow_cannot_say_where_a_templates_model_comes_from() -> None:
    template = Workflow("T", (Mention("vae", "a.safetensors", (f"{HUB}/a",)),), trusted=True)
    evil = Workflow("eve", (Mention("vae", "a.safetensors", ("https://huggingface.co/eve/x",), HASH),), trusted=False)
    (need,) = plan([evil, template]).needs
    assert (need.urls, need.sha256) == ((f"{HUB}/a",), "")
    assert (need.templates, need.workflows) == (("T",), ("eve",))


def test_files_that_are_no_graphs_are_told_when_they_are_named(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"Comfy.Locale": "fr"}')
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "w.json").write_text(json.dumps(graph(node(models=[said("a.safetensors")]))))
    found, problems = read_workflows([tmp_path], trusted=False)
    assert ([each.name for each in found], problems) == (["sub/w"], [])
    _, problems = read_workflows([tmp_path / "broken.json", tmp_path / "missing"], trusted=False)
    assert len(problems) == 2
    with pytest.raises(NoGraph):
        read_graph(tmp_path / "settings.json")
