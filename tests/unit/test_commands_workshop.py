"""The steps of `comfyume workshop`: folders, arguments, ports, the lock, the store and the waiting."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
from pathlib import Path

import aiohttp
import pytest

from comfyume.commands import comfyui_process, workshop
from comfyume.commands.child_process import ChildProcess, stop_all
from comfyume.commands.comfyui_install import ComfyUI
from comfyume.commands.comfyui_process import Workshop
from comfyume.commands.errors import CommandError
from comfyume.commands.source_tree import ROOT


@pytest.fixture
def plan(tmp_path) -> Workshop:
    comfyui = ComfyUI(tmp_path / "ComfyUI", "0.33.0", Path(sys.executable))
    return Workshop(comfyui, tmp_path / "state", "unix:///run/store.sock", 8188)


def argument(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_a_frontend_has_folders_of_its_own_and_no_gpu(plan):
    command = comfyui_process.frontend_command(plan)
    base = plan.state / "frontend"
    assert argument(command, "--base-directory") == str(base)
    assert argument(command, "--listen") == "127.0.0.1"
    assert argument(command, "--database-url").startswith(f"sqlite:///{base}")
    assert "--cpu" in command
    assert (base / "custom_nodes" / "comfyume").resolve() == ROOT
    assert (base / "user").is_dir(), "ComfyUI refuses a user directory that does not exist"


def test_two_workers_share_no_folder_that_they_write(plan):
    commands = [comfyui_process.worker_command(plan, index, 9000 + index, gpus=0) for index in (1, 2)]
    for name in ("--port", "--database-url", "--user-directory", "--temp-directory", "--output-directory"):
        assert argument(commands[0], name) != argument(commands[1], name)
    assert all("--base-directory" not in command for command in commands), "models and node packs are ComfyUI's own"


def test_a_worker_uses_the_gpu_where_there_is_one(plan):
    assert "--cpu" in comfyui_process.worker_command(plan, 1, 9001, gpus=0)
    assert "--cpu" not in comfyui_process.worker_command(plan, 1, 9001, gpus=1)


def test_a_worker_finds_the_extension_where_comfyui_has_none(plan):
    command = comfyui_process.worker_command(plan, 1, 9001, gpus=0)
    text = Path(argument(command, "--extra-model-paths-config")).read_text()
    folder = Path(text.split("custom_nodes: ")[1].strip().strip('"'))
    assert [entry.name for entry in folder.iterdir()] == ["comfyume"]
    assert (folder / "comfyume").resolve() == ROOT


def test_an_extension_that_comfyui_has_is_not_loaded_twice(plan):
    pack = plan.comfyui.folder / "custom_nodes" / "comfyume"
    pack.mkdir(parents=True)
    shutil.copy(ROOT / "pyproject.toml", pack)
    assert "--extra-model-paths-config" not in comfyui_process.worker_command(plan, 1, 9001, gpus=0)
    comfyui_process.frontend_command(plan)
    assert (plan.state / "frontend" / "custom_nodes" / "comfyume").resolve() == pack


def test_the_roles_are_set_whatever_the_persons_environment_says(plan):
    environ = {"COMFYUME_MODE": "off", "COMFYUME_REDIS_URL": "redis://elsewhere", "COMFYUME_LEASE": "45"}
    frontend = comfyui_process.frontend_environment(plan, environ)
    worker = comfyui_process.worker_environment(plan, 2, 0, environ)
    assert (frontend["COMFYUME_MODE"], worker["COMFYUME_MODE"]) == ("frontend", "worker")
    assert frontend["COMFYUME_REDIS_URL"] == worker["COMFYUME_REDIS_URL"] == "unix:///run/store.sock"
    assert frontend["COMFYUME_SHARED_FOLDER"] == worker["COMFYUME_SHARED_FOLDER"]
    assert worker["COMFYUME_WORKER_ID"] == "workshop-2"
    assert frontend["COMFYUME_LEASE"] == worker["COMFYUME_LEASE"] == "45"


def test_workers_take_turns_on_the_gpus(plan):
    chosen = [comfyui_process.worker_environment(plan, index, 2, {})["CUDA_VISIBLE_DEVICES"] for index in (1, 2, 3)]
    assert chosen == ["0", "1", "0"]


def test_what_lies_in_the_way_of_the_link_is_left_alone(tmp_path):
    (tmp_path / "comfyume").mkdir()
    with pytest.raises(CommandError, match="is in the way"):
        comfyui_process.link_extension(tmp_path, ROOT)


def test_a_taken_port_leads_to_the_next():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert comfyui_process.free_port(port) > port


def test_two_workshops_do_not_share_a_folder(tmp_path):
    with (
        workshop.locked(tmp_path / "state"),
        pytest.raises(CommandError, match="already runs"),
        workshop.locked(tmp_path / "state"),
    ):
        pass
    with workshop.locked(tmp_path / "state"):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandError, match="--state"), workshop.locked(tmp_path / "file" / "state"):
        pass


def test_the_store_runs_as_long_as_the_workshop(tmp_path):
    import redis

    with workshop.running_store(tmp_path / "store") as store, redis.Redis.from_url(store.url) as client:
        assert client.ping()
        with redis.Redis.from_url(workshop.worker_url(store, "default")) as worker:
            assert worker.ping()
            with pytest.raises(redis.exceptions.NoPermissionError):
                worker.hgetall("comfyume:{default}:users")
    with redis.Redis.from_url(store.url) as client, pytest.raises(redis.ConnectionError):
        client.ping()


def test_frontend_and_workers_have_the_same_secret_though_their_passwords_differ(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = workshop.settings_of({})
    found = workshop.with_secret(settings, {"COMFYUME_SECRET": "", "A": "b"})
    assert found["A"] == "b"
    assert len(found["COMFYUME_SECRET"]) > 30
    assert workshop.with_secret(settings, {}) == {"COMFYUME_SECRET": found["COMFYUME_SECRET"]}, "after a restart too"
    told = {"COMFYUME_SECRET": "correct horse"}
    assert workshop.with_secret(workshop.settings_of(told), told) == told


def test_a_machine_that_keeps_no_secret_still_has_workshops(tmp_path, monkeypatch):
    (tmp_path / ".config").write_text("in the way")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert workshop.with_secret(workshop.settings_of({}), {"A": "b"}) == {"A": "b"}


def test_a_wrong_setting_is_named_before_anything_starts():
    assert workshop.settings_of({"COMFYUME_MODE": "nonsense", "COMFYUME_REDIS_URL": "nonsense"}).workshop == "default"
    with pytest.raises(CommandError, match="COMFYUME_WORKSHOP: use 1 to 64 letters"):
        workshop.settings_of({"COMFYUME_WORKSHOP": "a/b"})


async def test_a_step_that_takes_too_long_fails_by_name():
    async def never() -> bool:
        return False

    with pytest.raises(CommandError, match=r"The frontend was not ready after 0\.3 s"):
        await workshop.wait_until("frontend", never, 0.3)


async def test_waiting_ends_when_a_process_does(tmp_path):
    child = ChildProcess(
        "frontend", [sys.executable, "-c", "raise SystemExit(4)"], tmp_path / "log", os.environ, tmp_path
    )
    try:
        with pytest.raises(CommandError, match="The frontend ended with exit status 4"):
            await asyncio.wait_for(workshop.while_alive([child], asyncio.sleep(60)), 15)
    finally:
        stop_all([child], grace=0)


async def test_an_address_where_nothing_listens_gives_no_answer():
    async with aiohttp.ClientSession() as session:
        assert await workshop.answer(session, f"http://127.0.0.1:{comfyui_process.free_port()}/prompt") is None
