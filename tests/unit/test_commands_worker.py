"""`comfyume worker --join`: what it refuses before anything is begun, and what each of a machine's workers is told."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from comfyume.briefing import Briefing
from comfyume.commands import worker
from comfyume.commands.errors import CommandError
from comfyume.commands.joined import Joined, join

LINK = "https://workshop.example.org/comfyume/join/" + "x" * 43
Usage = namedtuple("Usage", "total used free")


def program(folder: Path, text: str, status: int = 0) -> None:
    """Something that answers as NVIDIA's own program does."""
    file = folder / "nvidia-smi"
    file.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {status}\n")
    file.chmod(0o755)


def test_gpus_are_told_with_memory_and_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "NVIDIA H200, 143771, 570.86.15\nNVIDIA GeForce RTX 4090, 24564, 570.86.15")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert worker._gpus(without=False) == [
        "NVIDIA H200 with 140 GiB, driver 570.86.15",
        "NVIDIA GeForce RTX 4090 with 24 GiB, driver 570.86.15",
    ]
    assert worker._gpus(without=True) == []


def test_a_driver_that_does_not_work_is_told_in_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CommandError, match=r"does not answer.*--cpu"):
        worker._gpus(without=False)
    program(tmp_path, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", status=9)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(CommandError, match=r"communicate with the NVIDIA driver.*--cpu"):
        worker._gpus(without=False)


def test_a_disk_with_too_little_room_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100, 99, 2**30))
    with pytest.raises(CommandError, match=r"Only 1\.0 GiB are free.*--state"):
        worker._disk(tmp_path)


@pytest.mark.parametrize(
    ("link", "words"),
    [
        ("http://workshop.example.org/comfyume/join/abc", "not encrypted"),
        ("ftp://workshop.example.org/comfyume/join/abc", "no link to join by"),
        ("https://workshop.example.org/", "no link to join by"),
        ("nonsense", "no link to join by"),
    ],
)
def test_what_is_no_link_or_would_tell_passwords_to_the_network_is_refused(
    tmp_path: Path, link: str, words: str
) -> None:
    with pytest.raises(CommandError, match=words):
        join(tmp_path, link)
    assert list(tmp_path.iterdir()) == []


def test_without_a_link_it_goes_on_with_what_it_was_told_and_a_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="--join LINK"):
        join(tmp_path, None)
    kept = {"link": "", "frontend": "https://a", "machine": "m", "briefing": briefing().model_dump()}
    (tmp_path / "joined.json").write_text(json.dumps(kept))
    assert join(tmp_path, None) == (Joined("https://a", "m", briefing()), False)
    (tmp_path / "joined.json").write_text("{")
    with pytest.raises(CommandError, match=r"joined\.json cannot be read.*new link"):
        join(tmp_path, None)


def test_each_gpu_has_a_worker_of_its_own_name_and_the_workshops_word_counts() -> None:
    joined = Joined("https://workshop.example.org", "abcdef0123", briefing())
    environ = {"COMFYUME_REDIS_URL": "redis://elsewhere", "PYTHONPATH": "/x", "HF_TOKEN": "t", "COMFYUME_WORKER_ID": ""}
    first, second = (worker.environment_of(joined, index, 2, environ) for index in (1, 2))
    assert first["COMFYUME_REDIS_URL"] == "redis://store"
    assert first["COMFYUME_FRONTEND_URL"] == "https://workshop.example.org"
    assert first["COMFYUME_WORKER_ID"].endswith("-abcdef-gpu0")
    assert (first["CUDA_VISIBLE_DEVICES"], second["CUDA_VISIBLE_DEVICES"]) == ("0", "1")
    assert first["HF_TOKEN"] == "t"
    assert "PYTHONPATH" not in first
    alone = worker.environment_of(joined, 1, 1, environ)
    assert alone["COMFYUME_WORKER_ID"].endswith("-abcdef")
    assert "CUDA_VISIBLE_DEVICES" not in alone


def briefing() -> Briefing:
    return Briefing(workshop="w", environment={"COMFYUME_REDIS_URL": "redis://store"}, packs=[])
