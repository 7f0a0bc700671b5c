"""A frontend takes snapshots by itself, and its instructor hears when that does not work any more."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from comfyume.backups.vault import Vault
from comfyume.blobs.object_folder import FolderObjects
from comfyume.job_queue.keys import Keys
from comfyume.tests.harness.client import Client, wait_until
from comfyume.tests.harness.discovery import LABELS, ComfyInstall
from comfyume.tests.harness.pair import Pair
from comfyume.tests.harness.people import add_users, basic

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]

WORDS = "words of the backup"
MESSAGE = "comfyume.message"


@pytest.mark.parametrize("comfyui", LABELS[:1], indirect=True)
def test_snapshots_are_taken_by_themselves_and_instructors_alone_hear_of_failures(
    comfyui: ComfyInstall, tmp_path: Path
) -> None:
    place = tmp_path / "place" / "backup"
    env = {"COMFYUME_BACKUP": str(place), "COMFYUME_BACKUP_KEY": WORDS, "COMFYUME_BACKUP_HOURS": "0.001"}
    with Pair(comfyui, tmp_path, workers=0, frontend_env=env) as room:
        add_users(room, {"ada": "participant", "ines": "instructor"})
        address = room.frontend.address
        with Client(address, headers=basic("ada")) as ada, Client(address, headers=basic("ines")) as ines:
            ada.upload(b"a photo of Ada's", "photo.png")

            def held() -> list[str]:
                vault = Vault.open(FolderObjects(place), WORDS)
                manifest = vault.manifest(vault.snapshots()[-1])
                assert manifest.summary.problems == ()
                return [entry.name for entry in manifest.entries]

            wait_until(lambda: (place / "snapshots").is_dir() and "input/ada/photo.png" in held(), 60)
            assert "settings/comfyume.toml" not in held(), "there is none"
            assert any(name.startswith("templates/") for name in held())
            figures = ines.request("GET", "/comfyume/metrics").decode()
            taken = float(figures.split("\ncomfyume_backup_last_success_timestamp_seconds ")[1].split()[0])
            assert taken > 1.7e9
            # The disk is gone.
            place.parent.rename(tmp_path / "unplugged")
            told = ines.wait_for(lambda event: event.kind == MESSAGE, 60)[-1].data
            assert told["text"].startswith("The workshop could not be backed up.")
            assert "The last snapshot is of 20" in told["text"]
            assert set(told) == {"text", "from", "at", "id"}
            # Everybody is told this, so whatever Ada was to hear has come before it.
            ines.post("/comfyume/messages", {"text": "to all"})
            heard = ada.wait_for(lambda event: event.kind == MESSAGE, 20)
            assert [event.data["text"] for event in heard if event.kind == MESSAGE] == ["to all"]

            def noted() -> list[str]:
                return [each["who"] for each in ines.get("/comfyume/activity") if each["what"] == "backup failed"]

            wait_until(noted)
            assert noted() == ["backup"]
            state = room.store.client().hgetall(Keys(room.workshop).backup)
            assert "There is no backup in" in state["error"]
            assert not list(place.rglob("*.manifest")), "no other one was begun where the disk should be"
            # It is tried again when it is due, and all is well again.
            shutil.rmtree(place.parent, ignore_errors=True)
            (tmp_path / "unplugged").rename(place.parent)
            room.store.client().hset(Keys(room.workshop).backup, "tried", "0")
            wait_until(lambda: not room.store.client().hget(Keys(room.workshop).backup, "error"), 60)
