"""What a frontend believes of the headers that proxies add."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from comfyume import settings
from comfyume.accounts.activity import ActivityLog
from comfyume.accounts.users import User
from comfyume.job_queue.keys import Keys
from comfyume.server_routes.identity import Identity, NotAllowed, NotSignedIn

PROXY = "127.0.0.1"


def identity() -> Identity:
    given = settings.load({"COMFYUME_TRUSTED_PROXIES": PROXY, "COMFYUME_USER_HEADER": "X-User"})
    client: Any = None
    made = Identity(client, Keys("w"), given, ActivityLog(client, Keys("w")))
    made._known = {"ada": User("ada", "participant", "", 0)}
    made._known_until = float("inf")
    return made


def request(*headers: tuple[str, str], peer: str = PROXY) -> Any:
    made = make_mocked_request("GET", "/", headers=CIMultiDict(headers))
    return made.clone(remote=peer)


@pytest.mark.parametrize(
    ("lines", "address"),
    [
        ((), PROXY),
        (("192.0.2.7",), "192.0.2.7"),
        (("203.0.113.9, 192.0.2.7",), "192.0.2.7"),
        # HAProxy adds a line of its own behind the one that somebody sent.
        (("203.0.113.9", "192.0.2.7"), "192.0.2.7"),
        (("203.0.113.9", "192.0.2.7, 127.0.0.1"), "192.0.2.7"),
    ],
)
def test_somebody_is_where_the_last_proxy_saw_them(lines: tuple[str, ...], address: str) -> None:
    assert identity().address_of(request(*(("X-Forwarded-For", line) for line in lines))) == address


def test_nobody_else_is_believed() -> None:
    assert identity().address_of(request(("X-Forwarded-For", "203.0.113.9"), peer="192.0.2.7")) == "192.0.2.7"


async def test_one_name_of_a_proxy_is_believed_and_of_two_nobody_knows_which_is_its_own() -> None:
    assert (await identity().who(request(("X-User", "Ada")))).name == "ada"
    with pytest.raises(NotAllowed, match="take it out"):
        await identity().who(request(("X-User", "ada"), ("X-User", "ada")))
    with pytest.raises(NotSignedIn):
        await identity().who(request(("X-User", "ada"), peer="192.0.2.7"))
