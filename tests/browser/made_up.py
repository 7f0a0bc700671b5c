"""A workshop that is made up: what an instructor's page is told of it, instead of the real one."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from playwright.sync_api import Route

from comfyume.job_queue.jobs import GIB
from comfyume.tests.browser.interface import Interface

PEOPLE = ("ada", "bob", "cleo", "emil", "finn")
#: Runs a script wherever a page takes it for HTML, and breaks a layout that does not cut it.
NOT_A_NAME = "<img src=x onerror=window.taken=1>\u202e" + "long" * 60


def worker_row(number: int, **parts: Any) -> dict[str, Any]:
    device = {
        "name": "NVIDIA GeForce RTX 4090",
        "vram_total": 24 * GIB,
        "vram_free": (3 + 5 * number) * GIB,
        "use": 97 - number,
        "temperature": 61 + number,
    }
    return {
        "name": f"gpu-{number}",
        "state": "busy",
        "host": "box",
        "version": "0.33.0",
        "job": f"running-{number}",
        "reserved_for": None,
        "drained": False,
        "lease": 25,
        "devices": [device],
        "loaded": ["Flux", "AutoencodingEngine"],
        "pulling": "",
        "seen": time.time(),
        "lost": None,
        "price_hour": 1.2,
    } | parts


def job_row(number: int, **parts: Any) -> dict[str, Any]:
    now = time.time()
    return {
        "id": f"job-{number}",
        "user": PEOPLE[number % len(PEOPLE)],
        "name": f"Dancing cat {number}",
        "state": "queued",
        "number": number,
        "level": "2",
        "held": False,
        "submitted": now - 30 - 3 * number,
        "started": None,
        "starts_at": now + 20 + 11 * number,
        "need": 6 * GIB,
        "why": "",
        "lacks": "",
        "worker": None,
        "progress": None,
    } | parts


def running_row(number: int, **parts: Any) -> dict[str, Any]:
    progress = {"node": "3", "value": 5 + 4 * number, "max": 20}
    running = {"id": f"running-{number}", "state": "running", "worker": f"gpu-{number}", "progress": progress}
    return job_row(900 + number, **running, started=time.time() - 20, starts_at=None) | parts


def cost_told(gone: str) -> dict[str, Any]:
    """What `/comfyume/cost` tells after ten hours of one worker, and four of another that has gone."""
    return {
        "now": 1_764_820_800.0,
        "currency": "EUR",
        "begins": 1_764_784_800.0,
        "ends": 1_765_044_000.0,
        "since": 1_764_784_800.0,
        "is_end_known": True,
        "lines": [
            {"what": "gpu", "amount": 14.0, "amount_by_end": 76.0, "price": 1.43, "cost": 20.0, "cost_by_end": 94.4},
            {"what": "server", "amount": 10.0, "amount_by_end": 72.0, "price": 0.05, "cost": 0.5, "cost_by_end": 3.6},
            dict.fromkeys(("price", "cost", "cost_by_end")) | {"what": "storage", "amount": 0.5, "amount_by_end": 4.75},
            {
                "what": "traffic",
                "amount": 20.0,
                "amount_by_end": 144.0,
                "price": 0.09,
                "cost": 1.8,
                "cost_by_end": 12.96,
            },
        ],
        "cost": 22.3,
        "cost_by_end": 110.96,
        "workers": [
            {"worker": "gpu-0", "price_hour": 1.2, "hours": 10.0, "cost": 12.0, "is_here": True},
            {"worker": gone, "price_hour": None, "hours": 4.0, "cost": None, "is_here": False},
        ],
        "unpriced_hours": 4.0,
        "always_on": {"gpus": 2, "hours": 144.0, "price_hour": 1.43, "cost": 205.71},
        "to_people": 15 * GIB,
        "to_workers": 5 * GIB,
        "from_workers": 7 * GIB,
        "gib": 50.0,
    }


def make_up(
    tab: Interface,
    workers: list[dict[str, Any]],
    jobs: list[dict[str, Any]],
    *,
    paused: bool = False,
    store: bool = True,
) -> None:
    """Have the panel told of this workshop instead of the real one."""
    order = [job["id"] for job in jobs if job["state"] == "queued"]
    counts = {"queued": len(order), "running": len(jobs) - len(order), "ended": 0}
    told = {
        "revision": 1,
        "now": time.time(),
        "store": store,
        "queue": {"mode": "fair", "paused": paused, **counts},
        "workers": workers,
        "jobs": jobs,
        "order": order,
        "here": [],
    }
    tab.page.route("**/comfyume/feeds/workshop?*", partial(answer, body=told))


def answer(route: Route, body: Any) -> None:
    """What a route of the browser answers instead of the server."""
    if route.request.method == "DELETE":
        route.fulfill(status=204)
    else:
        route.fulfill(json=body)
