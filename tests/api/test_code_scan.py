"""What bandit says of the product's code is nothing, or is explained here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from comfyume.tests.harness.package import ROOT

pytest.importorskip("bandit")

NO_SECRET = "chance spreads tries or draws a picture, and guards nothing"
#: Bandit's test and the file; each says something of a place where it is right as it is.
EXPLAINED = {
    ("B104", "comfyui_seams/server.py"): "the address that means all is compared there, and not bound",
    ("B107", "job_queue/embedded.py"): "the empty password is none, for a store on a socket that is its owner's alone",
    ("B310", "commands/joined.py"): "a link is http or https when it is opened, or it was refused before",
    ("B311", "blobs/bucket.py"): NO_SECRET,
    ("B311", "blobs/http_patience.py"): NO_SECRET,
    ("B311", "comfyume_nodes/testcard_drawing.py"): NO_SECRET,
    ("B311", "model_vault/fetching.py"): NO_SECRET,
    ("B311", "worker_mode/courier.py"): NO_SECRET,
}


def scan(folder: Path, *further: str) -> dict[tuple[str, str], list[str]]:
    """Bandit's findings below a folder, by its test and the file: where each is and what it says."""
    command = [sys.executable, "-m", "bandit", "-q", "-c", str(ROOT / "pyproject.toml"), "-f", "json", "-r", "."]
    outcome = subprocess.run([*command, *further], cwd=folder, capture_output=True, text=True, check=False)
    assert outcome.returncode in (0, 1), outcome.stderr
    report = json.loads(outcome.stdout)
    assert report["errors"] == []
    assert report["metrics"]["_totals"]["loc"] > 0
    found: dict[tuple[str, str], list[str]] = {}
    for it in report["results"]:
        file = Path(it["filename"]).as_posix()
        found.setdefault((it["test_id"], file), []).append(f"{file}:{it['line_number']}: {it['issue_text']}")
    return found


def test_the_products_code_has_no_finding_that_is_not_explained() -> None:
    found = scan(ROOT, "comfyume")
    assert [line for key, lines in found.items() if key not in EXPLAINED for line in lines] == []
    assert [key for key in EXPLAINED if key not in found] == [], "explained, and no longer there"


def test_what_is_wrong_is_found_and_tests_are_not_looked_at(tmp_path: Path) -> None:
    wrong = "import subprocess\nsubprocess.run(input(), shell=True)\n"
    (tmp_path / "product.py").write_text(wrong)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text(wrong)
    assert list(scan(tmp_path)) == [("B602", "product.py")]
