"""A worker's user does all that workers do, and may do nothing else in the store; `comfyume workers` makes it."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.exceptions import NoPermissionError, ResponseError

from comfyume.accounts.sessions import Sessions
from comfyume.accounts.users import Users
from comfyume.commands.main import main
from comfyume.job_queue import rights, worker_queue
from comfyume.job_queue.catalogue import Catalogue, CatalogueStore
from comfyume.job_queue.connection import check, connect, connect_async, connect_listening
from comfyume.job_queue.errors import ClaimLost, StoreRefused
from comfyume.job_queue.jobs import Policy
from comfyume.job_queue.keys import CHANNELS_OF_WORKERS, KEYS_OF_WORKERS, Keys
from comfyume.job_queue.scripts import source
from comfyume.job_queue.worker_queue import Claims, Reports
from comfyume.tests.harness.package import ROOT
from comfyume.tests.harness.processes import RedisServer
from comfyume.tests.harness.room import ADA, Room, Worker, event, on_both_stores, program_of, until
from comfyume.tests.integration.conftest import Run
from comfyume.worker_mode.control import Control
from comfyume.worker_mode.overdue import Overdue

pytestmark = pytest.mark.integration

#: A name in which a dot stands for itself alone.
WORKSHOP = "work.shop"
#: Commands that every user may send: they tell who it is.
OF_ANYBODY = {"auth", "hello", "quit", "reset"}
#: What a store says when a script lacks a right.
BY_SCRIPT = r"can't access at least one of the keys|ACL failure in script"
CATALOGUE = Catalogue({"A": {}}, {}, frozenset(), {"checkpoints": ["a.safetensors"]}, {"pack": {"a.js": "0" * 64}})
X, Y = frozenset({"node:A", "model:checkpoints/x"}), frozenset({"node:A", "model:checkpoints/y"})


@pytest.fixture
def server(short_folder: Path, kind: str) -> Iterator[RedisServer]:
    with RedisServer(short_folder / uuid.uuid4().hex[:8], program=program_of(kind), fsync="no") as running:
        yield running


class Restricted:
    """A workshop, and what its workers' user reaches of it."""

    def __init__(self, room: Room, url: str) -> None:
        self.room = room
        self.url = url
        self.client = connect_async(url)
        self.listening = connect_listening(url)
        self.raw: Any = connect(url)
        self._clients: list[Any] = [self.raw]

    async def worker(self, name: str = "w1", *, former_is_dead: bool = False, **options: Any) -> Worker:
        """A worker that reaches the store as this user alone."""
        worker = await self.room.worker(name, register=False, **options)
        worker.claims._client.close()
        worker.claims = Claims(self.url, self.room.keys, worker.identity)
        self._clients.append(worker.claims._client)
        worker.reports = Reports(self.client, self.room.keys, worker.identity, history_size=2, history_days=30)
        await worker.register(former_is_dead=former_is_dead)
        return worker

    async def close(self) -> None:
        for client in self._clients:
            client.close()
        await self.client.aclose()
        await self.listening.aclose()


@pytest.fixture
async def restricted(server: RedisServer) -> AsyncIterator[Restricted]:
    async with Room(server.url, WORKSHOP, history_size=2) as room:
        restricted = Restricted(room, server.worker_url(WORKSHOP))
        yield restricted
        await restricted.close()


@on_both_stores
@pytest.mark.parametrize("mode", ["fifo", "round_robin", "fair"])
async def test_a_worker_does_all_its_work(restricted: Restricted, mode: Any) -> None:
    room = restricted.room
    check(restricted.url)
    catalogues = CatalogueStore(restricted.client, room.keys)
    await catalogues.store(CATALOGUE)
    await catalogues.store_script("0" * 64, b"export default 1")
    await room.queue.configure(Policy(mode=mode))
    worker, other = await restricted.worker("w1", can=X | Y), await restricted.worker("w2", can=X)
    for needs in (X, Y, X, Y):
        for user in (ADA, "ben"):
            await room.submit(user=user, needs=needs)
    first = await worker.take()
    await worker.append(first, event(1), event(2, keep=False))
    await worker.reports.publish(first.claim, worker.batch(first, event(3, keep=False)))
    await worker.reports.make_sure(first.job_id, first.claim)
    assert await worker.renew(first) == "ok"
    job, done = first, [first.job_id]
    while (following := await worker.finish_and_go_on(job, room=2**30)) is not None:
        job = following
        done.append(job.job_id)
    assert len(set(done)) == 8
    assert set(await room.queue.history_ids(ADA)) <= set(done), "history has a bound, which the worker keeps"
    assert len(await room.queue.history_ids(ADA)) == 2
    await other.reports.leave()
    waiting = asyncio.create_task(worker.next(5.0))
    await until(lambda: room.raw.hexists(room.key("idle"), worker.name))
    job_id = await room.submit()
    handed = await waiting
    assert handed is not None
    assert handed.job_id == job_id
    successor = await restricted.worker("w1", former_is_dead=True)
    assert await room.queue.sweep() == ([job_id], [])
    with pytest.raises(ClaimLost):
        await worker.finish(handed)
    await successor.take()
    assert await successor.reports.leave() == job_id, "what is not done goes back"


