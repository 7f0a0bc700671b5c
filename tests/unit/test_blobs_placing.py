"""Outputs get ComfyUI's numbers and never overwrite each other."""

from __future__ import annotations

import errno
import multiprocessing
import os
import subprocess
import time
from pathlib import Path

import pytest

from comfyume.blobs import filing, placing
from comfyume.blobs.errors import NotEnoughSpace, UnsafeName
from comfyume.blobs.placing import Numbered, Placer, parse_numbered


@pytest.fixture
def made(tmp_path):
    """Makes source files with given content."""
    folder = tmp_path / "sources"
    folder.mkdir()
    count = 0

    def make(content: str = "content") -> Path:
        nonlocal count
        count += 1
        path = folder / str(count)
        path.write_text(content)
        return path

    return make


@pytest.fixture
def root(tmp_path):
    return tmp_path / "output"


def _contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("ComfyUI_00001_.png", Numbered("ComfyUI", 1, 5, "_.png")),
        ("ComfyUI_temp_abcde_00003_.png", Numbered("ComfyUI_temp_abcde", 3, 5, "_.png")),
        ("clip_00012.mp4", Numbered("clip", 12, 5, ".mp4")),
        ("clip_00012-audio.mp4", Numbered("clip", 12, 5, "-audio.mp4")),
        ("ComfyUI_100000_.png", Numbered("ComfyUI", 100000, 6, "_.png")),
        ("a_00001_00002_.png", Numbered("a_00001", 2, 5, "_.png")),
        ("batch_3_00007_.webp", Numbered("batch_3", 7, 5, "_.webp")),
        ("v1.5_00001_.png", Numbered("v1.5", 1, 5, "_.png")),
        ("x_00004_albedo.png", Numbered("x", 4, 5, "_albedo.png")),
        ("x_00004_v2.png", Numbered("x", 4, 5, "_v2.png")),
        ("x_7_.png", Numbered("x", 7, 1, "_.png")),
        ("x_001.png", Numbered("x", 1, 3, ".png")),
        ("_00001_.png", Numbered("", 1, 5, "_.png")),
        ("x_00009", Numbered("x", 9, 5, "")),
        ("photo_2024.png", None),
        ("photo_20240131.png", None),
        ("seed_123456789012345.png", None),
        ("image00001.png", None),
        ("image_00001x.png", None),
        ("plain.png", None),
        ("", None),
    ],
)
def test_a_counter_is_told_from_other_digits(name, parts):
    assert parse_numbered(name) == parts
    if parts:
        assert parts.with_number(parts.number) == name


def test_a_batch_continues_the_folders_numbers_in_its_own_order(root, made):
    root.mkdir()
    (root / "ComfyUI_00041_.png").touch()
    (root / "ComfyUI_other_00900_.png").touch()
    (root / "ComfyUI_1024x768.png").touch()
    placer = Placer(root)
    names = [placer.place(made(str(number)), "", f"ComfyUI_{number:05}_.png") for number in (7, 8, 9)]
    assert names == ["ComfyUI_00042_.png", "ComfyUI_00043_.png", "ComfyUI_00044_.png"]
    assert [(root / name).read_text() for name in names] == ["7", "8", "9"]


def test_files_that_share_a_number_keep_sharing_one(root, made):
    root.mkdir()
    (root / "clip_00005-audio.mp4").touch()
    placer = Placer(root)
    names = [placer.place(made(), "", name) for name in ("clip_00001.png", "clip_00001.mp4", "clip_00001-audio.mp4")]
    assert names == ["clip_00006.png", "clip_00006.mp4", "clip_00006-audio.mp4"]
    assert Placer(root).place(made(), "", "clip_00001.mp4") == "clip_00007.mp4"


def test_a_group_whose_exact_name_is_taken_goes_on_at_a_new_number(root, made):
    placer = Placer(root)
    assert placer.place(made(), "", "clip_00001.png") == "clip_00001.png"
    (root / "clip_00001.mp4").write_text("somebody else's")
    assert placer.place(made("mine"), "", "clip_00001.mp4") == "clip_00002.mp4"
    assert placer.place(made(), "", "clip_00001-audio.mp4") == "clip_00002-audio.mp4"
    assert (root / "clip_00001.mp4").read_text() == "somebody else's"


