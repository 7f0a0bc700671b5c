"""Advisories in a folder are found for the versions that they name, as OSV's own service would."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from comfyume.tests.api.audit_offline import Advisories, serve

IN_YAML = """
id: PYSEC-1
modified: "2024-01-01T00:00:00Z"
affected:
- package: {ecosystem: PyPI, name: Some_Package}
  ranges:
  - {type: ECOSYSTEM, events: [{introduced: "0"}, {fixed: 1.10.0}, {introduced: "2"}, {last_affected: 2.1}]}
  - {type: GIT, events: [{introduced: "0"}]}
  versions: [3.0b1]
- package: {ecosystem: npm, name: other}
  versions: ["1"]
"""


@pytest.fixture
def advisories(tmp_path: Path) -> Advisories:
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "PYSEC-1.yaml").write_text(IN_YAML)
    package = {"ecosystem": "PyPI", "name": "some-package"}
    withdrawn = {"id": "PYSEC-2", "withdrawn": "now", "affected": [{"package": package, "versions": ["9"]}]}
    (tmp_path / "some" / "PYSEC-2.json").write_text(json.dumps(withdrawn))
    return Advisories(tmp_path)


@pytest.mark.parametrize("version", ["0.1", "1.9.9", "1.10rc1", "2", "2.1", "3.0b1"])
def test_a_version_that_is_named_is_found(advisories: Advisories, version: str) -> None:
    assert [advisory["id"] for advisory in advisories.of("some.package", version)] == ["PYSEC-1"]


@pytest.mark.parametrize("version", ["1.10.0", "1.11", "2.1.1", "3.0", "9"])
def test_a_version_that_is_not_is_not_found(advisories: Advisories, version: str) -> None:
    assert advisories.of("some-package", version) == []
    assert advisories.of("other", "1") == []


def test_they_are_answered_as_osv_does(advisories: Advisories) -> None:
    server = serve(advisories)
    try:
        for version, found in (("1", ["PYSEC-1"]), ("1.10.0", [])):
            body = json.dumps({"package": {"name": "some-package", "ecosystem": "PyPI"}, "version": version}).encode()
            with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/v1/query", body, timeout=10) as answer:
                assert [advisory["id"] for advisory in json.load(answer).get("vulns", [])] == found
    finally:
        server.shutdown()
        server.server_close()
