"""What a workshop costs, counted with real workers and frontends: each hour once, and each byte that files took."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from comfyume.tests.harness import graphs
from comfyume.tests.harness.client import Client, RequestRefused, wait_until
from comfyume.tests.harness.discovery import ComfyInstall
from comfyume.tests.harness.pair import Pair
from comfyume.tests.harness.people import add_users, basic
from comfyume.tests.harness.processes import READY_SECONDS, ComfyProcess

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(240),
    pytest.mark.parametrize("comfyui", ["new"], indirect=True, scope="session"),
]

MIB = 2**20
GIB = 2**30
LEASE = 4.0
PRICES = {
    "COMFYUME_CURRENCY": "EUR",
    "COMFYUME_PRICE_SERVER_HOUR": "0.05",
    "COMFYUME_PRICE_TRAFFIC_GIB": "0.09",
    "COMFYUME_WORKSHOP_BEGINS": "2020-01-01 00:00",
    "COMFYUME_WORKSHOP_ENDS": "2020-01-04 00:00",
}


@pytest.fixture(scope="module")
def room(comfyui: ComfyInstall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    base = tmp_path_factory.mktemp(f"cost-{comfyui.label}")
    worker = {"COMFYUME_PRICE_HOUR": "1.2"}
    env = {"COMFYUME_LEASE": str(LEASE)}
    with Pair(comfyui, base, env=env, worker_env=worker, frontend_env=PRICES, worker_node_packs=[graphs.PACK]) as pair:
        add_users(pair, {"ada": "participant", "ines": "instructor"})
        yield pair


@pytest.fixture
def second(comfyui: ComfyInstall, room: Pair, tmp_path: Path) -> Iterator[ComfyProcess]:
    """Another frontend of the same workshop, with folders of its own."""
    with ComfyProcess(
        comfyui, tmp_path / "second", mode="frontend", store_url=room.store.url, workshop=room.workshop
    ) as process:
        yield process


def picture(more: bytes) -> bytes:
    """A picture; what stands behind its end is nobody's concern."""
    content = io.BytesIO()
    Image.new("RGB", (16, 16)).save(content, "PNG")
    return content.getvalue() + more


def cost(process: ComfyProcess) -> dict[str, Any]:
    told: dict[str, Any] = Client(process.address, headers=basic("ines"), connect=False).get("/comfyume/cost")
    return told


def seconds(told: dict[str, Any]) -> float:
    """For how long workers were here."""
    return 3600 * sum(float(each["hours"]) for each in told["workers"])


def test_files_that_come_and_go_are_counted_each_way(room: Pair) -> None:
    before = cost(room.frontend)
    with Client(room.frontend.address, headers=basic("ada")) as ada:
        uploaded = ada.upload(picture(b"u" * (3 * MIB)), f"{graphs.name()}.png")
        ada.run(graphs.load(uploaded["name"]))
        history = ada.run(graphs.write_file(f"{graphs.name()}.bin", 5))
        [file] = next(iter(history["outputs"].values()))["files"]
        assert len(ada.view(file["filename"], file["subfolder"])) == 5 * MIB
    after = cost(room.frontend)
    moved = {way: after[way] - before[way] for way in ("from_workers", "to_people", "to_workers")}
    assert 0 <= moved["from_workers"] - 5 * MIB < MIB
    assert 0 <= moved["to_people"] - 5 * MIB < MIB
    assert 0 <= moved["to_workers"] - 3 * MIB < MIB
    traffic = next(line for line in after["lines"] if line["what"] == "traffic")
    assert traffic["amount"] == pytest.approx((after["to_people"] + after["to_workers"]) / GIB, abs=1e-5)
    assert traffic["cost"] == pytest.approx(traffic["amount"] * 0.09, abs=1e-5)
    # Folders were measured at the start, and are again after a while.
    assert after["gib"] > 0


def test_it_is_the_instructors(room: Pair) -> None:
    with pytest.raises(RequestRefused) as refused:
        Client(room.frontend.address, headers=basic("ada"), connect=False).get("/comfyume/cost")
    assert refused.value.status == 403
    told = cost(room.frontend)
    assert (told["currency"], told["is_end_known"], told["ends"] - told["begins"]) == ("EUR", True, 72 * 3600)
    assert [line["what"] for line in told["lines"]] == ["gpu", "server", "storage", "traffic"]
    assert [line["price"] for line in told["lines"]] == [pytest.approx(1.2, abs=1e-4), 0.05, None, 0.09]
    assert told["always_on"] == {"gpus": 1, "hours": 72.0, "price_hour": pytest.approx(1.2, abs=1e-4)} | {
        "cost": pytest.approx(86.4, abs=0.01)
    }


def test_two_frontends_of_which_one_is_killed_count_each_second_once(room: Pair, second: ComfyProcess) -> None:
    before = cost(second)
    assert before["workers"][0]["is_here"]
    for _ in range(20):
        time.sleep(0.1)
        cost(second)
        between = cost(room.frontend)
    assert seconds(between) - seconds(before) == pytest.approx(between["now"] - before["now"], abs=0.02)
    # One that is killed and comes back knows of all that was counted, and of the time between.
    room.frontend.kill()
    room.frontend.start().wait_ready(READY_SECONDS)
    after = wait_until(lambda: cost(room.frontend), READY_SECONDS)
    assert seconds(after) - seconds(before) == pytest.approx(after["now"] - before["now"], abs=0.02)
    assert after["from_workers"] == between["from_workers"]
    assert after["to_people"] >= between["to_people"]


def test_a_killed_worker_costs_until_its_lease_is_over_and_again_when_it_is_back(room: Pair) -> None:
    room.worker.kill()
    wait_until(lambda: not cost(room.frontend)["workers"][0]["is_here"], 4 * LEASE)
    gone = cost(room.frontend)
    time.sleep(2)
    assert seconds(cost(room.frontend)) == seconds(gone)
    room.worker.start().wait_ready(READY_SECONDS)
    back = wait_until(lambda: (told := cost(room.frontend))["workers"][0]["is_here"] and told, READY_SECONDS)
    assert seconds(back) - seconds(gone) < 1
    time.sleep(1)
    later = cost(room.frontend)
    assert seconds(later) - seconds(back) == pytest.approx(later["now"] - back["now"], abs=0.02)
    assert later["always_on"]["gpus"] == 1
