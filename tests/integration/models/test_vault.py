"""Models in a real bucket and in a folder: there and back, replaced, removed, damaged, and by several at once."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from comfyume.blobs.object_folder import FolderObjects
from comfyume.model_vault.here import LocalModels
from comfyume.model_vault.needs import Need
from comfyume.model_vault.places import Vault, content_key, open_places
from comfyume.model_vault.push import Push
from comfyume.model_vault.verify import verify_here, verify_vault
from comfyume.tests.harness.model_source import SourceServer, safetensors
from comfyume.tests.harness.models_at_hand import contents, need, pull, put
from comfyume.tests.harness.s3 import S3Server


async def test_folder_then_bucket_then_source(
    here: LocalModels, source: SourceServer, s3: S3Server, tmp_path: Path
) -> None:
    needs = [need(source, f"{name}.safetensors", safetensors(ord(name))) for name in "abc"]
    elsewhere = LocalModels(tmp_path / "elsewhere")
    bucket = Vault(s3.open(prefix="tiers"))
    for name in "ab":
        put(elsewhere, f"{name}.safetensors", source.files[f"{name}.safetensors"])
    Push(elsewhere, bucket).run(elsewhere.files())
    put(LocalModels(tmp_path / "drive"), "a.safetensors", source.files["a.safetensors"])
    names = ["s3://workshop/tiers", str(tmp_path / "drive")]
    places = open_places(names, lambda name: FolderObjects(Path(name)) if name.startswith("/") else bucket.store)
    report = await pull(here, needs, *places)
    assert [report.come[each.key] for each in needs] == [
        str(tmp_path / "drive"),
        "s3://workshop/tiers",
        needs[2].urls[0],
    ]
    assert list(source.sent) == ["c.safetensors"]
    assert contents(here) == {f"vae/{each.name}": source.files[each.name] for each in needs}


async def test_what_was_pushed_is_pulled_elsewhere_with_the_same_hash(
    here: LocalModels, vault: Vault, tmp_path: Path
) -> None:
    sizes = {"small.safetensors": 10, "large.safetensors": 20_000_000}
    originals = {f"vae/{name}": put(here, name, safetensors(size, size)).read_bytes() for name, size in sizes.items()}
    report = Push(here, vault, urls={("vae", "small.safetensors"): "https://huggingface.co/x"}).run(here.files())
    assert sorted(report.come) == [("vae", "large.safetensors"), ("vae", "small.safetensors")]
    assert not Push(here, vault).run(here.files()).come
    assert {offer.name: offer.url for offer in vault.offers()}["small.safetensors"] == "https://huggingface.co/x"
    other = LocalModels(tmp_path / "other")
    report = await pull(other, [Need("vae", name) for name in sizes], vault, offline=True)
    assert not report.failed
    assert contents(other) == originals
    assert not [finding for finding in verify_vault(vault) if finding.problem]


def test_concurrent_pushes_leave_every_model_in_the_index(vault: Vault, tmp_path: Path) -> None:
    machines = []
    for number in range(4):
        here = LocalModels(tmp_path / str(number))
        put(here, "shared.safetensors", safetensors(0))
        for each in range(4):
            put(here, f"{number}-{each}.safetensors", safetensors(100 * number + each, 1000))
        machines.append(here)
    programs = [Push(here, vault) for here in machines]
    threads = [
        threading.Thread(target=lambda p=p, h=h: p.run(h.files())) for p, h in zip(programs, machines, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(vault.offers())) == 17
    assert not [finding for finding in verify_vault(vault) if finding.problem]


def test_a_push_replaces_no_other_file_unless_asked(here: LocalModels, vault: Vault, tmp_path: Path) -> None:
    put(here, "a.safetensors", safetensors(1))
    Push(here, vault).run(here.files())
    other = LocalModels(tmp_path / "other")
    put(other, "a.safetensors", safetensors(2))
    report = Push(other, vault).run(other.files())
    assert "another file" in report.failed["vae", "a.safetensors"]
    assert Push(other, vault, replace=True).run(other.files()).come
    offer = vault.find("vae", "a.safetensors")
    assert offer is not None
    assert offer.sha256 == hashlib.sha256(safetensors(2)).hexdigest()


def test_removing_keeps_what_another_model_has(here: LocalModels, vault: Vault) -> None:
    put(here, "a.safetensors", safetensors(1))
    put(here, "b.safetensors", safetensors(1), folder="loras")
    Push(here, vault).run(here.files())
    first, second = vault.offers()
    assert vault.remove(first) == 0
    assert vault.store.size_of(content_key(second.sha256)) == second.size
    assert vault.remove(second) == second.size
    assert not list(vault.store.listing(""))


def test_a_push_that_a_prune_meets_leaves_no_entry_without_content(
    here: LocalModels, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(here, "a.safetensors", safetensors(1))
    Push(here, vault).run(here.files())
    (offer,) = vault.offers()
    write = type(vault.store).write

    def write_behind_a_prune(self: Any, key: str, data: bytes) -> None:
        vault.remove(offer)
        write(self, key, data)

    put(here, "b.safetensors", safetensors(1))
    second = [file for file in here.files() if file.name == "b.safetensors"]
    with monkeypatch.context() as patch:
        # Between the look for the content, which is there, and the entry in the index that names it.
        patch.setattr(
            vault.store, "write", lambda key, data: (patch.undo(), write_behind_a_prune(vault.store, key, data))
        )
        Push(here, vault).run(second)
    assert [each.name for each in vault.offers()] == ["b.safetensors"]
    assert not [finding for finding in verify_vault(vault) if finding.problem]


async def test_pickles_are_refused_by_pull_and_push(here: LocalModels, source: SourceServer, vault: Vault) -> None:
    wanted = need(source, "a.ckpt", b"a pickle")
    report = await pull(here, [wanted])
    assert "any program" in report.failed[wanted.key]
    assert not source.asked
    assert (await pull(here, [wanted], allow_pickles=True)).come
    assert "any program" in Push(here, vault).run(here.files()).failed[wanted.key]
    assert Push(here, vault, allow_pickles=True).run(here.files()).come


async def test_another_file_of_the_name_stays_unless_it_may_be_replaced(
    here: LocalModels, source: SourceServer, vault: Vault, tmp_path: Path
) -> None:
    other = LocalModels(tmp_path / "other")
    put(other, "a.safetensors", safetensors(1))
    Push(other, vault).run(other.files())
    mine = put(here, "a.safetensors", safetensors(2, 333))
    report = await pull(here, [Need("vae", "a.safetensors")], vault)
    assert "another file" in report.failed["vae", "a.safetensors"]
    assert mine.read_bytes() == safetensors(2, 333)
    assert (await pull(here, [Need("vae", "a.safetensors")], vault, replace=True)).come
    assert mine.read_bytes() == safetensors(1)


async def test_a_place_that_lost_a_model_is_passed_over(
    here: LocalModels, source: SourceServer, vault: Vault, tmp_path: Path
) -> None:
    wanted = need(source, "a.safetensors", safetensors(1))
    other = LocalModels(tmp_path / "other")
    put(other, "a.safetensors", safetensors(1))
    Push(other, vault).run(other.files())
    (offer,) = vault.offers()
    vault.store.delete(content_key(offer.sha256))
    assert [finding.problem for finding in verify_vault(vault)] == ["its content is missing; push it again"]
    report = await pull(here, [wanted], vault)
    assert report.come == {wanted.key: wanted.urls[0]}


async def test_damaged_changed_and_swapped_files_are_found(
    here: LocalModels, source: SourceServer, vault: Vault
) -> None:
    names = ["whole", "short", "changed", "one", "two"]
    needs = [need(source, f"{name}.safetensors", safetensors(i)) for i, name in enumerate(names)]
    await pull(here, needs)
    Push(here, vault).run(here.files())
    assert not [each for each in verify_here(here, [vault]) if each.problem]
    folder = here.root / "vae"
    os.truncate(folder / "short.safetensors", 1000)
    spoiled = bytearray((folder / "changed.safetensors").read_bytes())
    spoiled[5000:5007] = b"changed"
    (folder / "changed.safetensors").write_bytes(spoiled)
    os.rename(folder / "one.safetensors", folder / "x")
    os.rename(folder / "two.safetensors", folder / "one.safetensors")
    os.rename(folder / "x", folder / "two.safetensors")
    found = {each.name.removeprefix("vae/"): each.problem for each in verify_here(here, [vault]) if each.problem}
    assert "cut off: 1,000 of" in found.pop("short.safetensors")
    assert "another content" in found.pop("changed.safetensors")
    assert "that of vae/two.safetensors" in found.pop("one.safetensors")
    assert "that of vae/one.safetensors" in found.pop("two.safetensors")
    assert not found
    quick = [each.name for each in verify_here(here, [vault], quick=True) if each.problem]
    assert quick == ["vae/short.safetensors"]
    # And nothing of that is pushed.
    assert set(Push(here, vault).run(here.files()).failed) == {("vae", f"{name}.safetensors") for name in names[1:]}
