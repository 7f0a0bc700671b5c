"""A frontend takes snapshots by itself, and its instructor hears when that does not work any more."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from comfyume.backups.vault import Vault
from comfyume.blobs.object_folder import FolderObjects
from comfyume.job_queue.keys import Keys
from comfyume.tests.harness.client import Client, RequestRefused, wait_until
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


@pytest.mark.parametrize("comfyui", LABELS[:1], indirect=True)
def test_an_instructor_takes_a_snapshot_and_sees_what_there_is(comfyui: ComfyInstall, tmp_path: Path) -> None:
    place = tmp_path / "place" / "backup"
    env = {"COMFYUME_BACKUP": str(place), "COMFYUME_BACKUP_KEY": WORDS}
    with Pair(comfyui, tmp_path, workers=0, frontend_env=env) as room:
        add_users(room, {"ada": "participant", "ines": "instructor"})
        address = room.frontend.address
        ada, ines = (Client(address, headers=basic(name), connect=False) for name in ("ada", "ines"))

        def settled() -> dict[str, Any]:
            wait_until(lambda: not ines.get("/comfyume/backups")["running"], 60)
            return dict(ines.get("/comfyume/backups"))

        def listed() -> dict[str, Any]:
            return dict(ines.get("/comfyume/backups/snapshots"))

        # The first one is taken by itself.
        wait_until(lambda: ines.get("/comfyume/backups")["last"], 60)
        first = settled()
        assert (first["where"], first["hours"], first["failed"]) == (str(place), 1, None)
        assert 3500 < first["next"] - first["last"]["taken"] < 3700
        assert first["last"]["new_files"] > 0 < first["last"]["new_size"]
        ada.upload(b"a photo of Ada's", "photo.png")
        begun = ines.post("/comfyume/backups")
        assert begun["running"].keys() == {"files", "of", "size"}
        with pytest.raises(RequestRefused, match="taken already"):
            ines.post("/comfyume/backups")
        second = settled()
        assert second["last"]["taken"] > first["last"]["taken"]
        # Beside Ada's photo there are the store's parts that changed.
        assert 1 <= second["last"]["new_files"] < first["last"]["new_files"]
        snapshots = listed()["snapshots"]
        assert [each["reason"] for each in snapshots] == ["from the panel", "by itself"]
        assert snapshots[0]["files"] == snapshots[1]["files"] + 1
        assert {name: snapshots[0][name] for name in second["last"] if name != "taken"} == {
            name: second["last"][name] for name in second["last"] if name != "taken"
        }
        assert snapshots[0]["id"] == Vault.open(FolderObjects(place), WORDS).snapshots()[-1]
        assert [each["who"] for each in ines.get("/comfyume/activity") if each["what"] == "backup"] == ["ines"]
        # A snapshot that is damaged is told apart, and the disk that is gone is named.
        (place / "snapshots" / f"{snapshots[1]['id']}.summary").write_bytes(b"no summary")
        wait_until(lambda: [each["is_damaged"] for each in listed()["snapshots"]] == [False, True], 30)
        place.parent.rename(tmp_path / "unplugged")
        ines.post("/comfyume/backups")
        third = settled()
        assert third["failed"]["error"].startswith("There is no backup in")
        assert third["last"] == second["last"]
        wait_until(lambda: listed()["error"].startswith("There is no backup in"), 30)
        for method, path in (("GET", ""), ("POST", ""), ("GET", "/snapshots")):
            with pytest.raises(RequestRefused) as refused:
                ada.request(method, f"/comfyume/backups{path}")
            assert refused.value.status == 403


@pytest.mark.parametrize("comfyui", LABELS[:1], indirect=True)
def test_without_a_place_nothing_is_backed_up(comfyui: ComfyInstall, tmp_path: Path) -> None:
    with Pair(comfyui, tmp_path, workers=0) as room:
        add_users(room, {"ines": "instructor"})
        ines = Client(room.frontend.address, headers=basic("ines"), connect=False)
        told = ines.get("/comfyume/backups")
        assert [told[name] for name in ("where", "running", "last", "next", "failed")] == [None] * 5
        assert ines.get("/comfyume/backups/snapshots") == {"snapshots": [], "error": ""}
        with pytest.raises(RequestRefused, match="set COMFYUME_BACKUP on the frontend"):
            ines.post("/comfyume/backups")
