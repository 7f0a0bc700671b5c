"""Snapshots of people's files in a real bucket and in a folder: taken, compared, brought back, cut off."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import stat
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from comfyume.backups import pruning
from comfyume.backups import restore as restoring
from comfyume.backups.errors import (
    BackupBusy,
    EscapingName,
    NeedsUnknown,
    NoBackup,
    SnapshotDamaged,
    SnapshotIncomplete,
    WrongKey,
)
from comfyume.backups.manifest import Entry, Manifest, Summary
from comfyume.backups.retention import rules_of
from comfyume.backups.snapshot import Part
from comfyume.backups.vault import HEAD, PRUNING, RUNNING, Vault, content_key
from comfyume.blobs.cold_storage import ColdStorage
from comfyume.blobs.object_folder import FolderObjects
from comfyume.blobs.object_store import ObjectStore
from comfyume.blobs.store import BlobFolder
from comfyume.tests.integration.backups.conftest import WORDS, Copied, files_of

LARGE = 9 * 1024 * 1024


def blob_of(copied: Copied, snapshot: str, name: str) -> str:
    """The key of the object that has a file's content."""
    entries = copied.vault.manifest(snapshot).entries
    return content_key(copied.vault.keys.name_of(next(each.sha256 for each in entries if each.name == name)))


def test_what_was_taken_is_brought_back_byte_for_byte(copied: Copied, tmp_path: Path) -> None:
    copied.fill(people=3, files=40)
    copied.write("output/user001/film.mp4", os.urandom(LARGE) + b"end")
    copied.write("output/user001/empty.txt", b"")
    copied.write("input/\u00e9t\u00e9/\udcff.bin", b"a name that is no text")
    before = copied.content()
    summary = copied.snapshot("by hand")
    assert (summary.files, summary.problems, summary.reason) == (len(before), (), "by hand")
    for root in copied.roots:
        shutil.rmtree(root)
    done = copied.restore(summary.id)
    assert copied.content() == before
    assert (done.files, done.problems, done.aside) == (len(before), [], [])
    assert (copied.folder / "output/user001/film.mp4").stat().st_mtime == 1_600_000_000
    assert not list(copied.folder.rglob(restoring.STAGED))
    elsewhere = tmp_path / "elsewhere"
    copied.restore(summary.id, to=elsewhere)
    assert files_of(elsewhere / "input", elsewhere / "output") == before


def test_the_second_snapshot_of_two_thousand_files_moves_only_what_changed(s3: Any, tmp_path: Path) -> None:
    copied = Copied(tmp_path / "workshop", s3.open(prefix=f"backup-{uuid.uuid4().hex[:8]}"))
    copied.fill(people=20, files=2_000)
    begin = time.monotonic()
    first = copied.snapshot()
    took_first = time.monotonic() - begin
    assert (first.files, first.new_files) == (2_000, 2_000)
    names = set(s3.keys(copied.objects.address.prefix))  # type: ignore[attr-defined]
    for number in range(20):
        copied.write(f"output/user{number:03}/made/new.png", b"changed %d" % number)
    begin = time.monotonic()
    second = copied.snapshot()
    took_second = time.monotonic() - begin
    assert (second.files, second.new_files, second.new_size) == (
        2_020,
        20,
        sum(len(b"changed %d" % n) for n in range(20)),
    )
    added = set(s3.keys(copied.objects.address.prefix)) - names  # type: ignore[attr-defined]
    assert len(added) == 20 + 2, "the contents, the manifest and its summary"
    print(f"2,000 files: first snapshot {took_first:.2f} s, second with 1% changed {took_second:.2f} s")
    assert took_second < took_first / 10


def test_any_of_three_points_in_time_can_be_had(copied: Copied) -> None:
    states = []
    for number in range(3):
        copied.write("output/ada/film.png", b"take" * (number + 1))
        copied.write(f"output/ada/only-{number}.png", b"only")
        states.append((copied.snapshot().id, copied.content()))
    for snapshot, content in (states[0], states[2], states[1]):
        done = copied.restore(snapshot)
        assert content.items() <= copied.content().items()
        assert all(path.name.startswith("before-restore-") for path in done.aside)
    # What was in the way, and what came later, is nowhere lost.
    kept = [path.read_bytes() for path in copied.folder.rglob("before-restore-*/ada/film.png")]
    assert b"take" * 3 in kept
    assert (copied.folder / "output/ada/only-2.png").exists()


def test_what_is_as_it_was_is_neither_read_nor_moved(copied: Copied, monkeypatch: pytest.MonkeyPatch) -> None:
    path = copied.write("output/ada/film.png", b"first")
    first = copied.snapshot()
    # The same size at the same time, as far as the file system tells: nobody looks into it.
    path.write_bytes(b"other")
    os.utime(path, (1_600_000_000, 1_600_000_000))
    assert copied.snapshot().new_files == 0
    # One that was written just now is looked into, whatever its time says.
    path.write_bytes(b"third")
    second = copied.snapshot()
    assert second.new_files == 1
    assert copied.plan(first.id).differs == [path]


