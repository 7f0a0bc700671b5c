"""Requests to addresses that somebody else chose reach the internet, and nothing of this machine or its network."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Collection

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver


def may_be_reached(host: str) -> bool:
    """Whether an address is one of the internet; a name has yet to be looked up, by `PublicResolver`."""
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return True


class PublicResolver(AbstractResolver):
    """Looks names up, and finds none of this machine or its network but those that are allowed."""

    def __init__(self, hosts: Collection[str]) -> None:
        self._hosts = hosts
        self._resolver = DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """See aiohttp."""
        found = await self._resolver.resolve(host, port, family)
        if host not in self._hosts:
            found = [each for each in found if ipaddress.ip_address(each["host"]).is_global]
        if not found:
            raise OSError(errno.EADDRNOTAVAIL, f"{host} is no address on the internet")
        return found

    async def close(self) -> None:
        """See aiohttp."""
        await self._resolver.close()
