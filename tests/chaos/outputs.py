"""G16: files are on their way to their people when the disk is full, or the line bad; a job that is done has them all.

One room sends its files over HTTP, by the frontend's real routes behind a bad line; two share a folder with their
frontend: on one disk, where a file is given a second name, and on two, where it is copied.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import math
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiohttp import web

from comfyume.blobs.store import BlobFolder
from comfyume.server_routes.worker_files import WorkerFiles
from comfyume.tests.harness.blob_transfers import serving
from comfyume.tests.harness.script_engine import Script, content

from . import checks
from .faulty_link import KINDS, FaultyLink
from .record import Entry, History
from .reports import Report
from .room import Room
from .small_disk import SmallDisk, may_mount, small_disk
from .stage import Stage

KIB = 1024
#: Bytes of files that are sent in one piece, and of those that are sent in several.
SMALL = (1_000, 60_000, 256 * KIB)
LARGE = (256 * KIB + 1, 1_500_000, 4_000_000)
#: Seconds for which a worker waits for a line that does not work; in earnest a quarter of an hour.
PATIENCE = 4.0
#: Faults of a disk, for which one is mounted.
DISK = ("disk full", "no more names", "read only")
KILLED = "worker killed"
#: After these a job may end with an error although they passed.
MAY_FAIL = (*DISK, "damaged small", "damaged large")
#: A shorter word on why a job has failed would help nobody.
SHORTEST_WORD = 20


async def run(stage: Stage, trials: int) -> list[Report]:
    """Spoil the delivery of ``trials`` jobs: three fifths over HTTP, the others in a shared folder."""
    of_shared = math.ceil(trials / 5)
    of_http = max(1, trials - 2 * of_shared)
    histories = await asyncio.gather(
        _over_http(stage, of_http), _in_a_folder(stage, of_shared, "one"), _in_a_folder(stage, of_shared, "two")
    )
    found = [sentence for history in histories for sentence in complaints(history)]
    looks = [entry for history in histories for entry in history.of("looked")]
    ends: dict[str, Counter[str]] = {}
    for entry in looks:
        ends.setdefault(entry.data["fault"], Counter())[entry.data["state"]] += 1
    left = sum(len(checks.left_behind(history)) for history in histories)
    figures = {fault: ", ".join(f"{state} {n}" for state, n in sorted(ends[fault].items())) for fault in sorted(ends)}
    figures["files at the people's that no result names"] = str(left)
    figures["jobs whose node could not write"] = str(sum(len(nodes_that_failed(history)) for history in histories))
    if not may_mount():
        figures[" and ".join(DISK)] = "not tried, since this user may not mount a disk"
    return [
        Report(
            "G16",
            "outputs are all or nothing",
            f"results of 1 kB to 4 MB, one or three to a job, over HTTP and through a shared folder: {', '.join(ends)}",
            len(looks),
            found,
            figures,
        )
    ]


async def _over_http(stage: Stage, trials: int) -> History:
    room = stage.room("http")
    async with contextlib.AsyncExitStack() as stack:
        disk = stack.enter_context(small_disk(room.shared))
        await stack.enter_async_context(room)
        port = await stack.enter_async_context(_frontend(room))
        link = await stack.enter_async_context(FaultyLink(port, room.random))
        environment = room.fleet.environment
        del environment["COMFYUME_SHARED_FOLDER"]
        environment |= {"COMFYUME_FRONTEND_URL": link.url, "CHAOS_TRANSFER_PATIENCE": f"{PATIENCE:g}"}
        await room.add_workers(1)
        faults = [*KINDS, *(DISK if disk is not None else ())]
        for trial in range(trials):
            await _trial(room, faults[trial % len(faults)], disk, link)
        await room.take_stock()
    return room.record.history


@contextlib.asynccontextmanager
async def _frontend(room: Room) -> AsyncIterator[int]:
    """The routes by which a frontend takes results; yields their port."""
    for kind in ("input", "output", "temp"):
        (room.shared / kind).mkdir(exist_ok=True)
    application = web.Application()
    arriving = BlobFolder(room.shared / "arriving")
    files = WorkerFiles(room.queue, room.signatures, lambda _, kind: room.shared / kind, arriving, room.notes)
    files.mount(application.router.add_route)
    async with serving(application) as url:
        yield int(url.rpartition(":")[2])


async def _in_a_folder(stage: Stage, trials: int, disks: str) -> History:
    room = stage.room(f"{disks}-disk")
    async with contextlib.AsyncExitStack() as stack:
        disk = stack.enter_context(small_disk(room.shared / "output" if disks == "two" else room.shared))
        await stack.enter_async_context(room)
        await room.add_workers(1)
        room.fleet.keep()
        faults = (*DISK, KILLED) if disk is not None else (KILLED,)
        for trial in range(trials):
            await _trial(room, faults[trial % len(faults)], disk, None)
        await room.take_stock()
    return room.record.history


async def _trial(room: Room, fault: str, disk: SmallDisk | None, link: FaultyLink | None) -> None:
    """Run one job whose files cannot travel as they should."""
    random = room.random
    sizes = {"damaged small": SMALL, "damaged large": LARGE}.get(fault, SMALL + LARGE)
    script = Script(steps=1, seconds=0.05, files=random.choice((1, 3)), bytes=random.choice(sizes))
    lasts = random.random() < 0.3
    job = await room.submit(script)
    try:
        # Some go wrong already while the job is made ready.
        if random.random() < 0.7:
            await room.in_state(job, "running", "done")
        if fault in KINDS and link is not None:
            link.spoil(fault, math.inf if lasts else random.randint(1, 3))
        elif disk is not None and fault in DISK:
            _spoil_disk(room, disk, fault, script)
        else:
            await _kill_worker(room, job)
        if fault != KILLED and random.random() < 0.5:
            await room.in_state(job, *checks.FINAL, timeout=random.uniform(0.05, 2.5))
            _heal(disk, link)
        await room.in_state(job, *checks.FINAL)
        await _look(room, job, script, fault, may_fail=fault in MAY_FAIL or (lasts and fault != KILLED))
    finally:
        _heal(disk, link)


def _spoil_disk(room: Room, disk: SmallDisk, fault: str, script: Script) -> None:
    if fault == "disk full":
        disk.fill(room.random.randrange(script.files * script.bytes + 1))
    elif fault == "no more names":
        disk.fill_with_names(room.random.randrange(2 * script.files + 2))
    else:
        disk.let_nobody_write()


async def _kill_worker(room: Room, job: str) -> None:
    await room.in_state(job, "running", "done")
    await asyncio.sleep(room.random.uniform(0.04, 0.08))
    worker = room.fleet.workers.get(await room.field(job, "worker"))
    if worker is not None and worker.lives:
        worker.kill()


def _heal(disk: SmallDisk | None, link: FaultyLink | None) -> None:
    if disk is not None:
        disk.heal()
    if link is not None:
        link.heal()


async def _look(room: Room, job: str, script: Script, fault: str, *, may_fail: bool) -> None:
    """Note how a job has ended, and the files that its result names as they are at this moment."""
    state, claim = await room.field(job, "state"), await room.field(job, "claim")
    result: dict[str, Any] = json.loads(await room.field(job, "result") or "{}")
    names = [image["filename"] for node in result.get("outputs", {}).values() for image in node.get("images", [])]
    messages = result.get("status", {}).get("messages", [])
    room.record.note(
        "looked",
        job=job,
        fault=fault,
        state=state,
        may_fail=may_fail,
        found=[await asyncio.to_thread(fingerprint, room.shared / "output" / name) for name in names],
        wanted=[told(content(job, claim, index, script.bytes)) for index in range(script.files)],
        why=messages[-1][1].get("exception_message", "") if messages else "",
    )


def fingerprint(path: Path) -> str:
    """The size and the hash of a file."""
    return told(path.read_bytes()) if path.exists() else "nothing"


def told(data: bytes) -> str:
    """Size and SHA-256."""
    return f"{len(data)} bytes, {hashlib.sha256(data).hexdigest()}"


def complaints(history: History) -> list[str]:
    """What a room has to answer for.

    Half files are there under no name, and only where a worker was killed while it made one; or a node could not write
    on, which leaves them as it does in ComfyUI.
    """
    kills = len(history.of("kill"))
    found = [sentence for entry in history.of("looked") for sentence in all_or_nothing(entry)]
    half = [entry for entry in history.of("file") if not entry.data["right"]]
    hidden = [entry for entry in half if entry.data["name"].startswith(".")]
    for few, most in (
        (hidden, kills),
        ([entry for entry in half if entry not in hidden], len(nodes_that_failed(history))),
    ):
        if len(few) > most:
            found += [f"half a file is left at the people's as {entry.data['name']}" for entry in few]
    seen = History(entry for entry in history if entry not in half)
    return found + checks.sound(seen) + checks.losses_have_a_cause(seen, kills)


def nodes_that_failed(history: History) -> list[Entry]:
    """The jobs that ended since a node could not write."""
    return [entry for entry in history.of("looked") if entry.data["why"].startswith("[Errno")]


def all_or_nothing(entry: Entry) -> list[str]:
    """A job that is done has each of its files, right; one that has failed names none and says why."""
    job, state, fault = entry.job, entry.data["state"], entry.data["fault"]
    found = []
    if state not in ("done", "error"):
        found.append(f"job {job} is {state or 'missing'} ({fault})")
    if state == "done" and sorted(entry.data["found"]) != sorted(entry.data["wanted"]):
        found.append(f"job {job} is done ({fault}) with {entry.data['found']}, not {entry.data['wanted']}")
    if state == "error" and entry.data["found"]:
        found.append(f"job {job} has failed ({fault}) and names files")
    if state == "error" and len(entry.data["why"]) < SHORTEST_WORD:
        found.append(f"job {job} has failed ({fault}) and says no more than {entry.data['why']!r}")
    if state == "error" and not entry.data["may_fail"]:
        found.append(f"job {job} has failed although the fault ({fault}) passed: {entry.data['why']}")
    return found
