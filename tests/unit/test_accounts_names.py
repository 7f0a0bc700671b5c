"""A user's name is that of a folder and a part of an address, on every system."""

from __future__ import annotations

import pytest

from comfyume.accounts.errors import NameRefused
from comfyume.accounts.users import checked_name, names_of


@pytest.mark.parametrize("name", ["a", "user007", "ada@example.org", "ada.lovelace", "ada-l_2", "x" * 64])
def test_a_name(name: str) -> None:
    assert checked_name(name) == name
    assert checked_name(f" {name.upper()} ") == name


NO_NAMES = [
    "",
    " ",
    ".",
    "..",
    "a..b",
    "a/b",
    "a\\b",
    "a b",
    "a%2fb",
    "-a",
    "a-",
    ".a",
    "a.",
    "__system",
    "x" * 65,
    "ä",
]
TAKEN = ["local", "default", "Local", "con", "NUL", "com1", "nul.txt", "api", "queue", "extensions"]


@pytest.mark.parametrize("name", [*NO_NAMES, *TAKEN, "a\0b", "a\nb", "a:b", "<b>"])
def test_no_name(name: str) -> None:
    with pytest.raises(NameRefused):
        checked_name(name)


def test_a_range_of_names() -> None:
    assert names_of("user001..user003") == ["user001", "user002", "user003"]
    assert names_of("User8..user11") == ["user8", "user9", "user10", "user11"]
    assert names_of("ada") == ["ada"]


@pytest.mark.parametrize("text", ["user3..user1", "user1..guest3", "user..user3", "user1..", "..user1", "u1..u2000"])
def test_no_range_of_names(text: str) -> None:
    with pytest.raises(NameRefused):
        names_of(text)