def test_a_listing_is_made_once_for_each_group(root, made, monkeypatch):
    listed = []
    real = placing.highest_number
    monkeypatch.setattr(placing, "highest_number", lambda *args: listed.append(args) or real(*args))
    placer = Placer(root)
    for number in (1, 2):
        for extension in ("png", "mp4", "wav"):
            placer.place(made(), "", f"clip_{number:05}.{extension}")
    assert len(listed) == 2


def test_prefixes_compare_as_comfyui_compares_them(root, made, monkeypatch):
    monkeypatch.setattr(placing.os.path, "normcase", str.lower)
    root.mkdir()
    (root / "comfyui_00004_.png").touch()
    assert Placer(root).place(made(), "", "ComfyUI_00001_.png") == "ComfyUI_00005_.png"


def test_the_numbers_are_those_comfyui_would_choose_next(comfyui, root, made):
    root.mkdir()
    for name in (
        "ComfyUI_00002_.png",
        "ComfyUI_00010_.webp",
        "ComfyUI_x_00099_.png",
        "ComfyUI_1024x768.png",
        "ComfyUI",
    ):
        (root / name).touch()
    ask = "import sys, folder_paths; print(folder_paths.get_save_image_path('ComfyUI', sys.argv[1])[2])"
    command = [str(comfyui.python), "-c", ask, str(root)]
    answer = subprocess.run(command, cwd=comfyui.path, capture_output=True, text=True, timeout=60, check=True)
    assert Placer(root).place(made(), "", "ComfyUI_00001_.png") == f"ComfyUI_{int(answer.stdout):05}_.png"


def test_a_name_without_a_counter_is_kept_or_marked_as_a_copy(root, made):
    placer = Placer(root)
    names = [placer.place(made(str(copy)), "", "portrait.tar.gz") for copy in range(3)]
    assert names == ["portrait.tar.gz", "portrait.tar (1).gz", "portrait.tar (2).gz"]
    assert [(root / name).read_text() for name in names] == ["0", "1", "2"]


def test_missing_subfolders_are_made_and_numbered_apart(root, made):
    placer = Placer(root)
    assert placer.place(made(), "video/today", "clip_00003.mp4") == "clip_00001.mp4"
    assert placer.place(made(), "video", "clip_00003.mp4") == "clip_00001.mp4"
    assert (root / "video" / "today" / "clip_00001.mp4").is_file()


def test_the_source_is_moved_without_a_copy(root, made):
    source = made()
    inode = source.stat().st_ino
    name = Placer(root).place(source, "", "plain.png")
    assert (root / name).stat().st_ino == inode
    assert not source.exists()


def _no_links(monkeypatch, code, only_from=None):
    real = os.link

    def link(source, final, **kwargs):
        if only_from is None or Path(source).parent == only_from:
            raise OSError(code, os.strerror(code))
        return real(source, final, **kwargs)

    monkeypatch.setattr(filing.os, "link", link)


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP])
def test_without_hard_links_files_are_copied_and_still_never_overwritten(root, made, monkeypatch, code, everywhere):
    root.mkdir()
    (root / "a_00001_.png").write_text("old")
    (root / "plain.png").write_text("old")
    source = made("new")
    _no_links(monkeypatch, code, None if everywhere else source.parent)
    placer = Placer(root)
    assert placer.place(source, "", "a_00001_.png") == "a_00002_.png"
    assert placer.place(made("new"), "", "plain.png") == "plain (1).png"
    assert not source.exists()
    assert _contents(root) == {
        "a_00001_.png": "old",
        "a_00002_.png": "new",
        "plain.png": "old",
        "plain (1).png": "new",
    }


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="no second file system")  # noqa: S108
def test_a_file_from_another_file_system_arrives(root, tmp_path):
    source = Path("/dev/shm") / f"comfyume-test-{os.getpid()}"  # noqa: S108
    source.write_text("from afar")
    try:
        if source.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("no second file system")
        assert Placer(root).place(source, "", "a_00009_.png") == "a_00001_.png"
    finally:
        source.unlink(missing_ok=True)
    assert _contents(root) == {"a_00001_.png": "from afar"}


