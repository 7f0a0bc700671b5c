"""Seals the keys that a prompt brings along, such as those of paid services, on their way through the store.

The store writes what passes to its disk, and whoever administers it can read that. The processes of a workshop share
words that the store does not have, and make the key of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cached_property
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from .errors import SecretsUnreadable

#: Cost of the key (RFC 7914): 32 MiB and about 0.1 s, so that words that are easy to guess take long to find.
SCRYPT = {"n": 2**15, "r": 8, "p": 1, "maxmem": 64 * 1024 * 1024}
#: AES-256 in the synthetic initialization vector mode (RFC 5297) takes two keys of 32 bytes.
KEY_BYTES = 64


class Sealer:
    """Seals and opens what belongs to one job. Blocking: the first time takes about 0.1 s.

    The same secrets of the same job are sealed alike, so that a submit that is sent again is known as the same.

    Args:
        words: gives the words that all processes of the workshop share; asked once, when there is something to seal.
    """

    def __init__(self, words: Callable[[], str], workshop: str) -> None:
        self._words = words
        self._workshop = workshop

    def seal(self, job_id: str, secrets: dict[str, Any]) -> bytes:
        """Secrets as they may lie in the store; nothing of nothing.

        Raises:
            SecretsUnreadable: the workshop's words are not to be had.
        """
        return self._cipher.encrypt(json.dumps(secrets).encode(), [job_id.encode()]) if secrets else b""

    def open(self, job_id: str, sealed: bytes) -> dict[str, Any]:
        """What was sealed for this job.

        Raises:
            SecretsUnreadable: it was sealed with other words, or for another job.
        """
        if not sealed:
            return {}
        try:
            secrets: dict[str, Any] = json.loads(self._cipher.decrypt(sealed, [job_id.encode()]))
        except InvalidTag as error:
            raise SecretsUnreadable(
                "This worker cannot read the API keys that came with the prompt: its secret is not the frontend's. "
                "Set COMFYUME_SECRET to the same words on both."
            ) from error
        return secrets

    @cached_property
    def _cipher(self) -> AESSIV:
        salt = f"comfyume secrets of {self._workshop}".encode()
        return AESSIV(hashlib.scrypt(self._words().encode(), salt=salt, dklen=KEY_BYTES, **SCRYPT))
