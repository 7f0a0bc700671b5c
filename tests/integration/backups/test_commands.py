"""`comfyume backup`, `snapshots`, `restore` and `prune`, as an instructor uses them, with a real store and bucket."""

from __future__ import annotations

import asyncio
import io
import json
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from comfyume.job_queue.keys import Keys
from comfyume.tests.harness.processes import RedisServer
from comfyume.tests.harness.room import Room
from comfyume.tests.harness.s3 import KEY, SECRET, S3Server
from comfyume.tests.integration.backups.conftest import files_of
from comfyume.tests.integration.backups.test_store_copies import content
from comfyume.tests.integration.conftest import Run

PEOPLE = [f"user{number:03}" for number in range(1, 21)]
WORDS = "words that the instructor keeps"


@pytest.fixture
def bucket(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place for a backup in a real bucket, as the settings name it."""
    where = f"s3://{s3.bucket}/backup-{uuid.uuid4().hex[:8]}"
    for name, value in {
        "BACKUP": where,
        "BACKUP_KEY": WORDS,
        "BUCKET_ENDPOINT": s3.endpoint,
        "BUCKET_REGION": "us-east-1",
        "BUCKET_PATH_STYLE": "true",
        "BUCKET_KEY": KEY,
        "BUCKET_SECRET": SECRET,
    }.items():
        monkeypatch.setenv(f"COMFYUME_{name}", value)
    return where


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place for a backup in a folder, as the settings name it."""
    monkeypatch.setenv("COMFYUME_BACKUP", str(tmp_path / "backup"))
    monkeypatch.setenv("COMFYUME_BACKUP_KEY", WORDS)
    return str(tmp_path / "backup")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The folders of a ComfyUI whose people have worked."""
    return worked_in(tmp_path / "comfyui", PEOPLE[:2])


def worked_in(base: Path, people: list[str]) -> Path:
    for person in people:
        for number in range(5):
            write(base / "output" / person / f"{number}.png", f"{person} {number}".encode() * 50)
        write(base / "input" / person / "photo.jpg", person.encode() * 99)
        write(base / "user" / person / "workflows/film.json", json.dumps({"of": person}).encode())
        write(base / "user" / person / "comfy.settings.json", b"{}")
        write(base / "user/__comfyume/people-models/own" / person / "loras/film.safetensors", person.encode() * 77)
    write(base / "user/__comfyume/comfyume.toml", b'queue_mode = "fair"\n')
    write(base / "user/comfyui.db", b"nobody's work")
    return base


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def people_of(base: Path) -> dict[str, bytes]:
    found = files_of(base / "input", base / "output", base / "user")
    return {name: data for name, data in found.items() if "comfyui.db" not in name and "backup" not in name}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def snapshot_in(output: str) -> str:
    found = re.search(r"\d{8}T\d{6}\.\d{3}Z-[0-9a-f]{8}", output)
    assert found is not None, output
    return found[0]


async def _worked(url: str, workshop: str) -> dict[str, Any]:
    async with Room(url, workshop) as room:
        worker = await room.worker()
        for person in PEOPLE:
            room.raw.hset(room.keys.users, person, json.dumps({"name": person, "role": "participant"}))
            await room.one_job_done(worker, user=person)
        for person in PEOPLE[:7]:
            await room.submit(user=person)
        return content(room)


async def _submitted(url: str, workshop: str, number: int) -> None:
    async with Room(url, workshop) as room:
        worker = await room.worker(f"w{number}")
        for person in PEOPLE[: number + 1]:
            await room.submit(user=person)
        await worker.finish(await worker.take())


async def _content(url: str, workshop: str) -> dict[str, Any]:
    async with Room(url, workshop) as room:
        room.check_lanes()
        return content(room)


@pytest.fixture
def second_store(short_folder: Path) -> Iterator[RedisServer]:
    """The store of the new machine."""
    with RedisServer(short_folder / uuid.uuid4().hex[:8], port=None) as server:
        yield server


def test_a_workshop_of_twenty_is_lost_and_brought_back_on_an_empty_machine(
    comfyume: Run,
    store: Any,
    second_store: RedisServer,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = worked_in(tmp_path / "comfyui", PEOPLE)
    kept, people = asyncio.run(_worked(store.url, store.workshop)), people_of(base)
    status, output, problem = comfyume("backup", "--base-directory", str(base))
    assert status == 0, problem
    assert "20 users, 7 jobs in the queue, 20 ended" in output
    snapshot = snapshot_in(output)
    assert snapshot in comfyume("snapshots", "--base-directory", str(base))[1]
    shutil.rmtree(base)
    new = tmp_path / "new-machine"
    monkeypatch.setenv("COMFYUME_REDIS_URL", second_store.url)
    # Nobody was asked, so nothing happens.
    status, _, problem = comfyume("restore", "--base-directory", str(new))
    assert (status, "Add --yes" in problem) == (1, True)
    assert not list(new.rglob("*.png"))
    status, output, problem = comfyume("restore", "--base-directory", str(new), "--yes")
    assert status == 0, problem
    assert "Put back the queue: 7 jobs wait" in output
    assert people_of(new) == people
    after = asyncio.run(_content(second_store.url, store.workshop))
    assert after == kept
    # Again: nothing is different, and what is there is not replaced without a word.
    status, output, problem = comfyume("restore", "--base-directory", str(new), "--yes")
    assert status == 1
    assert "would be replaced, so nothing was changed. Add --replace" in problem
    assert "brings 0 files" in output
    status, output, _ = comfyume("restore", "--base-directory", str(new), "--yes", "--replace")
    assert status == 0
    assert "What the store held is in the snapshot" in output
    assert asyncio.run(_content(second_store.url, store.workshop)) == kept


def test_a_part_is_brought_back_and_the_rest_stays_as_it_is(comfyume: Run, store: Any, place: str, base: Path) -> None:
    client, keys = store.client(), Keys(store.workshop)
    client.hset(keys.users, "ada", "before")
    assert comfyume("backup", "--base-directory", str(base))[0] == 0
    client.hset(keys.users, "ada", "after")
    for name in ("output/user001/0.png", "output/user002/0.png", "user/user001/workflows/film.json"):
        write(base / name, b"changed since, and longer than before" * 9)
    write(base / "user/__comfyume/comfyume.toml", b'queue_mode = "fifo"\n')

    def only(*what: str) -> None:
        options = [word for each in what for word in ("--only", each)]
        status, _, problem = comfyume("restore", "--base-directory", str(base), "--yes", *options)
        assert status == 0, problem

    only("output/user001", str(base / "user/user001/workflows"))
    assert (base / "output/user001/0.png").read_bytes() == b"user001 0" * 50
    assert json.loads((base / "user/user001/workflows/film.json").read_text()) == {"of": "user001"}
    assert (base / "output/user002/0.png").read_bytes().startswith(b"changed since")
    assert client.hget(keys.users, "ada") == "after"
    only("settings")
    assert "fair" in (base / "user/__comfyume/comfyume.toml").read_text()
    status, _, problem = comfyume("restore", "--base-directory", str(base), "--yes", "--only", "users")
    assert (status, "has 1 users" in problem) == (1, True)
    status, _, problem = comfyume("restore", "--base-directory", str(base), "--yes", "--only", "users", "--replace")
    assert status == 0, problem
    assert client.hget(keys.users, "ada") == "before"
    elsewhere = base / "elsewhere"
    status, output, _ = comfyume("restore", "--base-directory", str(base), "--yes", "--to", str(elsewhere))
    assert status == 0
    assert (elsewhere / "output/user002/0.png").read_bytes() == b"user002 0" * 50
    assert "puts back" not in output


def test_any_of_three_points_in_time_can_be_had(comfyume: Run, store: Any, place: str, base: Path) -> None:
    client, keys = store.client(), Keys(store.workshop)
    points = []
    for number in range(3):
        client.hset(keys.users, f"user{number}", "x")
        write(base / "user/user001/workflows/film.json", b"draft" * (number + 1))
        write(base / f"output/user001/of-{number}.png", b"picture")
        asyncio.run(_submitted(store.url, store.workshop, number))
        snapshot = snapshot_in(comfyume("backup", "--base-directory", str(base))[1])
        kept = asyncio.run(_content(store.url, store.workshop))
        points.append((snapshot, kept, people_of(base)))
    for snapshot, kept, people in (points[0], points[2], points[1]):
        status, _, problem = comfyume("restore", "--base-directory", str(base), "--at", snapshot, "--yes", "--replace")
        assert status == 0, problem
        assert asyncio.run(_content(store.url, store.workshop)) == kept
        assert people.items() <= people_of(base).items()


def test_a_key_that_was_made_up_is_told_loudly_and_kept_for_its_owner_alone(
    comfyume: Run, place: str, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COMFYUME_BACKUP_KEY")
    _, output, told = comfyume("backup", "--base-directory", str(base))
    file = base / "user/__comfyume/backup-key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    words = file.read_text().strip()
    assert words in told
    assert "COPY IT TO ANOTHER PLACE NOW" in told
    assert words not in comfyume("backup", "--base-directory", str(base))[2], "once"
    # A machine that has lost it makes no other one up.
    file.unlink()
    for command in ("backup", "restore", "snapshots"):
        status, _, problem = comfyume(command, "--base-directory", str(base))
        assert status == 1
        assert "Set COMFYUME_BACKUP_KEY to the words that were told" in problem
    assert not file.exists()
    monkeypatch.setenv("COMFYUME_BACKUP_KEY", words)
    assert snapshot_in(output) in comfyume("snapshots", "--base-directory", str(base))[1]


def test_what_cannot_be_done_is_told_and_changes_nothing(comfyume: Run, place: str, base: Path) -> None:
    assert comfyume("backup", "--base-directory", str(base))[0] == 0
    before = people_of(base)
    for arguments, sentence in (
        (["restore", "--at", "soon"], "'soon' names no moment"),
        (["restore", "--at", "2020-01-01"], "No snapshot was taken by 2020-01-01"),
        (["restore", "--only", "output/nobody"], "has nothing at output/nobody"),
        (["restore", "--only", "/etc/shadow"], "has nothing at /etc/shadow"),
        (["restore", "--only", "queue", "--to", "there"], "leave --to out"),
        (["prune", "--keep", "everything"], "says not what to keep"),
        (["prune", "--keep", "24h=24"], "Add --yes"),
    ):
        status, _, problem = comfyume(arguments[0], "--base-directory", str(base), *arguments[1:])
        assert (status, sentence in problem) == (1, True), problem
    assert people_of(base) == before


def test_without_a_place_or_with_another_key_it_is_said_what_to_do(
    comfyume: Run, place: str, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert comfyume("backup", "--base-directory", str(base))[0] == 0
    monkeypatch.setenv("COMFYUME_BACKUP_KEY", "other words")
    assert "is not the one with which the backup" in comfyume("snapshots", "--base-directory", str(base))[2]
    monkeypatch.delenv("COMFYUME_BACKUP")
    assert "set COMFYUME_BACKUP to s3://NAME/PREFIX" in comfyume("backup", "--base-directory", str(base))[2]


def test_old_snapshots_are_removed_when_somebody_agrees(
    comfyume: Run, place: str, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots = [snapshot_in(comfyume("backup", "--base-directory", str(base))[1]) for _ in range(2)]
    monkeypatch.setattr("sys.stdin", Terminal("no\n"))
    assert "Nothing was removed" in comfyume("prune", "--base-directory", str(base), "--keep", "1h=1")[1]
    _, output, problem = comfyume("prune", "--base-directory", str(base), "--keep", "1h=1", "--yes")
    assert "Removed 1 snapshots" in output, problem
    assert snapshots[0] in output
    listed = comfyume("snapshots", "--base-directory", str(base))[1]
    assert (snapshots[0] in listed, snapshots[1] in listed) == (False, True)
