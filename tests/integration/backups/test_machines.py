"""What a worker's machine has of its own is backed up beside the workshop's, and neither displaces the other."""

from __future__ import annotations

import stat
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from comfyume.backups import pruning
from comfyume.backups.errors import NoBackup
from comfyume.backups.manifest import Manifest, Summary, mark_of, new_id
from comfyume.backups.retention import rules_of
from comfyume.backups.snapshot import Wanted, take
from comfyume.backups.sources import Source
from comfyume.settings import Settings
from comfyume.tests.integration.backups.conftest import WORDS, Copied
from comfyume.tests.integration.conftest import Run
from comfyume.workshop_backup import KeyMissing, back_up_machine

pytestmark = pytest.mark.integration

HOUR = 3600.0


def of_machine(copied: Copied, machine: str, *paths: Path) -> Summary:
    source = Source("system", Path("/"), only=tuple(map(str, paths)), is_system=True)
    return take(copied.vault, Wanted([source], list, copied.folder / "staging", machine=machine))


def test_a_machines_own_files_stand_beside_the_workshops(copied: Copied, tmp_path: Path) -> None:
    copied.fill(people=2, files=6)
    key = copied.write("etc/wireguard/wg0.key", b"of gpu-1")
    first = copied.snapshot()
    own = of_machine(copied, "gpu-1", key.parent)
    other = of_machine(copied, "gpu-2", key.parent)
    assert copied.snapshot().new_files == 0, "it is compared with the last one of the workshop"
    assert [each.name for each in copied.vault.manifest(own.id).entries if each.kind == "file"] == [f"system{key}"]
    assert (own.machine, own.files, first.machine) == ("gpu-1", 1, "")
    assert copied.vault.snapshots_of("gpu-1") == [own.id]
    assert copied.vault.snapshots_of("gpu-2") == [other.id]
    assert first.id in copied.vault.snapshots_of("")
    assert len(copied.vault.snapshots()) == 4
    assert copied.vault.summary(own.id) == own
    assert not [each.key for each in copied.objects.listing("") if "gpu" in each.key], "a name is nobody's business"


def test_the_rules_hold_for_the_workshop_and_for_each_machine_apart(copied: Copied) -> None:
    now = time.time()
    copied.write("output/ada/film.png", b"film")
    copied.snapshot()

    def stood(machine: str, hours: float) -> str:
        name = new_id(now - hours * HOUR, f"{int(hours * 10):08x}", copied.vault.mark_of_machine(machine))
        copied.vault.write_snapshot(Manifest(Summary(name, now, machine=machine), {}, (), ()))
        return name

    workshops = [stood("", hours + 1) for hours in range(30)]
    rules = rules_of("24h=24")
    alone = set(pruning.plan(copied.vault, rules, now).stays)
    assert len(alone) in (24, 25)
    assert set(workshops[:20]) < alone
    often = [stood("gpu-1", 1 + 0.1 * number) for number in range(60)]
    long_gone = stood("gpu-2", 9000)
    beside = set(pruning.plan(copied.vault, rules, now).stays)
    assert {each for each in beside if not mark_of(each)} == alone
    assert 6 <= len(beside & set(often)) <= 8
    assert often[0] in beside
    assert long_gone in beside, "the newest of a machine stays"
    done = pruning.prune(copied.vault, pruning.plan(copied.vault, rules, now), young=0)
    assert set(copied.vault.snapshots()) == beside
    assert done.contents == 0


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Summary]:
    """Takes a snapshot of a worker's own files, as its process does it."""
    (tmp_path / "backup").mkdir()
    key = tmp_path / "etc/wireguard/wg0.key"
    key.parent.mkdir(parents=True)
    key.write_bytes(b"the identity of gpu-1")
    key.chmod(0o600)
    monkeypatch.setenv("COMFYUME_BACKUP", str(tmp_path / "backup"))
    monkeypatch.setenv("COMFYUME_BACKUP_KEY", WORDS)
    return lambda: back_up_machine(settings(tmp_path), tmp_path / "system", "before its drain ends")


def settings(folder: Path) -> Settings:
    return Settings(
        worker_id="gpu-1",
        backup=str(folder / "backup"),
        backup_key=WORDS,
        backup_paths=(str(folder / "etc/wireguard"),),
    )


def test_it_is_told_apart_and_restored_where_it_belongs(
    comfyume: Run, machine: Callable[[], Summary], tmp_path: Path
) -> None:
    base, key = tmp_path / "comfyui", tmp_path / "etc/wireguard/wg0.key"
    (base / "output/ada").mkdir(parents=True)
    (base / "output/ada/film.png").write_bytes(b"film")

    def run(*arguments: str) -> str:
        status, output, problem = comfyume(arguments[0], "--base-directory", str(base), *arguments[1:])
        assert status == 0, problem
        return output

    run("backup")
    taken = machine()
    assert f"{taken.id}  " in (listed := run("snapshots"))
    assert listed.count("of the worker gpu-1 alone: 1 files") == 1
    # Who does not ask for it gets the workshop's, though it is older.
    (base / "output/ada/film.png").unlink()
    run("restore", "--only", "output/ada", "--yes")
    assert (base / "output/ada/film.png").read_bytes() == b"film"
    key.unlink()
    run("restore", "--of", "gpu-1", "--only", str(key.parent), "--to", str(tmp_path / "look"), "--yes")
    assert (tmp_path / f"look/system{key}").read_bytes() == b"the identity of gpu-1"
    assert not key.exists()
    status, _, problem = comfyume("restore", "--base-directory", str(base), "--at", taken.id, "--only", "queue")
    assert (status, "own files alone" in problem) == (1, True)
    status, _, problem = comfyume("restore", "--base-directory", str(base), "--of", "gpu-9", "--yes")
    assert (status, "no snapshot of the worker gpu-9" in problem) == (1, True)
    # Into their places the machine's files go only if that is said.
    output = run("restore", "--of", "gpu-1", "--yes")
    assert "of the machine itself out: add --system" in output
    assert "puts back" not in output
    assert not key.exists()
    output = run("restore", "--of", "gpu-1", "--only", str(key.parent), "--yes")
    assert f"Snapshot {taken.id} of the worker gpu-1 alone" in output
    assert key.read_bytes() == b"the identity of gpu-1"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_a_worker_makes_up_no_key_and_begins_nothing_where_a_disk_should_be(
    machine: Callable[[], Summary], tmp_path: Path
) -> None:
    with pytest.raises(KeyMissing, match="COMFYUME_BACKUP_KEY"):
        back_up_machine(settings(tmp_path).model_copy(update={"backup_key": ""}), tmp_path / "system", "")
    unplugged = settings(tmp_path).model_copy(update={"backup": str(tmp_path / "unplugged")})
    with pytest.raises(NoBackup):
        back_up_machine(unplugged, tmp_path / "system", "")
    assert not (tmp_path / "unplugged").exists()
    assert not (tmp_path / "system").exists()
    first = machine()
    assert replace(machine(), id="", taken=0.0, seconds=0.0).new_files == 0
    assert first.new_files == 1