@on_both_stores
async def test_cancellations_and_questions_reach_a_worker(restricted: Restricted) -> None:
    room = restricted.room
    worker = await restricted.worker()
    job_id = await room.submit()
    job = await worker.take()
    heard: list[dict[str, Any]] = []

    async def note(message: dict[str, Any]) -> str:
        heard.append(message)
        return "as asked"

    control = Control(restricted.listening, room.keys, worker.name, {"cancel": note, "validate": note})
    listening = asyncio.create_task(control.run())
    try:
        await until(lambda: room.raw.pubsub_numsub(room.keys.control_channel)[0][1] == 1)
        await room.queue.cancel(ADA, [job_id])
        await until(lambda: heard)
        assert (heard[0]["job"], heard[0]["claim"]) == (job_id, job.claim)
        assert await worker.renew(job) == "cancel"
        async with room.client.pubsub() as replies:
            await replies.subscribe(room.keys.replies_channel("f1"))
            assert (await replies.get_message(timeout=5) or {})["type"] == "subscribe"
            asked = {"kind": "validate", "reply_to": "f1", "id": 7}
            await room.client.publish(room.keys.control_channel, json.dumps(asked))
            reply = await replies.get_message(timeout=5)
        assert reply is not None
        assert json.loads(reply["data"]) == {"id": 7, "answer": "as asked"}
    finally:
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening
    await worker.finish(job, "cancelled")
    assert room.state(job_id) == "cancelled"


@on_both_stores
async def test_a_heartbeat_ends_what_hangs_and_the_sweep_is_for_frontends(restricted: Restricted) -> None:
    room = restricted.room
    worker = await restricted.worker()
    job_id = await room.submit()
    job = await worker.take()
    await worker.append(job, event(1))
    await worker.reports.wake()
    overdue = Overdue(restricted.raw, room.keys, 5.0, [2, 1000])
    assert await asyncio.to_thread(overdue.end, job_id, job.claim)
    assert room.state(job_id) == "error"
    lost = await room.submit()
    await worker.take()
    await room.let_lease_run_out(lost)
    with pytest.raises((ResponseError, StoreRefused), match=BY_SCRIPT):
        await worker.run_script("sweep", 3, 2, 1000, 1000)
    assert await room.queue.sweep() == ([lost], [])


@on_both_stores
async def test_a_worker_reads_and_changes_nothing_else(restricted: Restricted) -> None:
    room, keys = restricted.room, restricted.room.keys
    await room.one_job_done(await restricted.worker())
    await Users(room.client, keys).add("ines", "instructor", "hash")
    await Sessions(room.client, keys).begin("ines", "a browser")
    forbidden = {
        *(keys.users, keys.sessions_of("ines"), *room.raw.scan_iter(keys.session("*"))),
        *(keys.failures("ines"), keys.browser("tab"), keys.activity, keys.catalogues_seen),
        *(keys.prefix + name for name in ("submitted", "swept", "grant:1", "jobs", "xjob:1", "no such name")),
        *(Keys(name).job("j") for name in ("workXshop", "work.shop2", "xwork.shop", "other", "*")),
        *("elsewhere", "comfyume:{work.shop}", "xcomfyume:{work.shop}:job:j", "comfyume:", ""),
    }
    assert len(forbidden) == 23
    for key in forbidden:
        for command in ("EXISTS", "GET", "HGETALL", "SMEMBERS", "DEL"):
            with pytest.raises(NoPermissionError):
                restricted.raw.execute_command(command, key)
        # A script is no way round: it has the rights of whoever runs it.
        steal = restricted.raw.register_script("return redis.call('EXISTS', ARGV[1])")
        with pytest.raises((ResponseError, StoreRefused), match=BY_SCRIPT):
            steal(keys=[keys.prefix], args=[key])
    for key in room.raw.scan_iter("*"):
        name = key.decode().removeprefix(keys.prefix)
        if re.sub(":.*", ":*", name) in KEYS_OF_WORKERS:
            assert restricted.raw.exists(key)
        else:
            with pytest.raises(NoPermissionError):
                restricted.raw.exists(key)
    with pytest.raises(NoPermissionError):
        restricted.raw.publish(Keys("other").events_channel, "x")