def test_who_has_the_bucket_and_not_the_key_learns_no_name_and_no_content(copied: Copied) -> None:
    copied.write("output/ada/secret-film.png", b"a film that nobody knows" * 100)
    copied.snapshot("reason that nobody knows")
    held = [each.key.encode() + copied.objects.read(each.key) for each in copied.objects.listing("")]
    for word in (b"secret-film", b"nobody knows", b"output"):
        assert not [data for data in held if word in data]


def test_a_wrong_key_is_refused_and_a_place_without_a_backup_too(copied: Copied, tmp_path: Path) -> None:
    with pytest.raises(WrongKey, match="COMFYUME_BACKUP_KEY is not the one"):
        Vault.open(copied.objects, "other words")
    with pytest.raises(NoBackup, match="There is no backup in"):
        Vault.open(FolderObjects(tmp_path / "nothing"), WORDS)


@pytest.mark.parametrize("length", [0, 10, 200, -1])
def test_a_manifest_that_is_cut_short_is_refused_by_its_name(copied: Copied, length: int) -> None:
    copied.fill(people=2, files=10)
    snapshot = copied.snapshot().id
    key = f"snapshots/{snapshot}.manifest"
    copied.objects.write(key, copied.objects.read(key)[:length])
    with pytest.raises(SnapshotDamaged, match=snapshot):
        copied.restore(snapshot)
    # The next snapshot compares with none, and is whole.
    assert copied.plan(copied.snapshot().id).missing == []


