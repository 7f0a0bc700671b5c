"""Fixtures of the tests on a real store: a workshop with a queue, and the command line on a workshop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from comfyume.accounts import passwords
from comfyume.commands.main import main
from comfyume.tests.harness.room import Room

#: Runs a command; its status, output and complaints.
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
async def room(store: Any) -> AsyncIterator[Room]:
    """The test's own workshop, with a frontend's queue."""
    async with Room(store.url, store.workshop) as made:
        yield made


@pytest.fixture
def comfyume(store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line on the test's own workshop."""
    monkeypatch.setenv("COMFYUME_REDIS_URL", store.url)
    monkeypatch.setenv("COMFYUME_WORKSHOP", store.workshop)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(passwords, "LOG_N", 4)

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(list(arguments))
        output = capsys.readouterr()
        return status, output.out, output.err

    return run
