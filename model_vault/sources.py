"""Sources on the internet: which may be asked, and what they say of a file before it is fetched.

The addresses come from graphs that anybody may have written. So a host must be known, the way there is encrypted, and
neither it nor what it leads on to may be of this machine or its network, unless an instructor has named that host.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiohttp import hdrs

from ..blobs.protocol import ContentRange
from ..public_addresses import PublicResolver, may_be_reached
from .errors import Gated, SourceFailed, SourceRefused, SourceUnreachable

#: Hosts that are known without being named.
KNOWN_HOSTS = ("huggingface.co", "civitai.com", "github.com")
HUB = "huggingface.co"
STALL_SECONDS = 60.0
BROKEN = (aiohttp.ClientError, asyncio.TimeoutError, ConnectionError)
#: Of a server that may answer otherwise in a moment.
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 10
#: Seconds after which a source that did not answer is asked again.
_PAUSES = (0.5, 2.0)
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=15.0, sock_read=STALL_SECONDS)
_HOSTS = "Fetch it yourself if you trust it, or name the host in COMFYUME_MODELS_HOSTS."


@dataclass(frozen=True)
class SourceRules:
    """Where models may come from.

    Attributes:
        hosts: further hosts; what is named here may also be in a private network, and without encryption.
        hub: the host that gets the token, and no other; a mirror of Hugging Face, maybe.
        token: for models that are given only to who has accepted their conditions.
    """

    hosts: frozenset[str] = frozenset()
    hub: str = HUB
    token: str = field(default="", repr=False)

    def check(self, url: str) -> None:
        """See that a graph's address may be asked. Raises `SourceRefused`."""
        host = self.check_hop(url)
        if host not in self.hosts and host.removeprefix("www.") not in KNOWN_HOSTS:
            raise SourceRefused(url, f"{host} is none of the hosts from which models are fetched", _HOSTS)

    def check_hop(self, url: str) -> str:
        """See that an address may be asked to which a known host leads on; return its host. Raises `SourceRefused`."""
        try:
            parts = urlsplit(url)
            host, _ = (parts.hostname or "").lower(), parts.port
        except ValueError:
            raise SourceRefused(url, "that is no address", "Correct it in the workflow.") from None
        if host in self.hosts and parts.scheme in ("http", "https"):
            return host
        if parts.scheme != "https" or not host:
            raise SourceRefused(url, "it does not begin with https://", "Correct it in the workflow.")
        if not may_be_reached(host):
            raise SourceRefused(url, f"{host} is no address on the internet", _HOSTS)
        return host

    def headers(self, url: str) -> dict[str, str]:
        """What a request carries to this address, and to no other."""
        parts = urlsplit(url)
        to_hub = parts.hostname == self.hub and (parts.scheme == "https" or self.hub in self.hosts)
        return {hdrs.AUTHORIZATION: f"Bearer {self.token}"} if self.token and to_hub else {}


@dataclass(frozen=True)
class SourceFile:
    """What a source says of a file: its size in bytes, its SHA-256 or nothing, and a word that changes with it."""

    url: str
    size: int
    sha256: str = ""
    tag: str = ""


class Sources:
    """Asks sources. Use as a context manager, on one event loop."""

    def __init__(self, rules: SourceRules) -> None:
        self.rules = rules
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Sources:
        connector = aiohttp.TCPConnector(resolver=PublicResolver(self.rules.hosts), limit=32)
        self._session = aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self, url: str) -> SourceFile:
        """What is behind an address.

        Raises:
            SourceRefused, Gated, SourceFailed: why nothing can be had from there.
        """
        self.rules.check(url)
        for pause in _PAUSES:
            try:
                return await self._ask(url)
            except SourceUnreachable:
                await asyncio.sleep(pause)
        return await self._ask(url)

    async def _ask(self, url: str) -> SourceFile:
        told: dict[str, str] = {}
        async with self.opened("HEAD", url, told=told) as response:
            length = told.get("X-Linked-Size") or str(response.headers.get(hdrs.CONTENT_LENGTH, ""))
            # Addresses that are signed for one method answer 403 to the other.
            is_told = (response.status == 200 or "X-Linked-Size" in told) and length.isascii() and length.isdigit()
            if response.status not in (200, 403, 405) and response.status not in PASSING and not is_told:
                raise failure(url, response.status)
            tag = response.headers.get(hdrs.ETAG, "")
        if is_told:
            linked = told.get("X-Linked-Etag", "").strip('"')
            return SourceFile(url, int(length), linked if _is_sha256(linked) else "", linked or tag)
        async with self.opened("GET", url, {hdrs.RANGE: "bytes=0-0"}) as response:
            ranges = ContentRange.parse(response.headers.get(hdrs.CONTENT_RANGE, ""))
            if response.status not in (200, 206):
                raise failure(url, response.status)
            size = ranges.total if ranges is not None else response.content_length
            if size is None:
                raise SourceFailed(url, "it does not say how large the file is", "Fetch it yourself.")
            return SourceFile(url, size, "", response.headers.get(hdrs.ETAG, ""))

    @asynccontextmanager
    async def opened(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, *, told: dict[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer behind all redirects, each of which must be allowed.

        Args:
            told: filled with what Hugging Face says of the file on the way. With it, redirects end there.

        Raises:
            SourceRefused, Gated, SourceFailed: it leads nowhere.
        """
        if self._session is None:
            raise RuntimeError("Sources is a context manager: enter it first")
        at = url
        for _ in range(_MOST_REDIRECTS):
            self.rules.check_hop(at)
            sent = {hdrs.ACCEPT_ENCODING: "identity", **(headers or {}), **self.rules.headers(at)}
            try:
                response = await self._session.request(method, at, headers=sent, allow_redirects=False)
            except BROKEN as error:
                raise SourceUnreachable(url, str(error) or type(error).__name__) from error
            async with response:
                if response.status in (401, 403) and self._asks_for_consent(response, at):
                    raise Gated(url, _page_of(at), has_token=bool(self.rules.token))
                linked = {name: response.headers[name] for name in _LINKED if name in response.headers}
                if told is not None:
                    told.update(linked)
                target = response.headers.get(hdrs.LOCATION, "")
                if response.status in _REDIRECTS and target and not (told is not None and "X-Linked-Size" in linked):
                    at = urljoin(at, target)
                    continue
                yield response
                return
        raise SourceFailed(url, "it leads on and on")

    def _asks_for_consent(self, response: aiohttp.ClientResponse, url: str) -> bool:
        is_hub = urlsplit(url).hostname == self.rules.hub or "X-Error-Code" in response.headers
        return is_hub and "/resolve/" in url


_LINKED = ("X-Linked-Size", "X-Linked-Etag")


def _is_sha256(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{64}", text) is not None


def _page_of(url: str) -> str:
    """The page of a model on Hugging Face, on which its conditions are accepted."""
    return url.partition("/resolve/")[0]


def failure(url: str, status: int) -> SourceFailed:
    """What an answer means that is no file."""
    if status in (404, 410):
        return SourceFailed(
            url, f"there is no such file (HTTP {status})", "It may have moved: look for its new address."
        )
    if status in (401, 403):
        return SourceFailed(
            url, f"it is not given to everybody (HTTP {status})", "Sign in there and fetch it yourself."
        )
    return SourceFailed(url, f"it answered HTTP {status}")
