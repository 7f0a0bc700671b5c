"""What a lost attempt placed is known by its notes, and nothing else is touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from comfyume.blobs.delivery_notes import DeliveryNote, DeliveryNotes
from comfyume.blobs.placing import Placer


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "output"
    folder.mkdir()
    return folder


@pytest.fixture
def notes(tmp_path: Path) -> DeliveryNotes:
    return DeliveryNotes(tmp_path / "notes" / "workshop")


def place(notes: DeliveryNotes, output: Path, name: str, *, subfolder: str = "", claim: str = "c1") -> str:
    """Place a new file for a claim and note it."""
    source = output.parent / "source.png"
    source.write_text(f"{claim} {name}")

    def note(path: str, inode: int) -> None:
        notes.add("job", claim, DeliveryNote("ada", "output", path, inode))

    return Placer(output).place(source, subfolder, name, note=note)


def test_a_placed_file_is_noted_and_can_be_taken_back(notes: DeliveryNotes, output: Path) -> None:
    name = place(notes, output, "shot_00001_.png", subfolder="day 1")
    assert notes.claims() == [("job", "c1")]
    (note,) = notes.read("job", "c1")
    assert note.path == f"day 1/{name}"
    assert note.take_back(output)
    assert list((output / "day 1").iterdir()) == []
    assert not note.take_back(output)


def test_a_name_that_somebody_else_has_is_not_taken_back(notes: DeliveryNotes, output: Path) -> None:
    (output / "film.mp4").write_text("another's")
    assert place(notes, output, "film.mp4") == "film (1).mp4"
    assert [note.path for note in notes.read("job", "c1")] == ["film.mp4", "film (1).mp4"]
    assert [note.take_back(output) for note in notes.read("job", "c1")] == [False, True]
    assert (output / "film.mp4").read_text() == "another's"


def test_a_file_that_was_replaced_since_stays(notes: DeliveryNotes, output: Path) -> None:
    place(notes, output, "film.mp4")
    (output / "new").write_text("new")
    os.replace(output / "new", output / "film.mp4")
    assert [note.take_back(output) for note in notes.read("job", "c1")] == [False]
    assert (output / "film.mp4").read_text() == "new"


@pytest.mark.parametrize("path", ["../secret", "{root}/secret", "link/secret", "sub/../../secret"])
def test_a_note_that_leads_out_of_the_folder_is_not_followed(output: Path, path: str) -> None:
    secret = output.parent / "secret"
    secret.write_text("secret")
    (output / "link").symlink_to(output.parent)
    (output / "sub").mkdir()
    note = DeliveryNote("ada", "output", path.format(root=output.parent), secret.stat().st_ino)
    assert not note.take_back(output)
    assert secret.exists()


def test_a_line_that_was_cut_short_hides_no_other(notes: DeliveryNotes, output: Path, tmp_path: Path) -> None:
    name = place(notes, output, "shot_00001_.png")
    with (tmp_path / "notes" / "workshop" / "job.c1").open("a") as file:
        file.write('{"user": "ada", "ki')
    assert [note.path for note in notes.read("job", "c1")] == [name]


def test_forgotten_notes_are_gone(notes: DeliveryNotes, output: Path) -> None:
    place(notes, output, "a.png")
    place(notes, output, "b.png", claim="c2")
    notes.forget("job", "c1")
    notes.forget("job", "c1")
    assert notes.claims() == [("job", "c2")]
    assert not notes.has("job", "c1")
    assert notes.read("job", "c1") == []
