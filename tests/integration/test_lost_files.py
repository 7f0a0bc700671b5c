"""Files of attempts that were lost are taken back from the people; all others stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from comfyume.blobs.delivery_notes import DeliveryNote, DeliveryNotes
from comfyume.job_queue.jobs import ClaimedJob
from comfyume.server_routes.lost_files import LostFiles
from comfyume.tests.harness.room import ADA, Room

pytestmark = pytest.mark.integration


class People:
    """A person's folder, what is noted of it, and who looks after it."""

    def __init__(self, room: Room, folder: Path) -> None:
        self.output = folder / "output"
        self.output.mkdir()
        self.notes = DeliveryNotes(folder / "notes")
        self.lost_files = LostFiles(room.queue, self.notes, lambda _user, kind: folder / kind)

    def deliver(self, job: ClaimedJob, name: str) -> None:
        path = self.output / name
        path.write_text(job.claim)
        self.notes.add(job.job_id, job.claim, DeliveryNote(ADA, "output", name, path.stat().st_ino))

    async def files(self) -> list[str]:
        await self.lost_files.look()
        return sorted(path.name for path in self.output.iterdir())


async def lose(room: Room, job: ClaimedJob) -> None:
    await room.let_lease_run_out(job.job_id)
    await room.queue.sweep()


@pytest.fixture
def people(room: Room, tmp_path: Path) -> People:
    return People(room, tmp_path)


async def test_the_files_of_a_running_job_stay_and_are_remembered(room: Room, people: People) -> None:
    worker = await room.worker()
    await room.submit()
    people.deliver(job := await worker.take(), "a.png")
    assert await people.files() == ["a.png"]
    assert people.notes.has(job.job_id, job.claim)


async def test_the_files_of_a_job_that_ended_stay_for_good(room: Room, people: People) -> None:
    worker = await room.worker()
    await room.submit()
    people.deliver(job := await worker.take(), "a.png")
    await worker.finish(job)
    assert await people.files() == ["a.png"]
    assert people.notes.claims() == []


async def test_the_files_of_a_lost_attempt_are_taken_back_and_those_of_the_next_stay(
    room: Room, people: People
) -> None:
    worker = await room.worker()
    await room.submit()
    people.deliver(lost := await worker.take(), "a.png")
    await lose(room, lost)
    assert await people.files() == []
    people.deliver(again := await worker.take(), "b.png")
    assert again.job_id == lost.job_id
    # It wakes up late and does not know better.
    people.deliver(lost, "c.png")
    await worker.finish(again)
    assert await people.files() == ["b.png"]
    assert people.notes.claims() == []


async def test_a_quarantined_job_leaves_no_files(room: Room, people: People) -> None:
    worker = await room.worker()
    job_id = await room.submit()
    for attempt in range(3):
        people.deliver(job := await worker.take(), f"{attempt}.png")
        await lose(room, job)
    assert room.state(job_id) == "quarantined"
    assert await people.files() == []


async def test_the_files_of_a_job_that_the_store_has_forgotten_stay(room: Room, people: People) -> None:
    worker = await room.worker()
    job_id = await room.submit()
    people.deliver(job := await worker.take(), "a.png")
    await worker.finish(job)
    await room.queue.forget(ADA, [job_id])
    assert await people.files() == ["a.png"]
    assert people.notes.claims() == []
