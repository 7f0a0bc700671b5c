"""A worker, a server and a store that go, and come back."""

from __future__ import annotations

import pytest

from comfyume.tests.browser.interface import Interface, see
from comfyume.tests.browser.workshop_panel import lines
from comfyume.tests.harness.pair import Pair, wait_until_known
from comfyume.tests.harness.processes import READY_SECONDS

pytestmark = [pytest.mark.browser, pytest.mark.acceptance, pytest.mark.timeout(300)]


def test_a_lost_worker_server_and_store_are_said_until_they_are_back(tab: Interface, room: Pair) -> None:
    see(lines(tab), "All is well")
    room.worker.kill()
    see(lines(tab), "No worker is there.")
    tab.picture("1-no-worker")
    room.frontend.stop()
    see(lines(tab), "No connection to the server.")
    tab.picture("2-no-server")
    room.worker.start()
    room.frontend.start().wait_ready()
    room.worker.wait_ready()
    wait_until_known(room.frontend, 1, READY_SECONDS)
    see(lines(tab), "All is well")
    room.store.stop()
    see(lines(tab), "The queue's store is away.")
    tab.picture("3-no-store")
    room.store.start()
    see(lines(tab), "All is well")
