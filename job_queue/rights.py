"""What the user of a workshop's workers may do in the store, as rules for ``ACL SETUSER`` from Redis 6.2 on.

A script has the rights of whoever calls it, so the user needs the commands and keys of all scripts that a worker runs.
It gets nothing of people's accounts, and nothing of other workshops. ``docs/store.md`` says what this does not stop.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from .keys import CHANNELS_OF_WORKERS, KEYS_OF_WORKERS, Keys

#: The scripts that a worker runs, its heartbeat's among them.
SCRIPTS = ("append_events", "claim", "finish", "leave", "register_worker", "renew", "report")
#: Commands in those scripts.
IN_SCRIPTS = (
    *("del", "exists", "expire", "get", "hdel", "hexists", "hget", "hgetall", "hincrby", "hkeys", "hmget", "hset"),
    *("incr", "lrange", "ltrim", "persist", "pexpire", "publish", "rpush", "sadd", "sdiff", "set", "smembers", "srem"),
    *("time", "ttl", "xadd", "zadd", "zcard", "zdiff", "zinter", "zrange", "zrangebyscore", "zrem", "zremrangebyscore"),
    "zscore",
)
#: Commands that a worker sends beside them. `info` tells of the store's memory alone, at the start of each process.
#: `client setinfo`, which the client library sends and can do without, is no command that older stores know a rule for.
BESIDE_SCRIPTS = ("blpop", "evalsha", "exec", "info|memory", "multi", "ping", "script|load", "subscribe", "time")
COMMANDS = tuple(sorted({*IN_SCRIPTS, *BESIDE_SCRIPTS}))


@dataclass(frozen=True)
class WorkerUser:
    """A user of the store for workers of one workshop.

    Attributes:
        label: tells it from others of the store.
        workshop: a name that the settings take, so that nothing in it is special in a pattern; neither are braces.
        database: number of the store's database in which the workshop is.
    """

    label: str
    workshop: str
    database: int = 0

    @property
    def name(self) -> str:
        """Its name in the store."""
        return f"worker-{self.label}"

    @property
    def keys(self) -> list[str]:
        """Patterns of the keys that it may use. The prefix alone is a key too: every script is called with it."""
        prefix = Keys(self.workshop).prefix
        return [*(prefix + name for name in KEYS_OF_WORKERS), prefix]

    @property
    def channels(self) -> list[str]:
        """Patterns of the channels on which it may publish and listen; before Redis 7 no rule tells these two apart."""
        return [Keys(self.workshop).prefix + name for name in CHANNELS_OF_WORKERS]

    def rules(self, *hashes: str) -> list[str]:
        """What makes a user of this name be this one, whatever it was before, with passwords by their hashes."""
        # Redis 6.2 takes no channel for a user who may use all, as by its default a new one may.
        rules = ["reset", "resetchannels", "on", *(f"#{each}" for each in hashes)]
        rules += [f"~{pattern}" for pattern in self.keys] + [f"&{pattern}" for pattern in self.channels]
        rules += [f"+{command}" for command in COMMANDS]
        return [*rules, f"+select|{self.database}"] if self.database else rules

    def line(self, *hashes: str) -> str:
        """What a store's configuration, or its file of users, says of it; see ``rules``."""
        return f"user {self.name} {' '.join(self.rules(*hashes))}"

    def url(self, store: str, password: str) -> str:
        """The address by which a worker reaches a store, from one that another user has."""
        parts = urlsplit(store)
        query = [pair for pair in parse_qsl(parts.query) if pair[0] not in ("username", "password")]
        where = f"{self.name}:{quote(password, safe='')}@{parts.netloc.rpartition('@')[2]}"
        return urlunsplit(parts._replace(netloc=where, query=urlencode(query, safe="/")))


def new_password() -> str:
    """A password that nobody guesses, of letters and digits."""
    return secrets.token_hex(24)


def hash_of(password: str) -> str:
    """What the store keeps of a password."""
    return hashlib.sha256(password.encode()).hexdigest()


def kept_user(folder: Path, workshop: str) -> tuple[WorkerUser, str]:
    """The user for a workshop's workers on the store of a folder, and its password, which a file there keeps.

    Raises:
        OSError: the file can be neither read nor made.
    """
    user = WorkerUser(workshop, workshop)
    file = folder / f"{user.name}.password"
    if not file.exists():
        new = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as output:
            output.write(new_password())
        # A link is never half there, and fails if somebody else was first.
        with contextlib.suppress(FileExistsError):
            os.link(new, file)
        new.unlink()
    return user, file.read_text(encoding="ascii")


def lines_of_kept_users(folder: Path) -> Iterator[str]:
    """What the configuration of a folder's store says of the users that ``kept_user`` made. Raises as that does."""
    for file in sorted(folder.glob("worker-*.password")):
        user, password = kept_user(folder, file.stem.removeprefix("worker-"))
        yield f"{user.line(hash_of(password))}\n"
