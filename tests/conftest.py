"""Fixtures of all tests: the package under its name, stores, ComfyUI pairs, and a last line on what was real."""

from __future__ import annotations

import runpy
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

runpy.run_path(str(Path(__file__).parent / "harness" / "package.py"))["register"]()

from comfyume.tests.harness import discovery, graphs  # noqa: E402 - importable from here on
from comfyume.tests.harness.pair import Pair  # noqa: E402
from comfyume.tests.harness.processes import RedisServer  # noqa: E402
from comfyume.tests.harness.s3 import S3Server  # noqa: E402

if TYPE_CHECKING:
    import redis

NO_COMFYUI = "no ComfyUI"
_counts = {"real": 0, "missing": 0}


@dataclass(frozen=True)
class Store:
    """A running store, and a workshop on it that no other test uses."""

    server: RedisServer
    workshop: str

    @property
    def url(self) -> str:
        return self.server.url

    def client(self) -> redis.Redis:
        return self.server.client()


@pytest.fixture(scope="session")
def short_folder() -> Iterator[Path]:
    """A folder whose path is short enough for unix sockets in it."""
    folder = Path(tempfile.mkdtemp(prefix="cfm"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def shared_store(short_folder: Path) -> Iterator[RedisServer]:
    """One store for all tests that neither stop nor configure it; use ``store`` for a workshop on it."""
    with RedisServer(short_folder / "shared", port=None) as server:
        yield server


@pytest.fixture
def store(shared_store: RedisServer) -> Store:
    """A workshop of this test's own on the shared store."""
    return Store(shared_store, f"test-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def own_store(short_folder: Path) -> Iterator[RedisServer]:
    """A store of this test's own, to stop, kill and restart."""
    with RedisServer(short_folder / uuid.uuid4().hex[:8], port=None) as server:
        yield server


@pytest.fixture(scope="session")
def s3(short_folder: Path) -> Iterator[S3Server]:
    """One server that speaks S3 for all tests that do not stop it; give each test a prefix of its own."""
    with S3Server(short_folder / "s3") as server:
        yield server


@pytest.fixture(scope="session", params=discovery.LABELS)
def comfyui(request: pytest.FixtureRequest) -> discovery.ComfyInstall:
    """Each ComfyUI that is there, the new one first; a test is skipped where one is missing."""
    try:
        return discovery.find(request.param)
    except discovery.ComfyMissingError as error:
        pytest.skip(str(error))  # it begins with NO_COMFYUI


@pytest.fixture(scope="session")
def pair(comfyui: discovery.ComfyInstall, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """One frontend, whose webhooks may go to this machine, and one worker. Use it, leave it running."""
    env = {"COMFYUME_WEBHOOK_HOSTS": "127.0.0.1"}
    folder = tmp_path_factory.mktemp(f"pair-{comfyui.label}")
    with Pair(comfyui, folder, frontend_env=env, worker_node_packs=[graphs.PACK]) as running:
        yield running


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        parameters = getattr(item, "callspec", None)
        if parameters is not None and parameters.params.get("comfyui") == "old":
            item.add_marker(pytest.mark.old)


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and NO_COMFYUI in str(report.longrepr):
        _counts["missing"] += 1
    elif report.when == "call" and "comfyui" in report.keywords_used:
        _counts["real"] += 1


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    report.keywords_used = set(getattr(item, "fixturenames", ()))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(
        f"tests with a real ComfyUI: {_counts['real']} ran, {_counts['missing']} skipped for lack of one"
    )