#: What must never be among the rules, whatever else they come to be.
FORBIDDEN_LINES = (
    *("KEYS *", "SCAN 0", "RANDOMKEY", "FLUSHALL", "FLUSHDB", "CONFIG GET *", "ACL LIST", "CLIENT LIST", "SHUTDOWN"),
    *("MONITOR", "EVAL 1 0", "SCRIPT FLUSH", "INFO", "INFO all", "SELECT 1", "PSUBSCRIBE *", "DUMP x", "SAVE", "ROLE"),
)


@on_both_stores
async def test_no_other_command_may_be_sent(restricted: Restricted) -> None:
    with connect(restricted.room.url) as administrator:
        allowed = {name for name, words in words_of_commands(administrator) if may_send(administrator, name, words)}
    assert allowed - OF_ANYBODY == set(rights.COMMANDS) - {"info|memory"}
    for line in FORBIDDEN_LINES:
        with pytest.raises(NoPermissionError):
            restricted.raw.execute_command(*line.split())


def words_of_commands(client: Any) -> Iterator[tuple[str, int]]:
    """The store's commands, and how many words each has at least; subcommands instead of what they belong to."""
    names = {name.decode() for name in client.execute_command("COMMAND LIST")}
    for name in names - {name.partition("|")[0] for name in names if "|" in name}:
        yield name, abs(client.execute_command("COMMAND INFO", name)[0][1])


def may_send(client: Any, command: str, words: int) -> bool:
    """Whether the workers' user may send a command, if not for every key."""
    trial = command.split("|")
    answer = client.execute_command("ACL", "DRYRUN", f"worker-{WORKSHOP}", *trial, *["x"] * (words - len(trial)))
    return b"to run" not in answer


def test_the_rules_are_what_the_scripts_and_the_code_of_workers_use() -> None:
    text = "\n".join(map(source, rights.SCRIPTS))
    assert set(rights.IN_SCRIPTS) == {command.lower() for command in re.findall(r"redis\.call\('(\w+)'", text)}
    channels = set(re.findall(r"'PUBLISH', key\('([a-z-]+)'\)", text))
    text = re.sub(r"'PUBLISH', key\('[a-z-]+'\)", "", text)
    used = {name + (":*" if end == "," else "") for name, end in re.findall(r"key\('([a-z-]+)'([,)])", text)}
    requests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "worker_mode").glob("*.py"))
    requests += inspect.getsource(worker_queue)
    requests += inspect.getsource(CatalogueStore.store) + inspect.getsource(CatalogueStore.store_script)
    keys = Keys("w")
    for name in set(re.findall(r"\b_?keys\.(\w+)", requests)) - {"prefix", "workshop"}:
        key = getattr(keys, name)
        pattern = (key("*") if callable(key) else key).removeprefix(keys.prefix)
        (channels if name.endswith("_channel") else used).add(pattern)
    assert used == set(KEYS_OF_WORKERS)
    assert channels == set(CHANNELS_OF_WORKERS)


@pytest.fixture
def comfyume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("COMFYUI_PATH", raising=False)

    def run(url: str, *arguments: str, workshop: str = WORKSHOP) -> tuple[int, str, str]:
        monkeypatch.setenv("COMFYUME_REDIS_URL", url)
        monkeypatch.setenv("COMFYUME_WORKSHOP", workshop)
        status = main(["workers", *arguments])
        output = capsys.readouterr()
        return status, output.out, output.err

    return run


def address_in(output: str) -> str:
    return re.findall(r"^COMFYUME_REDIS_URL=(\S+)$", output, re.M)[0]


