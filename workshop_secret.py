"""The words that the processes of a workshop share and its store does not have."""

from __future__ import annotations

import secrets
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .blobs.filing import write_once
from .job_queue.errors import SecretsUnreadable
from .job_queue.sealing import Sealer
from .settings import Settings

#: Below the home folder: for processes of one machine that nobody has told a secret.
FILE = Path(".config", "comfyume", "secret")


def sealer_of(settings: Settings) -> Sealer:
    """What seals and opens API keys with these words."""
    return Sealer(partial(find, settings), settings.workshop)


def find(settings: Settings) -> str:
    """The setting, else the password of the store, which is in none of its files, else this machine's own words.

    A store without a password is on this machine, or the settings would have been refused; so all of its workshop is.

    Raises:
        SecretsUnreadable: this machine's own can be neither read nor made.
    """
    if settings.secret:
        return settings.secret
    password = urlsplit(settings.redis_url or "").password
    return unquote(password) if password else _of_this_machine()


def _of_this_machine() -> str:
    try:
        path = Path.home() / FILE
        write_once(path, secrets.token_urlsafe(32), mode=0o600)
        return path.read_text(encoding="ascii")
    except (OSError, RuntimeError) as error:
        # RuntimeError: there is no home.
        raise SecretsUnreadable(
            f"API keys in prompts are encrypted, and the secret for it can be neither read nor made here: {error}. "
            "Set COMFYUME_SECRET to the same words on frontend and workers."
        ) from error
