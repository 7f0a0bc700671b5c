"""docs/openapi.yaml describes the routes that a running frontend has below /comfyume/, each of them and no others."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest
import yaml

from comfyume.tests.api.exchanges import Operations
from comfyume.tests.api.stress import OWN_DESCRIPTION
from comfyume.tests.conftest import Store
from comfyume.tests.harness.discovery import ComfyInstall
from comfyume.tests.harness.package import ROOT
from comfyume.tests.harness.processes import ComfyProcess

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(240),
    pytest.mark.parametrize("comfyui", ["new"], indirect=True, scope="session"),
]

#: Tells which routes the running application has.
ROUTES_PACK = ROOT / "tests" / "node_packs" / "cfm_routes"


def test_the_routes_of_a_running_frontend_are_those_that_are_described(
    comfyui: ComfyInstall, store: Store, tmp_path: Path
) -> None:
    described = Operations(yaml.safe_load(OWN_DESCRIPTION.read_text(encoding="utf-8"))).labels
    process = ComfyProcess(
        comfyui, tmp_path, mode="frontend", store_url=store.url, workshop=store.workshop, node_packs=[ROUTES_PACK]
    )
    with process, urllib.request.urlopen(f"{process.url}/cfm/routes", timeout=20) as response:
        routes = [(method, path) for method, path in json.load(response) if path.startswith("/comfyume")]
    assert routes
    assert {f"{method} {path}" for method, path in routes} == set(described)
