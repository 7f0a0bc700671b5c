"""Passwords as they are kept: scrypt hashes (RFC 7914) in the PHC string format, and bcrypt ones that were imported."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets

import bcrypt

from .errors import PasswordRefused

#: OWASP's second choice of cost (Password Storage Cheat Sheet): 32 MiB and about 0.2 s, so that a small server can
#: check several at once.
LOG_N, R, P = 15, 8, 3
MEMORY = 64 * 1024 * 1024
SALT_BYTES = 16
HASH_BYTES = 32
#: What nobody types needs no hash of it.
LONGEST = 1024
#: bcrypt looks at no more bytes, and htpasswd cut them off silently.
BCRYPT_BYTES = 72
#: Letters and digits that nobody mistakes for one another on paper.
READABLE = "abcdefghjkmnpqrstuvwxyz23456789"

_SCRYPT = re.compile(r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)")
#: Of a cost that takes seconds at most.
_BCRYPT = re.compile(r"\$2[aby]\$(?:0[4-9]|1[0-4])\$[./A-Za-z0-9]{53}")


def hashed(password: str) -> str:
    """What is kept of a password. Blocking, about 0.2 s.

    Raises:
        PasswordRefused: it is empty or too long.
    """
    if not password:
        raise PasswordRefused("A password needs at least one character.")
    if len(password) > LONGEST:
        raise PasswordRefused(f"A password may have {LONGEST} characters.")
    salt = secrets.token_bytes(SALT_BYTES)
    return f"$scrypt$ln={LOG_N},r={R},p={P}${_text(salt)}${_text(_scrypt(password, salt, LOG_N, R, P))}"


def matches(password: str, kept: str) -> bool:
    """Whether this is the password of which `kept` is kept. Blocking, about 0.2 s."""
    if not password or len(password) > LONGEST:
        return False
    found = _SCRYPT.fullmatch(kept)
    if found is not None:
        log_n, r, p = (int(number) for number in found.groups()[:3])
        salt, expected = (_bytes(text) for text in found.groups()[3:])
        return hmac.compare_digest(_scrypt(password, salt, log_n, r, p), expected)
    given = password.encode()[:BCRYPT_BYTES]
    return is_bcrypt(kept) and b"\0" not in given and bcrypt.checkpw(given, kept.encode())


def is_bcrypt(kept: str) -> bool:
    """Whether this is a bcrypt hash, as ``htpasswd -B`` makes it."""
    return _BCRYPT.fullmatch(kept) is not None


def is_current(kept: str) -> bool:
    """Whether a hash is of the kind that `hashed` makes; others are made anew when their password is seen."""
    return kept.startswith(f"$scrypt$ln={LOG_N},r={R},p={P}$")


def generated() -> str:
    """A password of 59 random bits that can be read out and typed: ``k7mq-x3fp-wd9t``."""
    letters = [secrets.choice(READABLE) for _ in range(12)]
    return "-".join("".join(letters[start : start + 4]) for start in (0, 4, 8))


def _scrypt(password: str, salt: bytes, log_n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=2**log_n, r=r, p=p, maxmem=MEMORY, dklen=HASH_BYTES)


def _text(data: bytes) -> str:
    """Base64 without padding, as the PHC string format has it."""
    return base64.b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4))
