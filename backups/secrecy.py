"""How a backup is sealed: who has the bucket, but not the key, learns sizes and moments and no more.

One master key comes by scrypt from the words in ``COMFYUME_BACKUP_KEY`` and a salt that lies in the backup. From it:

- the *name* of a content is an HMAC of its SHA-256, so that nobody can look whether a file that they have is there;
- each content is encrypted with AES-256-GCM by a key of its own, derived from its SHA-256. The same content becomes the
  same bytes, so that an upload which was cut off can go on; and since a key never meets two contents, its nonces can
  simply count;
- each manifest has a key of its own, derived from its name and random bytes.

What is sealed is a row of chunks (the STREAM construction): the nonce of each holds its number and whether it is the
last, so chunks that were left out, moved or cut off at the end are noticed. Memory holds two chunks.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable, Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

#: Bytes of a file in one chunk, and of a manifest, of which each whole chunk can be read should its end be missing.
CHUNK = 1024 * 1024
MANIFEST_CHUNK = 4 * 1024
TAG = 16
SALT = 16
#: scrypt with 32 MiB and a tenth of a second: words that people choose are guessed slowly, a made up key never.
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**15, 8, 1


class CutShort(Exception):
    """What is sealed is not whole; ``InvalidTag`` is raised where it was changed."""


def new_words() -> str:
    """A key that nobody guesses: 256 random bits."""
    return secrets.token_urlsafe(32)


class BackupKeys:
    """The keys of one backup.

    Args:
        words: what the person keeps.
        salt: of this backup, so that two with the same words have nothing in common.
    """

    def __init__(self, words: str, salt: bytes) -> None:
        master = hashlib.scrypt(
            words.strip().encode(), salt=salt, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P, maxmem=2**26, dklen=32
        )
        self._names, self._contents, self._manifests, check = (
            hmac.digest(master, label, "sha256") for label in (b"names", b"contents", b"manifests", b"check")
        )
        #: Tells the right words from others, and nothing about them.
        self.check = check.hex()

    def name_of(self, sha256: str) -> str:
        """Under which name a content is kept: 64 hexadecimal digits."""
        return hmac.digest(self._names, bytes.fromhex(sha256), "sha256").hex()

    def of_content(self, sha256: str) -> bytes:
        """The key of a content."""
        return hmac.digest(self._contents, bytes.fromhex(sha256), "sha256")

    def of_manifest(self, name: str, salt: bytes) -> bytes:
        """The key of a manifest, or of what else is kept under a name."""
        return hmac.digest(self._manifests, salt + name.encode(), "sha256")


def sealed_size(size: int, chunk: int = CHUNK) -> int:
    """How many bytes so many become."""
    return size + TAG * max(1, -(-size // chunk))


def sealed(key: bytes, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Encrypt chunks; all but the last must be of one size. Nothing at all becomes one empty chunk."""
    cipher = AESGCM(key)
    number, waiting = 0, None
    for piece in pieces:
        if waiting is not None:
            yield cipher.encrypt(_nonce(number, is_last=False), waiting, None)
            number += 1
        waiting = piece
    yield cipher.encrypt(_nonce(number, is_last=True), waiting or b"", None)


def opened(key: bytes, read: Callable[[int], bytes], chunk: int = CHUNK) -> Iterator[bytes]:
    """Decrypt what ``sealed`` made.

    Args:
        read: gives the next bytes, as many as it is asked for unless there are no more.

    Raises:
        CutShort: its end is missing.
        InvalidTag: it was changed, or the key is another one.
    """
    cipher = AESGCM(key)
    number, piece = 0, read(chunk + TAG)
    while True:
        following = read(chunk + TAG)
        is_last = not following
        try:
            yield cipher.decrypt(_nonce(number, is_last=is_last), piece, None)
        except InvalidTag:
            if is_last and _is_whole(cipher, number, piece):
                raise CutShort from None
            raise
        if is_last:
            return
        number, piece = number + 1, following


def _is_whole(cipher: AESGCM, number: int, piece: bytes) -> bool:
    """Whether a chunk that should be the last is one after which there were others."""
    try:
        cipher.decrypt(_nonce(number, is_last=False), piece, None)
    except InvalidTag:
        return False
    return True


def _nonce(number: int, *, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([is_last])
