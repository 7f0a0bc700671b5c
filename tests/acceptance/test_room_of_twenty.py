"""A whole room on three real workers, one of which is killed twice: all is done once, and in fair order."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from comfyume.job_queue.connection import connect_async
from comfyume.job_queue.frontend_queue import FrontendQueue
from comfyume.job_queue.jobs import Submission
from comfyume.job_queue.keys import Keys
from comfyume.shared_folder import read_mark
from comfyume.tests.harness import graphs
from comfyume.tests.harness.discovery import ComfyInstall
from comfyume.tests.harness.package import ROOT
from comfyume.tests.harness.pair import Pair

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.alone,
    pytest.mark.timeout(400),
    pytest.mark.parametrize("comfyui", ["new"], indirect=True, scope="session"),
]

PEOPLE = [f"user{number:02}" for number in range(20)]
NODE_PACK = ROOT / "benchmarks" / "node_packs" / "benchmark_nodes"
SECONDS = 1.0


def prompt_of(user: str, index: int) -> dict[str, Any]:
    graph = graphs.image(f"{user}-{index}", color=graphs.number() % 2**24)
    graph["3"] = graphs.node("BenchmarkSleep", image=["1", 0], seconds=SECONDS)
    graph["2"]["inputs"]["images"] = ["3", 0]
    return graph


def submission(shared: Path, user: str, index: int) -> Submission:
    """What a frontend makes of a person's prompt; each has folders of their own."""
    prompt = prompt_of(user, index)
    folders = {kind: f"people/{user}/{kind}" for kind in ("input", "output", "temp")}
    for folder in folders.values():
        (shared / folder).mkdir(parents=True, exist_ok=True)
    return Submission(
        job_id=str(uuid.uuid4()),
        user=user,
        order="back",
        payload={"prompt": prompt, "extra_data": {"client_id": user}, "outputs": ["2"]},
        secrets=b"",
        envelope={"shared": {"mark": read_mark(shared), "folders": folders}, "files": []},
        brief={"extra_data": {}},
        client=user,
        needs=frozenset(f"node:{node['class_type']}" for node in prompt.values()),
    )


async def until(condition: Callable[[], Awaitable[Any]], timeout: float) -> Any:
    deadline = time.monotonic() + timeout
    while not (found := await condition()):
        assert time.monotonic() < deadline, "it did not come true"
        await asyncio.sleep(0.05)
    return found


async def test_a_room_whose_worker_is_killed_twice_gets_all_it_asked_for(comfyui: ComfyInstall, tmp_path: Path) -> None:
    env = {"COMFYUME_LEASE": "4"}
    pair = Pair(comfyui, tmp_path / "pair", workers=3, transport="shared", env=env, worker_node_packs=[NODE_PACK])
    shared = tmp_path / "pair" / "shared"
    await asyncio.to_thread(pair.start)
    client: Any = connect_async(pair.store.url)
    keys = Keys(pair.workshop)
    queue = FrontendQueue(client, keys, history_size=1000, history_days=30)
    try:
        asked = [submission(shared, user, index) for index in range(2) for user in PEOPLE]
        began = time.monotonic()
        await asyncio.gather(*(queue.submit(each) for each in asked))

        async def job_of_the_unlucky() -> Any:
            return await client.hget(keys.worker("worker0"), "job")

        for _ in range(2):
            await until(job_of_the_unlucky, 90)
            pair.worker.kill()
            await asyncio.to_thread(lambda: pair.worker.start().wait_ready())

        async def all_ended() -> bool:
            return not [user for user in PEOPLE if await queue.count_active(user)]

        await until(all_ended, 200)
        print(f"40 prompts of {SECONDS:g} s on three workers, one killed twice: {time.monotonic() - began:.1f} s")
        await check_results(queue, asked, shared)
        await check_order(client, keys, asked)
    finally:
        await client.aclose()
        await asyncio.to_thread(pair.stop)


async def check_results(queue: FrontendQueue, asked: list[Submission], shared: Path) -> None:
    """Each job is done, stands once in its person's history, and its one file lies in its person's folder."""
    for user in PEOPLE:
        mine = [each.job_id for each in asked if each.user == user]
        assert Counter(await queue.history_ids(user)) == Counter(mine)
        names = []
        for job in (await queue.finished(user, mine)).values():
            assert job.result is not None
            assert job.result["status"]["completed"]
            names += [image["filename"] for image in job.result["outputs"]["2"]["images"]]
        files = [path.name for path in (shared / "people" / user / "output").iterdir()]
        assert sorted(files) == sorted(names) == [f"{user}-{index}_00001_.png" for index in range(2)]


async def check_order(client: Any, keys: Keys, asked: list[Submission]) -> None:
    """Nobody's second prompt began before somebody's first; who lost a worker was served again and is not counted."""
    begun: dict[str, list[int]] = {}
    lost = set()
    for each in asked:
        claimed, attempt = await client.hmget(keys.job(each.job_id), "claimed", "attempt")
        begun.setdefault(each.user, []).append(int(claimed))
        if int(attempt) > 1:
            lost.add(each.user)
    print(f"{len(lost)} people lost a worker")
    assert lost
    counted = {user: sorted(times) for user, times in begun.items() if user not in lost}
    assert max(times[0] for times in counted.values()) <= min(times[1] for times in counted.values())
