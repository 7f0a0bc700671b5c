"""What installers and the ComfyUI registry read: pyproject.toml, requirements.txt, .comfyignore, and the wheel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from comfyume.commands import source_tree

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = source_tree.ROOT
#: Folders at the root that are no part of the installed package.
NOT_INSTALLED = {"tests", "benchmarks", "build", "dist", "docs", "node_modules"}
NOT_COPIED = (
    ".git",
    ".venv",
    "node_modules",
    "__pycache__",
    ".*_cache",
    "*.egg-info",
    "build",
    "artefacts",
    "artifacts",
)


@pytest.fixture(scope="module")
def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def packages_in_tree() -> set[str]:
    found = {"comfyume"}
    for init in ROOT.rglob("__init__.py"):
        parts = init.parent.relative_to(ROOT).parts
        if parts and not parts[0].startswith(".") and parts[0] not in NOT_INSTALLED:
            found.add(".".join(["comfyume", *parts]))
    return found


def test_requirements_are_the_dependencies(pyproject):
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert lines == pyproject["project"]["dependencies"]


def test_every_package_is_listed(pyproject):
    assert sorted(pyproject["tool"]["setuptools"]["packages"]) == sorted(packages_in_tree())


def test_the_registrys_metadata_is_complete(pyproject):
    project, comfy = pyproject["project"], pyproject["tool"]["comfy"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])
    assert project["urls"]["Repository"] == "https://github.com/comfyume/comfyume"
    assert comfy["PublisherId"] == comfy["DisplayName"] == "comfyume"
    assert comfy["requires-comfyui"] == ">=0.11.0"
    assert "web" not in comfy, "WEB_DIRECTORY in __init__.py says where the scripts are"
    assert source_tree.version() == project["version"]


def test_the_license_is_gpl_3():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "GNU GENERAL PUBLIC LICENSE" in text
    assert "Version 3, 29 June 2007" in text


def test_comfy_node_validate_passes(tmp_path):
    comfy = shutil.which("comfy", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if comfy is None:
        pytest.skip("comfy-cli is not installed")
    tree = copy_tree(tmp_path)
    home = tmp_path / "home"
    (home / ".config").mkdir(parents=True)
    outcome = subprocess.run(
        [comfy, "--skip-prompt", "node", "validate"],
        cwd=tree,
        env={**os.environ, "HOME": str(home), "DO_NOT_TRACK": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = outcome.stdout + outcome.stderr
    assert outcome.returncode == 0, said
    assert not re.search(r"warning|error", said, re.IGNORECASE), said


def test_the_download_has_what_runs_and_no_tests():
    pathspec = pytest.importorskip("pathspec")
    lines = (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()
    # comfy-cli reads the file with this syntax
    ignored = pathspec.PathSpec.from_lines("gitignore", lines)
    for name in ("tests/pytest.ini", "tests/unit/test_packaging.py", "benchmarks/speed.py", ".ci/run"):
        assert ignored.match_file(name), name
    needed = ["pyproject.toml", "requirements.txt", "README.md", "LICENSE", "settings.py", "comfyume"]
    needed += [f"{name.partition('.')[2].replace('.', '/')}/x.py" for name in packages_in_tree() if "." in name]
    needed += ["job_queue/lua/claim.lua", "web/js/comfyume.js", "workflows/test-card.json", "locales/en/main.json"]
    assert [name for name in needed if ignored.match_file(name)] == []


def test_the_wheel_holds_every_file_and_its_command_runs(tmp_path):
    pytest.importorskip("setuptools", minversion="70.1")
    tree = copy_tree(tmp_path)
    wanted = [path for pattern in ("*.py", "*.lua", "*.js", "*.mjs", "*.json") for path in sources(tree, pattern)]
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run([*build, "--wheel-dir", str(tmp_path / "wheels"), str(tree)], tmp_path)
    (wheel,) = (tmp_path / "wheels").glob("*.whl")

    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    run([str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)], tmp_path)
    assert "workshop" in run([str(environment / "bin" / "comfyume"), "--help"], tmp_path)
    assert f"comfyume {source_tree.version()}" in run([str(environment / "bin" / "comfyume"), "version"], tmp_path)

    (installed,) = environment.glob("lib/python*/site-packages/comfyume")
    assert [str(path) for path in wanted if not (installed / path).is_file()] == []
    assert not (installed / "tests").exists()


def sources(tree: Path, pattern: str) -> list[Path]:
    found = (path.relative_to(tree) for path in tree.rglob(pattern))
    folders = {name.split(".")[1] for name in packages_in_tree() if "." in name} | {"web", "workflows", "locales"}
    # What checks the page's modules is for whoever changes them.
    found = (path for path in found if path.name != "jsconfig.json")
    return sorted(path for path in found if path.parts[0] in folders or (path.suffix == ".py" and len(path.parts) == 1))


def copy_tree(folder: Path) -> Path:
    tree = folder / "comfyume"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*NOT_COPIED, "tests", "benchmarks"))
    return tree


def run(command: list[str], folder: Path) -> str:
    outcome = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout
