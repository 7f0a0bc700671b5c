"""How a backup is sealed: nothing can be read, moved, cut off or exchanged without being noticed."""

from __future__ import annotations

import io

import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given, settings
from hypothesis import strategies as st

from comfyume.backups.manifest import Entry, Manifest, PartEntry, Summary, decode, encode
from comfyume.backups.secrecy import BackupKeys, CutShort, new_words, opened, sealed, sealed_size

KEY = bytes(range(32))
CHUNK = 64
KEYS = BackupKeys("words", b"salt" * 4)
SHA = "ab" * 32


def pieces(data: bytes) -> list[bytes]:
    return [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]


def seal(data: bytes) -> bytes:
    return b"".join(sealed(KEY, pieces(data)))


def unseal(data: bytes) -> bytes:
    return b"".join(opened(KEY, io.BytesIO(data).read, CHUNK))


@given(st.binary(max_size=5 * CHUNK))
def test_what_is_sealed_is_opened_and_is_as_long_as_it_is_said(data: bytes) -> None:
    assert unseal(seal(data)) == data
    assert len(seal(data)) == sealed_size(len(data), CHUNK)


@given(st.binary(min_size=1, max_size=5 * CHUNK), st.data())
def test_whatever_is_cut_off_or_changed_is_noticed(data: bytes, draw: st.DataObject) -> None:
    whole = seal(data)
    length = draw.draw(st.integers(0, len(whole) - 1))
    with pytest.raises((CutShort, InvalidTag)):
        unseal(whole[:length])
    at = draw.draw(st.integers(0, len(whole) - 1))
    with pytest.raises((CutShort, InvalidTag)):
        unseal(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])


def test_chunks_cannot_change_places_and_an_end_is_the_end() -> None:
    data = bytes(range(200))
    whole, step = seal(data), CHUNK + 16
    with pytest.raises(InvalidTag):
        unseal(whole[step : 2 * step] + whole[:step] + whole[2 * step :])
    with pytest.raises(CutShort):
        unseal(whole[: 2 * step])
    with pytest.raises(InvalidTag):
        unseal(whole + whole[:step])


def test_keys_differ_by_words_salt_content_and_name() -> None:
    other = BackupKeys("words", b"SALT" * 4)
    names = {keys.name_of(sha) for keys in (KEYS, other) for sha in (SHA, "cd" * 32)}
    contents = {keys.of_content(sha) for keys in (KEYS, other) for sha in (SHA, "cd" * 32)}
    manifests = {KEYS.of_manifest(name, salt) for name in ("a", "b") for salt in (b"1", b"2")}
    assert (len(names), len(contents), len(manifests)) == (4, 4, 4)
    assert SHA not in names
    assert BackupKeys(" words\n", b"salt" * 4).check == KEYS.check, "what was copied with a line's end is the same"
    assert len({new_words() for _ in range(10)}) == 10


NAMES = st.text(st.characters(exclude_characters="\n"), min_size=1, max_size=12)
ENTRIES = st.builds(
    Entry,
    name=NAMES,
    kind=st.sampled_from(["file", "link", "folder"]),
    size=st.integers(0, 2**50),
    mtime_ns=st.integers(-(2**62), 2**62),
    mode=st.integers(0, 0o7777),
    owner=NAMES,
    sha256=st.just(SHA),
    target=NAMES,
)


@settings(max_examples=50)
@given(st.lists(ENTRIES, max_size=8))
def test_a_manifest_survives_being_written_down(entries: list[Entry]) -> None:
    summary = Summary("20261130T140000.000Z-0123abcd", 1.5, "why", problems=("one",), facts={"users": 2})
    manifest = Manifest(summary, {"output": "/srv/output"}, (PartEntry("store/live", "", 3, SHA),), tuple(entries))
    assert decode([encode(manifest)]) == manifest
