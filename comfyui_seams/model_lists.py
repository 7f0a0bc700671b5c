"""Seam: ``folder_paths.get_filename_list``, from which drop-downs, ``/models`` and validation take the models, and
``ModelFileManager``, from which the interface's model library does."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import folder_paths
from app.model_manager import ModelFileManager

from .context import job_models

#: Model folders that hold no models.
NO_MODELS = frozenset({"custom_nodes", "configs", "datasets"})

_own_files: Callable[[str], list[str]] = folder_paths.get_filename_list
_answer_own: ContextVar[bool] = ContextVar("comfyume_answer_own", default=False)


def own_lists() -> dict[str, list[str]]:
    """The models on this machine by folder; blocking."""
    return {
        folder: _own_files(folder) for folder in list(folder_paths.folder_names_and_paths) if folder not in NO_MODELS
    }


def own_sizes(models: dict[str, list[str]]) -> dict[str, int]:
    """Bytes of each of these models, by ``FOLDER/FILE``; blocking."""
    sizes = {}
    for folder, files in models.items():
        for file in files:
            path = folder_paths.get_full_path(folder, file)
            if path is not None:
                with contextlib.suppress(OSError):
                    sizes[f"{folder}/{file}"] = os.path.getsize(path)
    return sizes


@contextlib.contextmanager
def own_models_only() -> Iterator[None]:
    """In here, drop-downs show the models of this machine, as on a worker."""
    token = _answer_own.set(True)
    try:
        yield
    finally:
        _answer_own.reset(token)


def install(workshop_files: Callable[[str], list[str] | None], brought: Callable[[str], list[str]]) -> None:
    """Answer with the workshop's models; None from ``workshop_files`` means that it knows of none at all.

    Args:
        brought: what people have brought of models, in a folder, for the person who asks.
    """
    listed: Callable[[str], list[str]] = folder_paths.get_filename_list

    def get_filename_list(folder_name: str) -> list[str]:
        folder = folder_paths.map_legacy(folder_name)
        if _answer_own.get() or folder in NO_MODELS:
            return listed(folder_name)
        files = workshop_files(folder)
        return [*(files if files is not None else listed(folder_name)), *brought(folder)]

    folder_paths.get_filename_list = get_filename_list

    def get_model_file_list(_self: ModelFileManager, folder_name: str) -> list[dict[str, Any]]:
        return [{"name": name, "pathIndex": 0} for name in get_filename_list(folder_name)]

    # What the interface's model library reads.
    ModelFileManager.get_model_file_list = get_model_file_list


def install_for_jobs() -> None:
    """Let a job's nodes find what people have brought of models for it, each at a path that tells its content."""
    listed: Callable[[str], list[str]] = folder_paths.get_filename_list
    located: Callable[[str, str], str | None] = folder_paths.get_full_path

    def brought(folder_name: str) -> Mapping[str, Path]:
        return (job_models.get() or {}).get(folder_paths.map_legacy(folder_name), {})

    def get_filename_list(folder_name: str) -> list[str]:
        return [*listed(folder_name), *brought(folder_name)]

    def get_full_path(folder_name: str, filename: str) -> str | None:
        path = brought(folder_name).get(filename)
        return located(folder_name, filename) if path is None else str(path)

    folder_paths.get_filename_list = get_filename_list
    folder_paths.get_full_path = get_full_path


def folders() -> list[str]:
    """The folders of models that this process knows, by the names that they have now."""
    return sorted(set(folder_paths.folder_names_and_paths) - NO_MODELS)


def add_folders(names: list[str]) -> None:
    """Make model folders known that only workers have."""
    for name in names:
        if name not in folder_paths.folder_names_and_paths:
            folder_paths.folder_names_and_paths[name] = ([], set())
