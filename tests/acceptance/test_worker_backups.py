"""A worker's machine is gone after its drain: its own files are in the backup then, or instructors hear why not."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from comfyume.backups.vault import Vault
from comfyume.blobs.object_folder import FolderObjects
from comfyume.job_queue.keys import Keys
from comfyume.tests.harness import graphs
from comfyume.tests.harness.client import Client, wait_until
from comfyume.tests.harness.discovery import LABELS, ComfyInstall
from comfyume.tests.harness.pair import Pair
from comfyume.tests.harness.people import add_users, basic

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(240),
    pytest.mark.parametrize("comfyui", LABELS[:1], indirect=True),
]

WORDS = "words of the backup"
MESSAGE = "comfyume.message"


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    """A folder that this machine alone has."""
    folder = tmp_path / "etc" / "wireguard"
    folder.mkdir(parents=True)
    (folder / "wg0.key").write_text("the identity of this machine")
    return folder


def failures(ines: Client) -> list[dict[str, Any]]:
    """What instructors are told of workers whose files were not backed up."""
    return list(ines.get("/comfyume/backups")["workers"])


def test_its_files_are_in_the_backup_before_its_drain_ends(
    comfyui: ComfyInstall, tmp_path: Path, identity: Path
) -> None:
    place = tmp_path / "disk" / "backup"
    env = {"COMFYUME_BACKUP": str(place), "COMFYUME_BACKUP_KEY": WORDS, "COMFYUME_DRAIN_NOTICE": "30"}
    own = {"COMFYUME_BACKUP_PATHS": str(identity)}
    with Pair(comfyui, tmp_path, env=env, worker_env=own) as room:
        add_users(room, {"ines": "instructor"})
        with Client(room.frontend.address, headers=basic("ines")) as ines:
            wait_until(lambda: ines.get("/comfyume/backups")["last"], 60)
            vault = Vault.open(FolderObjects(place), WORDS)
            # An instructor drains it while the disk is away, and is told.
            place.parent.rename(tmp_path / "unplugged")
            drain = b'{"drained": true}'
            json = {"Content-Type": "application/json"}
            ines.request("PATCH", "/comfyume/workers/worker0", drain, json)
            told = ines.wait_for(lambda event: event.kind == MESSAGE, 60)[-1].data
            assert "own files of the worker worker0 could not be backed up. There is no backup in" in told["text"]
            wait_until(lambda: [each["worker"] for each in failures(ines)] == ["worker0"])

            def noted() -> list[str]:
                log = ines.get("/comfyume/activity")
                return [each["details"]["worker"] for each in log if each["what"] == "backup failed"]

            wait_until(lambda: noted() == ["worker0"])
            (tmp_path / "unplugged").rename(place.parent)
            # Then its machine is told to end.
            process = room.worker.process
            assert process is not None
            begin = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            assert time.monotonic() - begin < 25, "nothing waits for the notice to run out"
            (snapshot,) = vault.snapshots_of("worker0")
            manifest = vault.manifest(snapshot)
            assert {each.name for each in manifest.entries} == {f"system{identity}", f"system{identity}/wg0.key"}
            assert (manifest.parts, manifest.summary.problems) == ((), ())
            wait_until(lambda: failures(ines) == [])
            listed = ines.get("/comfyume/backups/snapshots")["snapshots"]
            assert {each["machine"] for each in listed} == {"", "worker0"}


def test_a_backup_that_hangs_holds_up_neither_the_job_nor_the_end(
    comfyui: ComfyInstall, tmp_path: Path, identity: Path
) -> None:
    notice = 4.0
    with socket.create_server(("127.0.0.1", 0)) as silent:
        own = {
            "COMFYUME_BACKUP": "s3://nowhere/backup",
            "COMFYUME_BACKUP_KEY": WORDS,
            "COMFYUME_BACKUP_PATHS": str(identity),
            "COMFYUME_BUCKET_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "COMFYUME_BUCKET_KEY": "key",
            "COMFYUME_BUCKET_SECRET": "secret",
            "COMFYUME_DRAIN_NOTICE": str(notice),
        }
        with Pair(comfyui, tmp_path, worker_env=own, worker_node_packs=[graphs.PACK]) as room:
            add_users(room, {"ines": "instructor"})
            with Client(room.frontend.address, headers=basic("ines")) as ines:
                job = ines.submit(graphs.gated(tmp_path / "gate"))
                store, key = room.store.client(), Keys(room.workshop).job(job)
                wait_until(lambda: store.hget(key, "state") == "running")
                process = room.worker.process
                assert process is not None
                begin = time.monotonic()
                process.send_signal(signal.SIGTERM)
                silent.settimeout(notice)
                silent.accept()[0].detach()
                wait_until(lambda: store.hget(key, "state") == "queued", 30)
                assert notice - 0.5 < time.monotonic() - begin < notice + 2
                told = ines.wait_for(lambda event: event.kind == MESSAGE, 20)[-1].data
                assert "There was no time for it: it was given up after 4 s." in told["text"]
                wait_until(lambda: [each["worker"] for each in failures(ines)] == ["worker0"])
                (tmp_path / "gate").touch()
                process.wait(30)
                log = room.worker.log.read_text()
                assert log.count("this machine's own files were not backed up. There was no time for it") == 1
