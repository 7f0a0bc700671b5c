"""How much one person, or one address, may ask for: so that nobody's script or forgotten tabs hold up the room.

What is over is answered late, so that a script which asks again at once is slowed down rather than heard.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

#: Requests of one person that are being answered. A browser sends 6 at once, or 100 through a proxy that speaks HTTP/2.
MOST_AT_ONCE = 100
#: Sockets of one person: tabs, and scripts that wait for events.
MOST_SOCKETS = 30
#: Seconds for which the answer to what is over is held back.
HELD_BACK = 1.0
#: People and addresses that are remembered.
MOST_KNOWN = 5_000


@dataclass(frozen=True)
class Rate:
    """Requests that are answered: so many in one go, and so many a second from then on."""

    burst: int
    per_second: float


#: A page loads with some hundred requests, and a browser opens all its tabs again at once.
OF_A_PERSON = Rate(6_000, 50)
#: Of an address, for what anybody may ask for: a whole room may sit behind one.
OF_AN_ADDRESS = Rate(6_000, 200)


class TooMuch(Exception):
    """Somebody asks for more than one person may; the message is for them, and they may try again in a second."""


class _Asker:
    """One person or address: what they have left of their rate, and what is being answered."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._left = float(rate.burst)
        self._seen = time.monotonic()
        self.requests = 0
        self.sockets = 0

    async def take_one(self) -> None:
        """Take a request of the rate; they come back with time."""
        now = time.monotonic()
        self._left = min(self._rate.burst, self._left + (now - self._seen) * self._rate.per_second)
        self._seen = now
        if self._left < 1:
            await asyncio.sleep(HELD_BACK)
            raise TooMuch(
                f"There were {self._rate.burst:,} requests in a short time. "
                f"Now {self._rate.per_second:g} a second are answered."
            )
        self._left -= 1

    @contextmanager
    def answering(self, *, is_socket: bool = False) -> Iterator[None]:
        """Count a request, or a socket, until it has ended."""
        self.sockets += is_socket
        self.requests += not is_socket
        try:
            yield
        finally:
            self.sockets -= is_socket
            self.requests -= not is_socket


class Traffic:
    """Counts what people ask for."""

    def __init__(self) -> None:
        self._askers: OrderedDict[str, _Asker] = OrderedDict()

    async def admit(self, person: str, *, is_socket: bool = False) -> AbstractContextManager[None]:
        """Let a request of a person in; what is returned counts it while it is answered.

        Raises:
            TooMuch: it is too much.
        """
        asker = self._asker(person, OF_A_PERSON)
        if asker.requests >= MOST_AT_ONCE and not is_socket:
            # Those that are held back are among them, so no more than these wait.
            raise TooMuch(f"{MOST_AT_ONCE} of your requests are being answered. Send further ones behind them.")
        with asker.answering():
            if is_socket and asker.sockets >= MOST_SOCKETS:
                await asyncio.sleep(HELD_BACK)
                raise TooMuch(
                    f"ComfyUI is open {MOST_SOCKETS} times under your name. Close some of its tabs or scripts."
                )
            await asker.take_one()
        return asker.answering(is_socket=is_socket)

    async def admit_address(self, address: str) -> None:
        """Let a request in that anybody may send.

        Raises:
            TooMuch: it is too much.
        """
        # No name of a user has a space.
        await self._asker(f"from {address}", OF_AN_ADDRESS).take_one()

    def _asker(self, name: str, rate: Rate) -> _Asker:
        asker = self._askers.get(name)
        if asker is None:
            asker = self._askers[name] = _Asker(rate)
        self._askers.move_to_end(name)
        if len(self._askers) > MOST_KNOWN:
            self._forget_one()
        return asker

    def _forget_one(self) -> None:
        """Forget who asked longest ago and waits for nothing."""
        for name, asker in self._askers.items():
            if not asker.requests and not asker.sockets:
                del self._askers[name]
                return
