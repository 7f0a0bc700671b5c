"""Publishing: a job's files reach their person under the next numbers, and what a node writes is what is published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from comfyume.blobs.delivery_notes import DeliveryNotes
from comfyume.job_queue.jobs import ClaimedJob
from comfyume.worker_mode.job_folders import JobFolders
from comfyume.worker_mode.publishing import PublishedNames, Publisher
from comfyume.worker_mode.transports import SharedFolderTransport


class Desk:
    """One worker's folders, and a person's output folder."""

    def __init__(self, root: Path) -> None:
        self.folders = JobFolders(root / "jobs")
        self.person = root / "shared" / "output"
        self.person.mkdir(parents=True)
        kinds = {kind: kind for kind in ("input", "output", "temp")}
        job = ClaimedJob("job", "ada", 1, {}, {}, {}, 1, "claim", None)
        self.transport = SharedFolderTransport(root / "shared", kinds, DeliveryNotes(root / "notes"), job)
        self.names = PublishedNames()

    def begin(self) -> Publisher:
        self.folders.reset("ada", self.names.last_names("ada"))
        return Publisher(self.folders.folders, self.transport, "ada", self.names, lambda _: 1)

    async def run(self, name: str, content: str | None) -> str:
        """A job whose node names a file, and writes it unless there is no content; the name that the person sees."""
        publisher = self.begin()
        if content is not None:
            (self.folders.folders.output / name).write_text(content)
        outputs: dict[str, Any] = {"images": [{"filename": name, "subfolder": "", "type": "output"}]}
        published = await publisher.publish_outputs(outputs)
        await publisher.publish_rest()
        return str(published["images"][0]["filename"])


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def test_a_node_that_always_writes_the_same_name_publishes_what_it_wrote(desk: Desk) -> None:
    assert await desk.run("frame_00001_.png", "first") == "frame_00001_.png"
    second = await desk.run("frame_00001_.png", "second")
    assert second != "frame_00001_.png"
    assert (desk.person / second).read_text() == "second"
    assert (desk.person / "frame_00001_.png").read_text() == "first"


async def test_a_name_that_a_cache_repeats_is_that_of_the_earlier_file(desk: Desk) -> None:
    assert await desk.run("shot_00001_.png", "first") == "shot_00001_.png"
    assert await desk.run("shot_00001_.png", None) == "shot_00001_.png"
    assert [path.name for path in desk.person.iterdir()] == ["shot_00001_.png"]


async def test_what_numbering_goes_on_from_is_not_published(desk: Desk) -> None:
    await desk.run("shot_00001_.png", "first")
    await desk.run("other_00001_.png", "else")
    assert sorted(path.name for path in desk.person.iterdir()) == ["other_00001_.png", "shot_00001_.png"]
