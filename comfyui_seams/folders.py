"""Seam: ``folder_paths``, so that a request sees its person's folders and a job sees its own."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from ..blobs.filing import is_below
from .context import Folders, current_visit, job_folders


def system_folder() -> Path:
    """Where comfyume keeps its own things: a folder that ComfyUI serves to nobody."""
    return Path(folder_paths.get_system_user_directory("comfyume"))


def models_folder() -> Path:
    """Where the models of this ComfyUI are, but for those that its configuration has elsewhere."""
    return Path(folder_paths.models_dir).absolute()


def own_folders() -> Folders:
    """The folders that this ComfyUI was started with."""
    return Folders(Path(_own_input()).absolute(), Path(_own_output()).absolute(), Path(_own_temp()).absolute())


def use_always(folders: Folders) -> None:
    """Make these the folders of the whole process, also of threads that nodes start."""
    folder_paths.set_input_directory(str(folders.input))
    folder_paths.set_output_directory(str(folders.output))
    folder_paths.set_temp_directory(str(folders.temp))


def _chosen() -> Folders | None:
    visit = current_visit.get()
    return visit.folders if visit is not None else job_folders.get()


_own_input = folder_paths.get_input_directory
_own_output = folder_paths.get_output_directory
_own_temp = folder_paths.get_temp_directory


def _input_directory() -> str:
    chosen = _chosen()
    return str(chosen.input) if chosen is not None else _own_input()


def _output_directory() -> str:
    chosen = _chosen()
    return str(chosen.output) if chosen is not None else _own_output()


def _temp_directory() -> str:
    chosen = _chosen()
    return str(chosen.temp) if chosen is not None else _own_temp()


def _contained(name: str, default_dir: str | None = None) -> tuple[str, bool]:
    """Where a name in a graph leads, and whether that is in the folder that it names.

    ComfyUI looks at this itself since 0.33; before, a graph could name any file of the machine.
    """
    bare, base = folder_paths.annotated_filepath(name)
    if base is None:
        base = default_dir if default_dir is not None else folder_paths.get_input_directory()
    path = os.path.join(base, bare)
    return os.path.abspath(path), is_below(path, base)


def _get_annotated_filepath(name: str, default_dir: str | None = None) -> str:
    path, is_contained = _contained(name, default_dir)
    if not is_contained:
        raise ValueError(f"Invalid file path: {name!r}")
    return path


def _exists_annotated_filepath(name: str) -> bool:
    path, is_contained = _contained(name)
    return is_contained and os.path.exists(path)


def install() -> None:
    """Let the folder getters look at whose request or job it is, and names in graphs lead nowhere else."""
    folder_paths.get_annotated_filepath = _get_annotated_filepath
    folder_paths.exists_annotated_filepath = _exists_annotated_filepath
    folder_paths.get_input_directory = _input_directory
    folder_paths.get_output_directory = _output_directory
    folder_paths.get_temp_directory = _temp_directory
