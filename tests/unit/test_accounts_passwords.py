"""Passwords are kept as scrypt hashes; bcrypt ones of an htpasswd file are read."""

from __future__ import annotations

import re

import bcrypt
import pytest

from comfyume.accounts import passwords
from comfyume.accounts.errors import PasswordRefused
from comfyume.accounts.htpasswd import HtpasswdRefused, parse


@pytest.mark.parametrize(
    "password", ["a", "correct horse battery staple", "pä$$:w0rd/%2F#&?=\\\"'", " ", "\U0001f600" * 50]
)
def test_a_password_matches_its_own_hash_alone(password: str) -> None:
    kept = passwords.hashed(password)
    assert password not in kept or len(password) == 1
    assert passwords.is_current(kept)
    assert passwords.matches(password, kept)
    assert not passwords.matches(password + "x", kept)


def test_the_same_password_is_hashed_differently_each_time() -> None:
    assert passwords.hashed("same") != passwords.hashed("same")


@pytest.mark.parametrize("password", ["", "x" * 1025])
def test_no_password_and_an_endless_one_are_refused(password: str) -> None:
    with pytest.raises(PasswordRefused):
        passwords.hashed(password)


def bcrypted(password: str, prefix: str = "2y") -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode().replace("$2b$", f"${prefix}$", 1)


@pytest.mark.parametrize("prefix", ["2y", "2b", "2a"])
def test_a_bcrypt_hash_is_read(prefix: str) -> None:
    kept = bcrypted("secret", prefix)
    assert passwords.matches("secret", kept)
    assert not passwords.matches("Secret", kept)
    assert not passwords.is_current(kept)


def test_bcrypt_looks_at_72_bytes_as_htpasswd_does() -> None:
    kept = bcrypted("x" * 72)
    assert passwords.matches("x" * 80, kept)
    assert not passwords.matches("x" * 71, kept)


@pytest.mark.parametrize("kept", ["", "secret", "$apr1$salt$hash", "$scrypt$ln=15$x", "$2y$05$short"])
def test_what_is_no_hash_matches_nothing(kept: str) -> None:
    assert not passwords.matches("secret", kept)
    assert not passwords.matches("", kept)


def test_made_up_passwords_are_readable_and_never_the_same() -> None:
    made = {passwords.generated() for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch(r"[a-z2-9]{4}-[a-z2-9]{4}-[a-z2-9]{4}", each) for each in made)
    assert not set("".join(made)) & set("ilo01")


def test_an_htpasswd_file_is_read_with_comments_and_capitals() -> None:
    first, second = bcrypted("one"), bcrypted("two")
    assert parse(f"# people\n\nUser001:{first}\nuser002:{second}\r\n") == [("user001", first), ("user002", second)]


def test_every_line_that_cannot_be_imported_is_named() -> None:
    good = bcrypted("one")
    text = f"ada:{good}\nada:{good}\nbob:$apr1$abc$def\nno/name:{good}\nlocal:{good}"
    with pytest.raises(HtpasswdRefused) as refused:
        parse(text)
    assert re.findall(r"line (\d+)", str(refused.value)) == ["2", "3", "4", "5"]
