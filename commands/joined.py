"""What a machine remembers of the workshop that it joined, so that it can go on after a cut."""

from __future__ import annotations

import hashlib
import json
import secrets
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationError

from ..blobs.filing import write_whole
from ..briefing import PATH, Briefing
from ..settings import LOOPBACK_HOSTS
from .errors import CommandError

FILE = "joined.json"
MACHINE = "machine"
TIMEOUT = 30


@dataclass(frozen=True)
class Joined:
    """A workshop that this machine may work for.

    Attributes:
        frontend: the address of its frontend, as the link has it.
        machine: what tells this machine from others.
    """

    frontend: str
    machine: str
    briefing: Briefing


def join(state: Path, link: str | None) -> tuple[Joined, bool]:
    """The workshop of a link, or without one that which this machine joined last; and whether it was asked just now.

    The answer is kept in the state folder, which nobody else can read, and asked for only once.

    Raises:
        CommandError: the link is none, or does not hold for this machine; or no workshop was ever joined.
    """
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    kept = _read(state / FILE)
    if link is None:
        if kept is None:
            raise CommandError("This machine has joined no workshop yet: run `comfyume worker --join LINK`.")
        return _joined(kept), False
    digest = hashlib.sha256(link.encode()).hexdigest()
    if kept is not None and kept["link"] == digest:
        return _joined(kept), False
    frontend = _frontend_of(link)
    machine = _machine(state)
    kept = {"link": digest, "frontend": frontend, "machine": machine, "briefing": _ask(link, machine)}
    joined = _joined(kept)
    write_whole(state / FILE, json.dumps(kept).encode(), 0o600)
    return joined, True


def _joined(kept: dict[str, object]) -> Joined:
    try:
        return Joined(str(kept["frontend"]), str(kept["machine"]), Briefing.model_validate(kept["briefing"]))
    except (ValidationError, KeyError) as error:
        raise CommandError(
            "The workshop told what this comfyume does not understand: bring both to the same version."
        ) from error


def _frontend_of(link: str) -> str:
    parts = urlsplit(link)
    if parts.scheme not in ("http", "https") or not parts.hostname or PATH not in parts.path:
        raise CommandError(f"{link!r} is no link to join by: it looks like https://WORKSHOP{PATH}...")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK_HOSTS:
        raise CommandError(
            "This link is not encrypted, and it brings passwords here. Use the frontend's https address, or a tunnel "
            "to it: ssh -N -L 8188:127.0.0.1:8188 SERVER, and http://127.0.0.1:8188 in the link."
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.partition(PATH)[0]}"


def _ask(link: str, machine: str) -> dict[str, object]:
    body = json.dumps({"machine": machine}).encode()
    request = urllib.request.Request(link, body, {"Content-Type": "application/json"})  # noqa: S310 - checked above
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as reply:  # noqa: S310 - as above
            told = json.loads(reply.read())
    except urllib.error.HTTPError as error:
        raise CommandError(_why(error)) from error
    except (OSError, ValueError) as error:
        raise CommandError(f"The workshop does not answer ({error}): check the link, then run this again.") from error
    if not isinstance(told, dict):
        raise CommandError("What answers there is no frontend of comfyume.")
    return told


def _why(error: urllib.error.HTTPError) -> str:
    try:
        detail = json.loads(error.read())["detail"]
    except (ValueError, KeyError, TypeError, OSError):
        return f"The workshop answered {error.code} {error.reason}: check the link."
    return f"The workshop says: {detail}"


def _machine(state: Path) -> str:
    """Before the link is used: else an answer that gets lost would use it up."""
    file = state / MACHINE
    if not file.exists():
        write_whole(file, secrets.token_hex(16).encode(), 0o600)
    return file.read_text(encoding="ascii")


def _read(file: Path) -> dict[str, object] | None:
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CommandError(f"{file} cannot be read ({error}): remove it, and join again with a new link.") from error
    return kept if isinstance(kept, dict) else None
