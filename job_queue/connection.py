"""Connections to the store, with timeouts set on purpose and errors in our own words."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import redis
import redis.asyncio
import redis.exceptions
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.backoff import ConstantBackoff, NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from .errors import StoreRefused, StoreUnavailable

log = logging.getLogger("comfyume")

#: Seconds until a command that does not block is taken for lost.
COMMAND_TIMEOUT = 5.0
CONNECT_TIMEOUT = 5.0
#: Connections of one client of the event loop; a command that finds all in use waits for one. Left to themselves, some
#: versions of the library refuse the 101st, and a room that opens its pages at once needs more.
MOST_CONNECTIONS = 64
#: The library has no pool for sentinels that waits.
MOST_WITH_SENTINELS = 1_000
#: Seconds of silence on a subscription after which the store is asked whether it is there.
SILENCE = 3.0
#: Under version 3 of the protocol the client library writes each published message out as text, for a log that nobody
#: reads, before it hands it on; and it shakes hands twice.
PROTOCOL = 2

_REFUSALS = (
    redis.exceptions.AuthenticationError,
    redis.exceptions.NoPermissionError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ReadOnlyError,
)


def connect(url: str, *, timeout: float | None = COMMAND_TIMEOUT) -> redis.Redis:
    """A client for threads. ``timeout`` is in seconds; a blocking read needs more than it waits.

    It repeats nothing: some versions of the library would do so three times, with seconds between.
    """
    if urlsplit(url).scheme == "redis+sentinel":
        hosts, service, options = _sentinel(url)
        sentinel: Any = Sentinel(hosts, socket_timeout=timeout)  # type: ignore[no-untyped-call]
        master: redis.Redis = sentinel.master_for(
            service, socket_timeout=timeout, protocol=PROTOCOL, retry=Retry(NoBackoff(), 0), **options
        )
        return master
    return redis.Redis.from_url(
        url,
        socket_timeout=timeout,
        socket_connect_timeout=CONNECT_TIMEOUT,
        health_check_interval=0,
        protocol=PROTOCOL,
        retry=Retry(NoBackoff(), 0),
    )


def connect_async(url: str, *, timeout: float | None = COMMAND_TIMEOUT) -> redis.asyncio.Redis:
    """A client for the event loop; see ``connect``.

    A command whose connection broke is sent once more: every change here may be repeated, and a store that was
    restarted leaves a pool of dead connections behind.
    """
    return _async_client(url, timeout, retries=1)


def connect_listening(url: str) -> redis.asyncio.Redis:
    """A client for subscriptions, which wait without end; whoever listens must know when the connection was lost."""
    return _async_client(url, None, retries=0)


@asynccontextmanager
async def subscribed(client: redis.asyncio.Redis, channel: str) -> AsyncIterator[AsyncIterator[bytes]]:
    """Listen to a channel; yields what is published on it, without end.

    Args:
        client: as ``connect_listening`` makes it.

    Raises:
        redis.exceptions.RedisError: there was no connection, or it broke, perhaps without a word.
    """
    async with client.pubsub() as subscription:
        try:
            # A connection that is made while the line is half open would wait for its first answer without end.
            await asyncio.wait_for(subscription.subscribe(channel), CONNECT_TIMEOUT)
        except asyncio.TimeoutError as error:
            raise redis.exceptions.TimeoutError("the store does not answer to a new connection") from error
        yield _messages(subscription)


async def _messages(subscription: Any) -> AsyncIterator[bytes]:
    """What arrives; a silence is broken by a ping, since a connection that is gone without a word looks like it."""
    is_asked = False
    while True:
        message = await subscription.get_message(timeout=SILENCE)
        if message is None:
            if is_asked:
                raise redis.exceptions.ConnectionError(f"the store was silent for {2 * SILENCE:g} s")
            await subscription.ping()
            is_asked = True
            continue
        is_asked = False
        if message["type"] == "message":
            yield message["data"]


def _async_client(url: str, timeout: float | None, retries: int) -> redis.asyncio.Redis:
    retry = AsyncRetry(ConstantBackoff(0.05), retries)
    if urlsplit(url).scheme == "redis+sentinel":
        hosts, service, options = _sentinel(url)
        sentinel: Any = AsyncSentinel(hosts, socket_timeout=timeout)  # type: ignore[no-untyped-call]
        master: redis.asyncio.Redis = sentinel.master_for(
            service,
            socket_timeout=timeout,
            retry=retry,
            protocol=PROTOCOL,
            max_connections=MOST_WITH_SENTINELS,
            **options,
        )
        return master
    pool: Any = redis.asyncio.BlockingConnectionPool.from_url(
        url,
        max_connections=MOST_CONNECTIONS,
        timeout=COMMAND_TIMEOUT,
        socket_timeout=timeout,
        socket_connect_timeout=CONNECT_TIMEOUT,
        health_check_interval=0,
        protocol=PROTOCOL,
        retry=retry,
    )
    return redis.asyncio.Redis.from_pool(pool)


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn the client library's errors into ours.

    Raises:
        StoreRefused: wrong password, missing rights, no memory left.
        StoreUnavailable: no connection, no answer in time, or a store that is still loading.
    """
    try:
        yield
    except _REFUSALS as error:
        raise StoreRefused(f"The store refused: {error}") from error
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError) as error:
        raise StoreUnavailable(f"The store does not answer: {error}") from error
    except redis.exceptions.ResponseError as error:
        if str(error).startswith(("OOM", "MISCONF", "NOPERM", "READONLY")) or _lacks_right_in_script(str(error)):
            raise StoreRefused(f"The store refused: {error}") from error
        if str(error).startswith(("MASTERDOWN", "NOREPLICAS", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "LOADING")):
            raise StoreUnavailable(f"The store does not answer: {error}") from error
        raise


def _lacks_right_in_script(message: str) -> bool:
    """Whether a script was refused something, which stores of different versions say in different words."""
    return "ACL failure in script" in message or "The user executing the script can't" in message


def _sentinel(url: str) -> tuple[list[tuple[str, int]], str, dict[str, Any]]:
    """Read ``redis+sentinel://[user:password@]host:port[,host:port...]/service[/db]``."""
    parts = urlsplit(url)
    hosts = []
    for host in parts.netloc.rpartition("@")[2].split(","):
        name, _, port = host.partition(":")
        hosts.append((name, int(port or 26379)))
    path = [piece for piece in parts.path.split("/") if piece]
    options: dict[str, Any] = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    if parts.password:
        options["password"] = unquote(parts.password)
    if parts.username:
        options["username"] = unquote(parts.username)
    if len(path) > 1:
        options["db"] = int(path[1])
    return hosts, path[0] if path else "mymaster", options


def check(url: str) -> None:
    """Refuse a store that will never work; one that is merely away is waited for later.

    Raises:
        StoreRefused: wrong password or missing rights.
    """
    client = connect(url)
    try:
        with store_errors():
            client.ping()
            memory = client.info("memory")
        if memory.get("maxmemory") and memory.get("maxmemory_policy") != "noeviction":
            log.warning(
                "[comfyume] the store may throw jobs away when it is full: set its maxmemory-policy to noeviction "
                "(it is %s)",
                memory["maxmemory_policy"],
            )
    except StoreUnavailable as error:
        log.warning("[comfyume] %s Going on; it is tried again.", error)
    finally:
        client.close()
