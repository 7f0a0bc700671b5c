"""`comfyume users`, as an instructor uses it, on a store of its own."""

from __future__ import annotations

import csv
import io
import stat
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import bcrypt
import pytest

from comfyume.job_queue.keys import Keys
from comfyume.tests.integration.conftest import Run


def test_twenty_users_are_added_and_their_sheet_is_written_once(comfyume: Run, store: Any, tmp_path: Path) -> None:
    status, output, _ = comfyume("users", "add", "user001..user020", "--generate", "--address", "https://work.example/")
    assert status == 0
    assert "Added 20 users as participants." in output
    assert "Nobody is an instructor yet" in output
    sheet = tmp_path / "credentials.csv"
    assert stat.S_IMODE(sheet.stat().st_mode) == 0o600
    rows = list(csv.DictReader(sheet.read_text().splitlines()))
    assert [row["name"] for row in rows] == [f"user{number:03}" for number in range(1, 21)]
    assert len({row["password"] for row in rows}) == 20
    for row in rows:
        link = urlsplit(row["link"])
        assert (link.netloc, link.path, link.query) == ("work.example", "/comfyume/sign-in", "")
        assert parse_qs(link.fragment) == {"user": [row["name"]], "password": [row["password"]]}
    kept = "".join(store.client().hvals(Keys(store.workshop).users))
    assert not [row for row in rows if row["password"] in kept]
    # What was written once is not written over, and then nobody is added.
    status, _, problem = comfyume("users", "add", "user021..user022", "--generate")
    assert status == 1
    assert "credentials.csv exists already" in problem
    assert "user021" not in comfyume("users", "list")[1]


def test_users_are_listed_changed_and_removed(comfyume: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "open to its own machine alone" in comfyume("users", "list")[1]
    for name, options in (("ines", ["--instructor"]), ("ada", [])):
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{name}'s word\n"))
        assert comfyume("users", "add", name, *options)[0] == 0
    lines = comfyume("users", "list")[1].splitlines()
    assert [line.split()[:2] for line in lines] == [["ada", "participant"], ["ines", "instructor"]]
    status, token, told = comfyume("users", "token", "ada", "--label", "render script")
    assert status == 0
    assert len(token.strip()) == 43
    assert "Authorization: Bearer" in told
    assert "1 tokens" in comfyume("users", "list")[1]
    monkeypatch.setattr("sys.stdin", io.StringIO("another\n"))
    assert "must sign in anew" in comfyume("users", "passwd", "ada")[1]
    assert "tokens" not in comfyume("users", "list")[1]
    assert comfyume("users", "remove", "ada")[0] == 0
    assert "Nobody" not in comfyume("users", "list")[1]
    assert "no users left" in comfyume("users", "remove", "ines")[1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["add", "no/name", "--generate"], "'no/name' is no name for a user"),
        (["add", "ada", "bob"], "add --generate"),
        (["add", "ada", "Ada", "--generate"], "a name is there twice"),
        (["remove", "carl"], "there is no user carl"),
        (["passwd", "carl", "--generate"], "there is no user carl"),
        (["token", "carl"], "There is no user 'carl'"),
        (["import", "missing.txt"], "missing.txt cannot be read"),
        (["--state", "/nowhere", "list"], "There is no workshop in /nowhere"),
    ],
)
def test_what_cannot_be_done_is_told_and_changes_nothing(comfyume: Run, arguments: list[str], sentence: str) -> None:
    status, _, problem = comfyume("users", *arguments)
    assert status == 1
    assert sentence in problem
    assert "open to its own machine alone" in comfyume("users", "list")[1]


def test_an_htpasswd_file_is_imported_beside_who_is_there(comfyume: Run, tmp_path: Path) -> None:
    assert comfyume("users", "add", "user001", "--instructor", "--generate")[0] == 0
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode().replace("$2b$", "$2y$")
    (tmp_path / "htpasswd").write_text(f"user001:{hashed}\nUser002:{hashed}\n")
    status, output, _ = comfyume("users", "import", "htpasswd")
    assert status == 0
    assert "Added user002 as participant." in output
    assert "Left alone, since they are users already: user001." in output


def test_a_store_that_is_away_is_told(comfyume: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUME_REDIS_URL", "redis://127.0.0.1:1")
    status, _, problem = comfyume("users", "list")
    assert status == 1
    assert "The store does not answer" in problem
