"""G6: the store does what it is asked, and the answer is lost on the way, once or twice in a row."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter

from comfyume.job_queue.connection import connect_async
from comfyume.job_queue.frontend_queue import FrontendQueue
from comfyume.job_queue.scripts import source
from comfyume.tests.harness.processes import free_port
from comfyume.tests.harness.script_engine import Script

from . import checks
from .cutting import CuttingProxy
from .insisting import insist
from .record import History
from .reports import Report
from .room import HISTORY, USER, Room
from .stage import Stage, spread

SCRIPTS = ("submit", "claim", "finish", "renew", "cancel", "append_events")
#: A worker waits by this; its reply is a job.
HANDED_OVER = "BLPOP"
ALL = (*SCRIPTS, HANDED_OVER)
WORKERS = 2
#: Rooms at once.
ROOMS = 10
#: Tries for each reply that is to be lost: an answer may be another than expected, or come when nobody loses it.
MOST_TRIES = 3


async def run(stage: Stage, trials: int) -> list[Report]:
    """Lose at least ``trials`` replies to every script."""

    async def in_room(index: int, share: int) -> tuple[History, Counter[str], list[str]]:
        return await _room(stage, index, share)

    outcomes = await spread(trials, ROOMS if stage.is_full else 1, in_room)
    lost: Counter[str] = Counter()
    found: list[str] = []
    for history, lost_there, violations in outcomes:
        lost += lost_there
        found += violations + checks.sound(history) + ran_once(history)
    found += [f"only {lost[script]} replies to {script} were lost" for script in ALL if lost[script] < trials]
    return [
        Report(
            "G6",
            "a lost reply changes nothing",
            "the connection is cut when the request was forwarded, once or twice in a row",
            lost.total(),
            found,
            {
                "given to another worker": str(sum(len(history.of("requeued")) for history, _, _ in outcomes)),
                "lost replies": ", ".join(f"{script} {lost[script]}" for script in ALL),
            },
        )
    ]


async def _room(stage: Stage, index: int, trials: int) -> tuple[History, Counter[str], list[str]]:
    """What happened, how many replies were lost to each script, and what was left in the store."""
    port = free_port()
    lost: Counter[str] = Counter()
    name = f"lost-replies-{index}"
    async with CuttingProxy(port) as proxy, stage.room(name, port=port, worker_url=proxy.url) as room:
        await room.add_workers(WORKERS)
        client = connect_async(proxy.url)
        queue = FrontendQueue(client, room.keys, history_size=HISTORY, history_days=1.0)
        await _use_every_script(room, queue)
        for _ in range(MOST_TRIES * trials):
            for script in ALL:
                if lost[script] >= trials:
                    continue
                before = proxy.cuts
                await _trial(room, queue, proxy, script)
                lost[script] += proxy.cuts - before
        await room.all_ended(checks.acknowledged(room.record.history))
        found = [f"{name} still has {left}" for name, left in (await _leftovers(room)).items() if left]
        await room.take_stock()
        await client.aclose()
    return room.record.history, lost, found


async def _use_every_script(room: Room, queue: FrontendQueue) -> None:
    """Let the store know the scripts: the answer to lose is that of a script, not that it is unknown."""
    for script in (Script(steps=1, seconds=0.01), Script(steps=2_000)):
        asked = room.submission(script)
        with room.record.operation("submit", job=asked.job_id, files=1):
            await queue.submit(asked)
        if script.steps > 1:
            await room.in_state(asked.job_id, "running")
            await queue.cancel(USER, [asked.job_id])
        await room.in_state(asked.job_id, *checks.FINAL)


def sha_of(script: str) -> bytes:
    """The name by which a request calls a script."""
    return hashlib.sha1(source(script).encode(), usedforsecurity=False).hexdigest().encode()


async def _trial(room: Room, queue: FrontendQueue, proxy: CuttingProxy, script: str) -> None:
    token = script.encode() if script == HANDED_OVER else sha_of(script)
    is_cancel = script == "cancel"
    # A cancelled job would run on and on; all others take longer than one heartbeat.
    asked = room.submission(Script(steps=2_000 if is_cancel else 2, seconds=0.02 if script != "renew" else 0.4))

    async def submit() -> None:
        await queue.submit(asked)

    async def cancel() -> None:
        await queue.cancel(USER, [asked.job_id])

    if not is_cancel:
        proxy.lose_reply_to(token, room.random.choice([1, 1, 2]))
    if script in ("claim", HANDED_OVER):
        # Idle workers ask anew; else they would wait for some seconds.
        for name in await room.live_names():
            await room.raw.rpush(room.keys.inbox(name), b"")
        await room.comes(lambda: _is_through(proxy), 5)
    with room.record.operation("submit", job=asked.job_id, files=1, loses=script):
        await insist(submit)
    if is_cancel:
        await room.in_state(asked.job_id, "running")
        await asyncio.sleep(room.random.uniform(0, 0.1))
        proxy.lose_reply_to(token, room.random.choice([1, 1, 2]))
        with room.record.operation("cancel", job=asked.job_id, taken=True):
            await insist(cancel)
    await room.in_state(asked.job_id, *checks.FINAL)
    if script == "renew":
        await room.comes(lambda: _is_through(proxy), 3)
    proxy.disarm()


async def _is_through(proxy: CuttingProxy) -> bool:
    return not proxy.is_armed


async def _leftovers(room: Room) -> dict[str, int]:
    """How many jobs stand where none may when all have ended."""
    prefix = room.keys.prefix
    return {
        "the set of running jobs": await room.raw.scard(f"{prefix}running"),
        "the queue": await room.raw.zcard(f"{prefix}queued"),
        "the person's list": await room.raw.zcard(room.keys.active(USER)),
    }


def ran_once(history: History) -> list[str]:
    """Each job was begun once, by its first attempt."""
    runs = Counter(entry.job for entry in history.of("run begin"))
    found = [f"job {job} ran {runs[job]} times" for job in checks.acknowledged(history) if runs[job] != 1]
    for entry in history.of("final"):
        if entry.data["attempt"] != "1" or entry.data["lost"]:
            found.append(f"job {entry.job} took {entry.data['attempt']} attempts")
    return found
