"""Finding ComfyUI and its Python."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from comfyume.commands import comfyui_install
from comfyume.commands.comfyui_install import ComfyUI
from comfyume.commands.errors import CommandError


@pytest.fixture(scope="module")
def comfyui() -> ComfyUI:
    try:
        found = comfyui_install.find()
    except CommandError as error:
        pytest.skip(f"no ComfyUI: {error}")
    if found is None:
        pytest.skip(f"no ComfyUI: {comfyui_install.HOW_TO_SAY_WHERE}")
    return found


@pytest.fixture
def bare_python(tmp_path) -> Path:
    venv.create(tmp_path / "bare", with_pip=False)
    return tmp_path / "bare" / "bin" / "python"


def write_config(home: Path, **values: Path) -> None:
    folder = home / ".config" / "comfy-cli"
    folder.mkdir(parents=True)
    lines = "".join(f"{key} = {value}\n" for key, value in values.items())
    (folder / "config.ini").write_text(f"[DEFAULT]\n{lines}")


def test_a_path_without_comfyui_is_refused_by_its_variable(tmp_path):
    with pytest.raises(CommandError, match=f"COMFYUI_PATH is {tmp_path}"):
        comfyui_install.find({"COMFYUI_PATH": str(tmp_path), "HOME": str(tmp_path)})


def test_a_machine_without_comfyui_has_none(tmp_path):
    assert comfyui_install.find({"HOME": str(tmp_path)}) is None


def test_comfyui_path_comes_first(comfyui, tmp_path):
    write_config(tmp_path, default_workspace=tmp_path / "gone")
    environ = {"COMFYUI_PATH": str(comfyui.folder), "HOME": str(tmp_path), "COMFYUME_PYTHON": str(comfyui.python)}
    assert comfyui_install.find(environ) == comfyui


def test_comfy_clis_workspace_is_found_without_comfy_cli(comfyui, tmp_path):
    write_config(tmp_path, default_workspace=tmp_path / "gone", recent_workspace=comfyui.folder)
    found = comfyui_install.find({"HOME": str(tmp_path), "COMFYUME_PYTHON": str(comfyui.python)})
    assert found is not None
    assert found.folder == comfyui.folder


def test_comfy_clis_default_folder_is_the_last_resort(comfyui, tmp_path):
    (tmp_path / "comfy").mkdir()
    (tmp_path / "comfy" / "ComfyUI").symlink_to(comfyui.folder)
    found = comfyui_install.find_folder({"HOME": str(tmp_path)})
    assert found is not None
    assert found.folder == tmp_path / "comfy" / "ComfyUI"


def test_a_broken_config_of_comfy_cli_does_no_harm(tmp_path):
    folder = tmp_path / ".config" / "comfy-cli"
    folder.mkdir(parents=True)
    (folder / "config.ini").write_text("no section here\n")
    assert comfyui_install.find({"HOME": str(tmp_path)}) is None


def test_the_version_is_comfyuis_own(comfyui):
    said = subprocess.run(
        [comfyui.python, "-c", "import comfyui_version; print(comfyui_version.__version__)"],
        cwd=comfyui.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert comfyui.version == said.stdout.strip()


def test_a_told_python_that_cannot_run_comfyui_is_refused(bare_python, tmp_path):
    with pytest.raises(CommandError, match=r"COMFYUME_PYTHON is .*No module named 'torch'"):
        comfyui_install.find_python(tmp_path, {"COMFYUME_PYTHON": str(bare_python)})


def test_a_told_python_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(CommandError, match="cannot be started"):
        comfyui_install.find_python(tmp_path, {"COMFYUME_PYTHON": str(tmp_path / "python")})


def test_comfyuis_own_environment_is_asked_for_its_requirements_when_it_lacks_them(tmp_path):
    venv.create(tmp_path / "venv", with_pip=False)
    with pytest.raises(CommandError, match=r"ComfyUI's own Python.*install ComfyUI's requirements"):
        comfyui_install.find_python(tmp_path, {})


def test_missing_requirements_are_named(tmp_path):
    venv.create(tmp_path / "bare", with_pip=True)
    missing = comfyui_install.missing_requirements(tmp_path / "bare" / "bin" / "python")
    assert "pydantic>=2.6" in missing
    assert "redis[hiredis]>=6.0" in missing
    assert not any(line.startswith("tomli") for line in missing) or sys.version_info < (3, 11)


def test_met_requirements_are_not_named():
    assert comfyui_install.missing_requirements(Path(sys.executable)) == []


def test_a_python_that_cannot_be_asked_is_an_error(bare_python):
    with pytest.raises(CommandError, match="could not be asked"):
        comfyui_install.missing_requirements(bare_python)


def test_an_installed_extension_is_known_by_its_metadata(tmp_path):
    pack = tmp_path / "custom_nodes" / "anything"
    pack.mkdir(parents=True)
    assert comfyui_install.installed_extension(tmp_path) is None
    (pack / "pyproject.toml").write_text('[project]\nname = "comfyume"\n')
    assert comfyui_install.installed_extension(tmp_path) == pack
    pack.rename(pack.with_name("anything.disabled"))
    assert comfyui_install.installed_extension(tmp_path) is None


def test_a_machine_without_the_driver_has_no_gpu(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert comfyui_install.gpu_count() == 0


def test_gpus_are_counted_as_the_driver_lists_them(monkeypatch, tmp_path):
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: x)'\necho '  MIG 1g'\necho 'GPU 1: A (UUID: y)'\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert comfyui_install.gpu_count() == 2