@on_both_stores
def test_a_user_is_allowed_changed_and_disallowed(comfyume: Run, server: RedisServer) -> None:
    status, output, told = comfyume(server.url, "allow", "gpu1")
    assert status == 0
    assert "worker-gpu1 may now do in the workshop work.shop what workers do." in output
    assert "The store forgets this user when it starts anew" in output
    assert "set COMFYUME_SECRET to the same words on all of them" in told
    assert "give it a password (requirepass)" in told
    url = address_in(output)
    assert url.startswith("redis://worker-gpu1:")
    with connect(url) as client, server.client() as admin:
        client.blpop(Keys(WORKSHOP).inbox("w"), 0.01)
        # As a user of an earlier version, whose workers did less.
        admin.execute_command("ACL", "SETUSER", "worker-gpu1", "-blpop")
        with pytest.raises(NoPermissionError):
            client.blpop(Keys(WORKSHOP).inbox("w"), 0.01)
        status, output, _ = comfyume(server.url, "allow", "gpu1")
        assert "worker-gpu1 are up to date; its password is what it was" in output
        client.blpop(Keys(WORKSHOP).inbox("w"), 0.01)
        assert comfyume(server.url, "allow", "gpu1", workshop="other")[0] == 1
        assert comfyume(server.url, "disallow", "gpu1", workshop="other")[0] == 1
        client.blpop(Keys(WORKSHOP).inbox("w"), 0.01)
        renewed = address_in(comfyume(server.url, "allow", "gpu1", "--new-password")[1])
        with pytest.raises(redis.ConnectionError):
            client.ping()
        with pytest.raises(redis.AuthenticationError):
            client.ping()
    with connect(renewed) as client:
        client.ping()
        assert "Removed worker-gpu1" in comfyume(server.url, "disallow", "gpu1")[1]
        with pytest.raises(redis.ConnectionError):
            client.ping()
    status, _, problem = comfyume(server.url, "disallow", "gpu1")
    assert (status, problem) == (1, "comfyume: The store has no user worker-gpu1.\n")


@on_both_stores
def test_a_store_with_a_file_of_users_keeps_them(comfyume: Run, short_folder: Path, kind: str) -> None:
    file = short_folder / f"{uuid.uuid4().hex[:8]}.acl"
    file.touch()
    folder = short_folder / uuid.uuid4().hex[:8]
    with RedisServer(folder, port=None, program=program_of(kind), options={"aclfile": str(file)}) as server:
        _, output, _ = comfyume(f"{server.url}?db=2", "allow")
        assert "forgets" not in output
        url = address_in(output)
        assert url == f"unix://worker-{WORKSHOP}:{url.split(':')[2].split('@')[0]}@{server.socket}?db=2"
        server.restart()
        check(url)
        comfyume(server.url, "disallow", WORKSHOP)
        server.restart()
        with pytest.raises(StoreRefused):
            check(url)


@on_both_stores
def test_a_printed_command_makes_the_user_on_a_store_of_somebody_else(comfyume: Run, server: RedisServer) -> None:
    status, output, _ = comfyume("rediss://:secret@store.example:6380/1", "acl", "gpu1")
    assert status == 0
    line, address = output.splitlines()
    password = address.removeprefix("COMFYUME_REDIS_URL=rediss://worker-gpu1:").partition("@")[0]
    assert address.endswith("@store.example:6380/1")
    assert "secret" not in output
    with server.client() as admin:
        assert admin.execute_command(*line.split()) == "OK"
    check(f"redis://worker-gpu1:{password}@127.0.0.1:{server.port}/1")
    with pytest.raises(StoreRefused):
        check(f"redis://worker-gpu1:{password}@127.0.0.1:{server.port}/2")


@on_both_stores
def test_a_store_that_refuses_is_told_of_in_a_sentence(comfyume: Run, server: RedisServer) -> None:
    status, _, problem = comfyume(server.worker_url(WORKSHOP), "allow", "gpu1")
    assert status == 1
    assert "may not change who may use the store" in problem
    assert "`comfyume workers acl`" in problem
    assert "does not answer" in comfyume("redis://127.0.0.1:1", "allow")[2]
    assert "COMFYUME_REDIS_URL names no store" in comfyume("", "allow")[2]
    assert "COMFYUME_REDIS_URL=redis://worker-work.shop:" in comfyume("", "acl")[1]


def test_a_store_without_users_is_told_of_in_a_sentence(comfyume: Run, short_folder: Path) -> None:
    folder = short_folder / uuid.uuid4().hex[:8]
    folder.mkdir()
    configuration = folder / "own.conf"
    configuration.write_text('rename-command ACL ""\n')
    with RedisServer(folder, options={"include": str(configuration)}, program="redis-server") as server:
        status, _, problem = comfyume(server.url, "allow")
    assert status == 1
    assert "This store has no users (ACL)" in problem
