"""What a workshop tells a GPU machine that joins it by a link, and the lock file of node packs that is part of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: In ComfyUI's system user folder, beside ``comfyume.toml``.
LOCK_FILE = "packs.toml"
PATH = "/comfyume/join/"


class LockRefused(Exception):
    """The lock file of node packs is none; the message says what is wrong, and where."""


class Pack(BaseModel):
    """A node pack at one commit of its repository.

    Attributes:
        name: of its folder in ``custom_nodes``.
        url: of the repository, as ``git clone`` takes it.
        commit: 40 hexadecimal digits; tags and branches move.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,100}$")]
    url: Annotated[str, Field(pattern=r"^(https://|ssh://|git@|file:///)[^\s\"\\]+$")]
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]

    def line(self) -> str:
        """Its part of a lock file."""
        return f'[[pack]]\nname = "{self.name}"\nurl = "{self.url}"\ncommit = "{self.commit}"\n'


class _Lock(BaseModel):
    model_config = ConfigDict(extra="forbid")

    pack: list[Pack] = []


def read_lock(file: Path) -> list[Pack]:
    """The node packs that every worker has; none without a lock file. Blocking.

    Raises:
        LockRefused: it cannot be read, or is wrong.
    """
    try:
        return _Lock.model_validate(tomllib.loads(file.read_text(encoding="utf-8"))).pack
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise LockRefused(f"{file} cannot be read: {error}. Write it anew with `comfyume packs --save`.") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise LockRefused(f"{file} is no lock file of node packs: {place}: {first['msg']}.") from error


class Request(BaseModel):
    """What a machine says of itself; ``machine`` tells it from all others, in 32 hexadecimal digits."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    machine: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class Briefing(BaseModel):
    """What a machine needs to be a worker. It holds passwords.

    Attributes:
        environment: settings, by the names of their variables.
        packs: that it shall have.
    """

    model_config = ConfigDict(frozen=True)

    workshop: str
    environment: dict[Annotated[str, Field(pattern=r"^COMFYUME_[A-Z_]+$")], str]
    packs: list[Pack]