def test_of_a_long_manifest_without_its_end_the_rest_is_restored_by_request(tmp_path: Path) -> None:
    copied = Copied(tmp_path / "workshop", FolderObjects(tmp_path / "backup"))
    copied.fill(people=2, files=200)
    before = copied.content()
    snapshot = copied.snapshot().id
    key = f"snapshots/{snapshot}.manifest"
    data = copied.objects.read(key)
    copied.objects.write(key, data[: len(data) * 3 // 4])
    for root in copied.roots:
        shutil.rmtree(root)
    with pytest.raises(SnapshotDamaged, match="is cut short"):
        copied.restore(snapshot)
    assert copied.content() == {}
    copied.restore(snapshot, what_is_there=True)
    assert 20 < len(copied.content()) < len(before)
    assert copied.content().items() <= before.items()


@pytest.mark.parametrize("harm", ["missing", "short", "changed"])
@pytest.mark.parametrize("size", [2_000, LARGE])
def test_a_content_that_is_missing_or_damaged_is_named_and_the_rest_comes_by_request(
    copied: Copied, harm: str, size: int
) -> None:
    copied.write("output/ada/harmed.png", os.urandom(size))
    copied.write("output/ada/whole.png", b"whole")
    snapshot = copied.snapshot().id
    key = blob_of(copied, snapshot, "output/ada/harmed.png")
    data = copied.objects.read(key)
    if harm == "missing":
        copied.objects.delete(key)
    else:
        copied.objects.write(key, data[:-9] if harm == "short" else bytes([data[0] ^ 1]) + data[1:])
    shutil.rmtree(copied.roots[1])
    with pytest.raises(SnapshotIncomplete, match=r"output/ada/harmed\.png") as raised:
        copied.restore(snapshot)
    assert raised.value.missing == ("output/ada/harmed.png",)
    assert copied.content() == {}, "nothing was changed"
    done = copied.restore(snapshot, what_is_there=True)
    assert copied.content() == {"output/ada/whole.png": b"whole"}
    assert len(done.problems) == 1


@pytest.mark.parametrize(
    "name", ["output/../../etc/passwd", "output//etc/passwd", "/etc/passwd", "output", "output/a\0b"]
)
def test_a_name_that_leads_out_of_its_folder_is_refused(copied: Copied, name: str) -> None:
    copied.write("output/ada/film.png", b"film")
    manifest = copied.vault.manifest(copied.snapshot().id)
    bad = replace(manifest.entries[0], name=name)
    with pytest.raises(EscapingName, match="leads out of its folder"):
        restoring.plan(copied.vault, replace(manifest, entries=(bad,)), copied.targets(), lambda _: True, ())


def test_a_link_in_the_way_leads_nowhere_else(copied: Copied, tmp_path: Path) -> None:
    copied.write("output/ada/film.png", b"film")
    snapshot = copied.snapshot().id
    shutil.rmtree(copied.folder / "output/ada")
    outside = tmp_path / "outside"
    outside.mkdir()
    (copied.folder / "output/ada").symlink_to(outside)
    with pytest.raises(EscapingName):
        copied.restore(snapshot)
    assert not list(outside.iterdir())


def test_links_of_people_are_left_out_and_told(copied: Copied) -> None:
    copied.write("output/ada/film.png", b"film")
    (copied.folder / "output/ada/passwd").symlink_to("/etc/passwd")
    summary = copied.snapshot()
    assert summary.files == 1
    assert "1 links" in summary.problems[0]


def test_paths_of_the_machine_keep_their_modes_owners_and_links(copied: Copied, tmp_path: Path) -> None:
    machine = tmp_path / "etc"
    (machine / "wireguard").mkdir(parents=True, mode=0o700)
    key = machine / "wireguard/wg0.conf"
    key.write_text("PrivateKey = x")
    key.chmod(0o600)
    (machine / "current").symlink_to("wireguard/wg0.conf")
    if os.geteuid() == 0:
        os.chown(key, 12, 34)
    copied.extra = (str(machine), str(tmp_path / "absent"))
    summary = copied.snapshot()
    assert summary.problems == (f"{tmp_path / 'absent'} is not there",)
    shutil.rmtree(machine)
    assert copied.restore(summary.id).problems == []
    assert stat.S_IMODE((machine / "wireguard").stat().st_mode) == 0o700
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert os.readlink(machine / "current") == "wireguard/wg0.conf"
    if os.geteuid() == 0:
        assert (key.stat().st_uid, key.stat().st_gid) == (12, 34)


def _restore_and_stop(copied: Copied, snapshot: str, ready: Any, at: str) -> None:
    """Restore in a process of its own, which waits to be killed in the middle of it."""
    count = 0

    def wait(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count == 5:
            ready.set()
            time.sleep(60)
        return real(*arguments, **options)

    owner = Vault if at == "fetch" else restoring
    name = "fetch" if at == "fetch" else "_put_in_place"
    real: Callable[..., Any] = getattr(owner, name)
    setattr(owner, name, wait)
    copied.restore(snapshot)


@pytest.mark.parametrize("at", ["fetch", "place"])
def test_a_restore_that_is_killed_can_be_run_again(tmp_path: Path, at: str) -> None:
    copied = Copied(tmp_path / "workshop", FolderObjects(tmp_path / "backup"))
    copied.fill(people=2, files=30)
    before = copied.content()
    snapshot = copied.snapshot().id
    changed = copied.write("output/user001/made/00001.png", b"changed since")
    shutil.rmtree(copied.roots[0])
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    child = context.Process(target=_restore_and_stop, args=(copied, snapshot, ready, at))
    child.start()
    assert ready.wait(30)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    # Each file is whole: as it was before, or as it comes.
    for name, data in copied.content().items():
        assert data in (before[name], b"changed since")
    copied.restore(snapshot)
    assert copied.content() == before
    assert any(
        path.read_bytes() == b"changed since"
        for path in copied.folder.rglob(f"before-restore-*/user001/**/{changed.name}")
    )
    assert not list(copied.folder.rglob(restoring.STAGED))


def test_a_snapshot_that_was_cut_off_does_not_exist_and_the_next_one_goes_on(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied.fill(people=2, files=60)

    def fail(*_: object) -> None:
        raise OSError("the line was cut")

    monkeypatch.setattr(Vault, "write_snapshot", fail)
    with pytest.raises(OSError, match="the line was cut"):
        copied.snapshot()
    monkeypatch.undo()
    assert copied.vault.snapshots() == []
    assert not list(copied.objects.listing("running/"))
    summary = copied.snapshot()
    assert (summary.files, summary.new_files) == (60, 0)


def test_parts_that_have_their_version_are_not_made_again(copied: Copied) -> None:
    made = []

    def part(name: str, version: str) -> Part:
        return Part(name, version, lambda: made.append(name) or name.encode())  # type: ignore[func-returns-value]

    copied.parts = lambda: [part("live", ""), part("old", "1")]
    copied.snapshot()
    copied.parts = lambda: [part("live", ""), part("old", "1"), part("new", "1")]
    snapshot = copied.snapshot().id
    assert made == ["live", "old", "live", "new"]
    parts = {each.name: each.sha256 for each in copied.vault.manifest(snapshot).parts}
    assert {name: copied.vault.read_small(sha, name) for name, sha in parts.items()} == {
        name: name.encode() for name in ("live", "old", "new")
    }


def at(copied: Copied, moment: str) -> str:
    """A snapshot that seems to have been taken at another moment; returns its name."""
    snapshot = copied.snapshot().id
    manifest = copied.vault.manifest(snapshot)
    named = f"{moment}-{snapshot[-8:]}"
    copied.vault.remove_snapshot(snapshot)
    copied.vault.write_snapshot(replace(manifest, summary=replace(manifest.summary, id=named)))
    return named


@pytest.mark.parametrize("size", [2_000, LARGE])
def test_a_result_that_was_brought_to_the_bucket_meanwhile_is_kept_with_its_content(
    copied: Copied, tmp_path: Path, size: int
) -> None:
    data = os.urandom(size)
    film, empty = copied.write("output/ada/film.mp4", data), copied.write("output/ada/empty.txt", b"")
    copied.snapshot()
    cold = ColdStorage(
        copied.roots[1], tmp_path / "cold", BlobFolder(tmp_path / "back"), lambda: FolderObjects(tmp_path / "bucket")
    )
    assert cold.put_away(film) == size
    copied.elsewhere = cold.digest_of
    for _ in range(2):
        summary = copied.snapshot()
        assert (summary.new_files, film.stat().st_size) == (0, 0)
    film.unlink()
    empty.unlink()
    copied.restore(summary.id)
    assert (film.read_bytes(), empty.read_bytes()) == (data, b"")


def test_a_result_that_was_in_the_bucket_before_all_snapshots_is_kept_as_its_record(
    copied: Copied, tmp_path: Path
) -> None:
    film = copied.write("output/ada/film.mp4", b"film")
    cold = ColdStorage(
        copied.roots[1],
        copied.roots[0] / "cold",
        BlobFolder(tmp_path / "b"),
        lambda: FolderObjects(tmp_path / "bucket"),
    )
    cold.put_away(film)
    copied.elsewhere = cold.digest_of
    snapshot = copied.snapshot().id
    for root in copied.roots:
        shutil.rmtree(root)
    copied.restore(snapshot)
    assert film.stat().st_size == 0
    cold.bring(film)
    assert film.read_bytes() == b"film"


def test_old_snapshots_go_and_with_them_what_no_other_needs(copied: Copied) -> None:
    kept = copied.write("output/ada/kept.png", b"kept")
    gone = copied.write("output/ada/gone.png", b"gone")
    old = at(copied, "20200101T120000.000Z")
    gone.unlink()
    new = copied.snapshot().id
    planned = pruning.plan(copied.vault, rules_of("24h=24,7d=7"), time.time())
    assert (planned.goes, planned.stays) == ((old,), (new,))
    assert pruning.prune(copied.vault, planned).contents == 0, "what is younger than an hour stays"
    done = pruning.prune(copied.vault, pruning.plan(copied.vault, rules_of("1h=1"), time.time()), young=0)
    assert (done.snapshots, done.contents) == (0, 1)
    assert copied.vault.snapshots() == [new]
    kept.unlink()
    copied.restore(new)
    assert kept.read_bytes() == b"kept"


def test_a_snapshot_and_a_clearing_up_keep_each_other_out(copied: Copied) -> None:
    copied.write("output/ada/film.png", b"film")
    copied.snapshot()
    planned = pruning.Plan((), ())
    with copied.vault.working(RUNNING, "other"), pytest.raises(BackupBusy, match="is being taken"):
        pruning.prune(copied.vault, planned)
    with copied.vault.working(PRUNING, "other"), pytest.raises(BackupBusy, match="being cleared up"):
        copied.snapshot()
    assert [each.key for each in copied.objects.listing("") if each.key.startswith(("running", "pruning"))] == []


def test_while_it_is_not_known_what_a_snapshot_needs_nothing_is_removed(copied: Copied) -> None:
    copied.write("output/ada/film.png", b"film")
    damaged = at(copied, "20200101T120000.000Z")
    new = copied.snapshot().id
    copied.objects.write(f"snapshots/{damaged}.manifest", b"short")
    rules = rules_of("520w=520")
    with pytest.raises(NeedsUnknown, match=damaged):
        pruning.prune(copied.vault, pruning.plan(copied.vault, rules, time.time()))
    pruning.prune(copied.vault, pruning.plan(copied.vault, rules, time.time(), damaged=True))
    assert copied.vault.snapshots() == [new]


def test_lists_tell_of_a_snapshot_what_was_in_it(copied: Copied) -> None:
    copied.fill(people=1, files=3)
    summary = copied.snapshot("by hand")
    assert copied.vault.summary(summary.id) == summary
    assert {each.key for each in copied.objects.listing("")} > {HEAD}
    empty = Manifest(Summary("20200101T120000.000Z-00000000", 0.0), {}, (), ())
    copied.vault.write_snapshot(empty)
    assert copied.vault.manifest(empty.summary.id) == empty
    assert list(empty.contents()) == []
    assert list(Manifest(summary, {}, (), (Entry("output/x", "link"),)).contents()) == []


def test_two_who_begin_one_backup_have_one_key(objects: ObjectStore) -> None:
    first = Vault.open(objects, WORDS, create=True)
    assert Vault.open(objects, WORDS, create=True).keys.check == first.keys.check
