"""The words that the processes of a workshop share and its store does not have."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .job_queue.errors import SecretsUnreadable
from .settings import Settings

#: Below the home folder: for processes of one machine that nobody has told a secret.
FILE = Path(".config", "comfyume", "secret")


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
        if not path.exists():
            _make(path)
        return path.read_text(encoding="ascii")
    except (OSError, RuntimeError) as error:
        # RuntimeError: there is no home.
        raise SecretsUnreadable(
            f"API keys in prompts are encrypted, and the secret for it can be neither read nor made here: {error}. "
            "Set COMFYUME_SECRET to the same words on frontend and workers."
        ) from error


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32))
        # A link is never half there, and fails if somebody else was first.
        os.link(new, path)
    except FileExistsError:
        pass
    finally:
        new.unlink()