def test_a_full_disk_leaves_the_source_and_nothing_else(root, made, monkeypatch):
    source = made()
    _no_links(monkeypatch, errno.EXDEV)

    def full(*_args):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(filing.shutil, "copyfileobj", full)
    with pytest.raises(NotEnoughSpace, match="Free some disk space"):
        Placer(root).place(source, "", "a_00001_.png")
    assert source.exists()
    assert _contents(root) == {}


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "/etc/passwd", "a/b.png", "../a.png", "a\\b.png", "..\\a.png", "C:a.png", "C:\\a.png", "a\0.png"],
)
def test_names_that_lead_elsewhere_are_refused(root, made, name):
    source = made()
    with pytest.raises(UnsafeName):
        Placer(root).place(source, "", name)
    assert source.exists()


@pytest.mark.parametrize(
    "subfolder",
    [
        "/",
        "/etc",
        "..",
        "a/../..",
        "a/..",
        "../output-of-another",
        "a\\b",
        "..\\..",
        "C:",
        "C:/x",
        "a\0b",
        "out",
        "out/x",
    ],
)
def test_subfolders_that_lead_elsewhere_are_refused(root, made, tmp_path, subfolder):
    root.mkdir()
    (root / "out").symlink_to(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UnsafeName):
        Placer(root).place(made(), subfolder, "x.png")
    assert [path for path in sorted(tmp_path.rglob("*")) if path.parent.name != "sources"] == before


def test_a_file_in_the_way_of_a_subfolder_is_named(root, made):
    Placer(root).place(made(), "", "video")
    for subfolder in ("video", "video/below"):
        with pytest.raises(UnsafeName, match="is a file"):
            Placer(root).place(made(), subfolder, "clip.mp4")


def test_a_link_as_source_or_as_taken_name_is_not_followed(root, made, tmp_path):
    root.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (root / "plain.png").symlink_to(victim)
    assert Placer(root).place(made(), "", "plain.png") == "plain (1).png"
    assert victim.read_text() == "precious"
    with pytest.raises(UnsafeName):
        Placer(root).place(root / "plain.png", "", "other.png")


def _place_many(sources: Path, root: Path, worker: int, start_at: float) -> None:
    time.sleep(max(0.0, start_at - time.time()))
    placer = Placer(root)
    for number in range(1, 26):
        # Half of them begin with the other kind, or the first file's name alone would keep the groups apart.
        for extension in ("png", "mp4") if worker % 2 else ("mp4", "png"):
            source = sources / f"{worker}-{number}.{extension}"
            source.write_text(f"{worker} {number} {extension}")
            placer.place(source, "", f"ComfyUI_{number:05}_.{extension}")


def test_eight_processes_placing_at_once_lose_and_mix_nothing(root, tmp_path):
    sources = tmp_path / "sources"
    sources.mkdir()
    context = multiprocessing.get_context("fork")
    start_at = time.time() + 0.3
    workers = [context.Process(target=_place_many, args=(sources, root, worker, start_at)) for worker in range(8)]
    for process in workers:
        process.start()
    for process in workers:
        process.join(60)
    assert [process.exitcode for process in workers] == [0] * 8
    contents = _contents(root)
    assert len(contents) == len(set(contents.values())) == 400
    for worker in range(8):
        images = sorted(name for name, content in contents.items() if content.split()[::2] == [str(worker), "png"])
        assert [int(contents[name].split()[1]) for name in images] == list(range(1, 26))
        for name in images:  # the video has the number of its preview
            assert contents[name.replace(".png", ".mp4")] == contents[name].replace("png", "mp4")
    assert not list(sources.iterdir())
