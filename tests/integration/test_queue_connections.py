"""Connections to the store: a room that asks at once gets its answers, with few connections."""

from __future__ import annotations

import asyncio

from comfyume.job_queue.connection import MOST_CONNECTIONS, connect_async
from comfyume.job_queue.frontend_queue import FrontendQueue
from comfyume.job_queue.keys import Keys
from comfyume.tests.conftest import Store

PEOPLE = 300


async def test_who_finds_all_connections_in_use_waits_for_one(store: Store) -> None:
    client = connect_async(store.url)
    queue = FrontendQueue(client, Keys(store.workshop), history_size=10, history_days=1.0)
    try:
        # The scripts keep the connections that they were run on.
        for _ in range(2):
            jobs = await asyncio.gather(*(queue.active(f"person{number}") for number in range(PEOPLE)))
            assert jobs == [[]] * PEOPLE
        answers = await asyncio.gather(
            *(client.get(f"nothing{number}") for number in range(PEOPLE)),
            *(queue.active(f"person{number}") for number in range(PEOPLE)),
        )
        assert len(answers) == 2 * PEOPLE
        with store.client() as raw:
            names = [each["id"] for each in raw.client_list()]
        assert len(names) <= MOST_CONNECTIONS + 10
    finally:
        await client.aclose()
