"""Users and sessions in the store, and the check of passwords."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import bcrypt
import pytest
import redis.asyncio

from comfyume.accounts import passwords
from comfyume.accounts.activity import ActivityLog
from comfyume.accounts.errors import SignInFailed, TooManyFailures, UserExists, UserUnknown
from comfyume.accounts.sessions import MOST_OF_A_USER, Sessions
from comfyume.accounts.sign_in import MOST_FAILURES, MOST_OF_A_NAME, MOST_OF_AN_ADDRESS, SignIn
from comfyume.accounts.users import Users
from comfyume.job_queue.connection import connect_async
from comfyume.job_queue.keys import Keys

HOME = "192.0.2.1"


class Accounts:
    def __init__(self, url: str, workshop: str) -> None:
        self.keys = Keys(workshop)
        self.client: redis.asyncio.Redis = connect_async(url)
        self.users = Users(self.client, self.keys)
        self.sessions = Sessions(self.client, self.keys)
        self.sign_in = SignIn(self.client, self.keys, self.users, ActivityLog(self.client, self.keys))

    async def everything(self) -> bytes:
        """All that the store holds of this workshop."""
        return b"".join([await self.client.dump(key) async for key in self.client.scan_iter(f"{self.keys.prefix}*")])


@pytest.fixture
async def accounts(store: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Accounts]:
    # As it is, only cheaper.
    monkeypatch.setattr(passwords, "LOG_N", 4)
    made = Accounts(store.url, store.workshop)
    yield made
    await made.client.aclose()


async def test_a_user_signs_in_with_their_password_alone(accounts: Accounts) -> None:
    await accounts.users.add("ada", "participant", passwords.hashed("right"))
    user = await accounts.sign_in.check(" Ada ", "right", HOME)
    assert (user.name, user.role, user.is_instructor) == ("ada", "participant", False)
    for name, password in [("ada", "wrong"), ("ada", ""), ("bob", "right"), ("no/name", "right"), ("", "")]:
        with pytest.raises(SignInFailed, match="The name or the password is wrong"):
            await accounts.sign_in.check(name, password, "192.0.2.2")
    assert b"right" not in await accounts.everything()


async def test_one_name_is_one_user(accounts: Accounts) -> None:
    added = await asyncio.gather(
        *(accounts.users.add("ada", "participant", str(number)) for number in range(20)), return_exceptions=True
    )
    assert sum(isinstance(each, UserExists) for each in added) == 19
    assert list(await accounts.users.all()) == ["ada"]


async def test_a_new_password_ends_the_sessions_and_tokens_of_the_old_one(accounts: Accounts) -> None:
    for name in ("ada", "bob"):
        await accounts.users.add(name, "participant", passwords.hashed("old"))
    tokens = [
        await accounts.sessions.begin("ada", "laptop"),
        await accounts.sessions.begin("ada", "script", ends=False),
    ]
    other = await accounts.sessions.begin("bob", "laptop")
    assert {session.label for session in await accounts.sessions.of_user("ada")} == {"laptop", "script"}
    await accounts.users.set_password("ada", passwords.hashed("new"))
    assert [await accounts.sessions.find(token) for token in tokens] == [None, None]
    assert (await accounts.sessions.find(other)) is not None
    with pytest.raises(SignInFailed):
        await accounts.sign_in.check("ada", "old", HOME)
    await accounts.sign_in.check("ada", "new", HOME)


async def test_a_removed_user_is_signed_out(accounts: Accounts) -> None:
    await accounts.users.add("ada", "instructor", passwords.hashed("right"))
    token = await accounts.sessions.begin("ada", "laptop")
    await accounts.users.remove("ada")
    assert await accounts.sessions.find(token) is None
    assert await accounts.users.all() == {}
    for action in (accounts.users.remove("ada"), accounts.users.get("ada"), accounts.users.set_password("ada", "x")):
        with pytest.raises(UserUnknown):
            await action


async def test_a_session_lives_as_long_as_it_is_used_and_a_token_for_ever(accounts: Accounts) -> None:
    token = await accounts.sessions.begin("ada", "laptop")
    script = await accounts.sessions.begin("ada", "script", ends=False)
    session, lasting = await accounts.sessions.find(token), await accounts.sessions.find(script)
    assert session is not None
    assert lasting is not None
    await accounts.client.expire(accounts.keys.session(session.id), 5)
    await accounts.sessions.find(token)
    assert await accounts.client.ttl(accounts.keys.session(session.id)) > 24 * 3600 - 60
    assert await accounts.client.ttl(accounts.keys.session(lasting.id)) == -1
    await accounts.client.delete(accounts.keys.session(session.id))
    assert await accounts.sessions.find(token) is None
    assert [each.label for each in await accounts.sessions.of_user("ada")] == ["script"]


async def test_the_store_does_not_hold_what_signs_in(accounts: Accounts) -> None:
    token = await accounts.sessions.begin("ada", "laptop")
    assert token.encode() not in await accounts.everything()
    assert await accounts.sessions.find(token[:-1]) is None
    assert await accounts.sessions.find("") is None


async def test_an_imported_hash_is_replaced_when_its_password_is_seen(accounts: Accounts) -> None:
    await accounts.users.add("ada", "participant", bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode())
    with pytest.raises(SignInFailed):
        await accounts.sign_in.check("ada", "wrong", HOME)
    assert passwords.is_bcrypt((await accounts.users.get("ada")).password)
    await accounts.sign_in.check("ada", "right", HOME)
    assert passwords.is_current((await accounts.users.get("ada")).password)
    await accounts.sign_in.check("ada", "right", HOME)


async def test_a_better_hash_does_not_bring_an_old_password_back(accounts: Accounts) -> None:
    user = await accounts.users.add("ada", "participant", "old")
    await accounts.users.set_password("ada", "new")
    await accounts.users.improve_hash(user, "old, but better")
    assert (await accounts.users.get("ada")) == replace(user, password="new")


async def test_who_fails_often_waits_and_others_do_not(accounts: Accounts) -> None:
    for name in ("ada", "bob"):
        await accounts.users.add(name, "participant", passwords.hashed("right"))
    for _ in range(MOST_FAILURES):
        with pytest.raises(SignInFailed):
            await accounts.sign_in.check("ada", "wrong", HOME)
    with pytest.raises(TooManyFailures, match="Try again in") as refused:
        await accounts.sign_in.check("ada", "right", HOME)
    assert 0 < refused.value.seconds <= 60
    await accounts.sign_in.check("bob", "right", HOME)
    await accounts.sign_in.check("ada", "right", "192.0.2.2")
    await accounts.client.delete(accounts.keys.failures(f"ada from {HOME}"))
    await accounts.sign_in.check("ada", "right", HOME)


async def test_many_guesses_at_once_are_not_all_let_through(accounts: Accounts) -> None:
    await accounts.users.add("ada", "participant", passwords.hashed("right"))
    guesses = [accounts.sign_in.check("ada", f"guess {number}", HOME) for number in range(50)]
    ended = await asyncio.gather(*guesses, return_exceptions=True)
    assert sum(isinstance(each, SignInFailed) for each in ended) == MOST_FAILURES
    assert sum(isinstance(each, TooManyFailures) for each in ended) == 50 - MOST_FAILURES


async def test_who_signs_in_rightly_never_waits(accounts: Accounts) -> None:
    await accounts.users.add("ada", "participant", passwords.hashed("right"))
    for _ in range(3 * MOST_FAILURES):
        await accounts.sign_in.check("ada", "right", HOME)
    at_once = (accounts.sign_in.check_again("ada", "right", HOME) for _ in range(50))
    assert {user.name for user in await asyncio.gather(*at_once)} == {"ada"}


@pytest.mark.parametrize(
    ("most", "guess"),
    [
        (MOST_OF_AN_ADDRESS, lambda number: (f"user{number}", HOME)),
        (MOST_OF_A_NAME, lambda number: ("ada", f"192.0.2.{number}")),
    ],
)
async def test_guesses_over_many_names_or_from_many_addresses_end_too(
    accounts: Accounts, most: int, guess: Any
) -> None:
    await accounts.users.add("ada", "participant", passwords.hashed("right"))
    for number in range(most):
        with pytest.raises(SignInFailed):
            await accounts.sign_in.check(guess(number)[0], "wrong", guess(number)[1])
    with pytest.raises(TooManyFailures):
        await accounts.sign_in.check(guess(250)[0], "wrong", guess(250)[1])


async def test_a_password_that_comes_with_every_request_is_hashed_once(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    await accounts.users.add("ada", "participant", passwords.hashed("right"))
    seen = []
    matches = passwords.matches

    def counted(*given: str) -> bool:
        seen.append(given)
        return matches(*given)

    monkeypatch.setattr(passwords, "matches", counted)
    for _ in range(5):
        await accounts.sign_in.check_again("ada", "right", HOME)
    assert len(seen) == 1
    # A check that is under way while the password is changed does not make the old one right.
    monkeypatch.setattr(passwords, "matches", lambda *given: time.sleep(0.2) or matches(*given))
    under_way = asyncio.ensure_future(accounts.sign_in.check_again(" Ada", "right", "192.0.2.9"))
    await asyncio.sleep(0.05)
    await accounts.users.set_password("ada", passwords.hashed("new"))
    await asyncio.gather(under_way, return_exceptions=True)
    with pytest.raises(SignInFailed):
        await accounts.sign_in.check_again("ada", "right", HOME)


async def test_one_user_is_signed_in_on_so_many_browsers_and_no_more(accounts: Accounts) -> None:
    tokens = [await accounts.sessions.begin("ada", str(number)) for number in range(MOST_OF_A_USER + 3)]
    lasting = await accounts.sessions.begin("ada", "script", ends=False)
    assert [await accounts.sessions.find(token) for token in tokens[:3]] == [None] * 3
    assert await accounts.sessions.find(tokens[3]) is not None
    assert await accounts.sessions.find(lasting) is not None
