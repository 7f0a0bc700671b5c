"""Models from sources: resumed, checked, refused, in the order of need, and after a kill."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from comfyume.model_vault import pull as pulling
from comfyume.model_vault.errors import Gated, NoRoom, PullUnderWay, SourceRefused
from comfyume.model_vault.here import LocalModels
from comfyume.model_vault.locating import Located
from comfyume.model_vault.needs import Need
from comfyume.model_vault.places import PlainFolder
from comfyume.model_vault.pull import Watch
from comfyume.model_vault.sources import SourceRules, Sources
from comfyume.model_vault.verify import verify_here
from comfyume.tests.harness.model_source import SourceServer, safetensors
from comfyume.tests.harness.models_at_hand import LOCAL, contents, need, pull, put, until

ROOT = Path(__file__).resolve().parents[3]
RUN = f"""
import runpy, sys
runpy.run_path({str(ROOT / "tests/harness/package.py")!r})["register"]()
from comfyume.commands.main import main
sys.exit(main(sys.argv[1:]))
"""


async def test_a_source_tells_hash_and_size_ahead_and_its_file_appears_whole(
    here: LocalModels, source: SourceServer
) -> None:
    wanted = need(source, "sub/a.safetensors", safetensors(1))
    async with Sources(LOCAL) as sources:
        told = await sources.ask(wanted.urls[0])
    content = source.files["sub/a.safetensors"]
    assert (told.size, told.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert not source.sent
    report = await pull(here, [wanted])
    assert report.come == {wanted.key: wanted.urls[0]}
    assert not report.unnamed
    assert contents(here) == {"vae/sub/a.safetensors": content}
    known = here.known(*wanted.key)
    assert known is not None
    assert (known.digest.sha256, known.url) == (told.sha256, wanted.urls[0])
    assert not (await pull(here, [wanted])).come
    assert source.sent["sub/a.safetensors"] == len(content)


async def test_cuts_are_resumed_with_and_without_a_hash(here: LocalModels, source: SourceServer) -> None:
    needs = [need(source, name, safetensors(i, 900_000)) for i, name in enumerate(("a.safetensors", "b.safetensors"))]
    source.plain.add("b.safetensors")
    for each in needs:
        source.cut[each.name] = [200_000, 300_000, 0]
    report = await pull(here, needs)
    assert not report.failed
    assert report.unnamed == [needs[1].key]
    assert contents(here) == {f"vae/{each.name}": source.files[each.name] for each in needs}
    for each in needs:
        assert source.sent[each.name] < len(source.files[each.name]) * 1.3
        assert sum(line.startswith(f"GET {each.name} bytes=") for line in source.asked) == 3


async def test_a_gated_source_says_what_to_accept_and_where_and_the_others_come(
    here: LocalModels, source: SourceServer
) -> None:
    closed = need(source, "closed.safetensors", safetensors(1))
    free = need(source, "free.safetensors", safetensors(2))
    source.gated.add("closed.safetensors")
    report = await pull(here, [closed, free])
    assert list(report.come) == [free.key]
    why = report.failed[closed.key]
    assert f"http://127.0.0.1:{source.port}/org/repo " in why
    assert "HF_TOKEN" in why
    with_token = SourceRules(LOCAL.hosts, hub="127.0.0.1", token="let-me-in")
    report = await pull(here, [closed], rules=with_token)
    assert list(report.come) == [closed.key]
    # Where the hub leads on to, nobody gets the token.
    assert source.tokens["cdn"] == {""}
    wrong = SourceRules(LOCAL.hosts, hub="127.0.0.1", token="wrong-canary")
    source.gated.add("free.safetensors")
    async with Sources(wrong) as sources:
        with pytest.raises(Gated, match="has not accepted") as refused:
            await sources.ask(free.urls[0])
    assert "canary" not in str(refused.value) + repr(wrong)


async def test_a_wrong_hash_from_a_source_is_refused(here: LocalModels, source: SourceServer) -> None:
    spoiled = need(source, "a.safetensors", safetensors(1))
    source.lies["a.safetensors"] = "ab" * 32
    other = need(source, "b.safetensors", safetensors(2), sha256="cd" * 32)
    unnamed = need(source, "c.safetensors", safetensors(3), sha256="cd" * 32)
    source.plain.add("c.safetensors")
    report = await pull(here, [spoiled, other, unnamed])
    assert not report.come
    assert "Expected a file with SHA-256 abab" in report.failed[spoiled.key]
    assert "another file than the one that the workflow names" in report.failed[other.key]
    assert "cdcd" in report.failed[unnamed.key]
    assert not contents(here)
    assert source.sent["b.safetensors"] == 0


async def test_a_folder_with_another_file_than_the_workflow_names_is_passed_over(
    here: LocalModels, source: SourceServer, tmp_path: Path
) -> None:
    content = safetensors(1)
    wanted = need(source, "a.safetensors", content, sha256=hashlib.sha256(content).hexdigest())
    drive = LocalModels(tmp_path / "drive")
    put(drive, "a.safetensors", safetensors(2))
    report = await pull(here, [wanted], PlainFolder(drive.root), offline=True)
    assert "instead of" in report.failed[wanted.key]
    assert not contents(here)
    assert (await pull(here, [wanted], PlainFolder(drive.root))).come == {wanted.key: wanted.urls[0]}
    assert contents(here) == {"vae/a.safetensors": content}


async def test_a_folder_laid_out_as_comfyuis_gives_each_file_its_own_content(here: LocalModels, tmp_path: Path) -> None:
    drive = LocalModels(tmp_path / "drive")
    for number in range(5):
        put(drive, f"{number}.safetensors", safetensors(number, 1000 * number))
    needs = [Need("vae", f"{number}.safetensors") for number in range(5)]
    report = await pull(here, needs, PlainFolder(drive.root), offline=True)
    assert len(report.come) == len(report.unnamed) == 5
    assert contents(here) == {f"vae/{number}.safetensors": safetensors(number, 1000 * number) for number in range(5)}


async def test_the_next_address_is_asked_where_one_has_moved_and_where_one_is_spoiled(
    here: LocalModels, source: SourceServer
) -> None:
    for number, name in enumerate(("spoiled.safetensors", "good.safetensors")):
        need(source, name, safetensors(number))
    source.lies["spoiled.safetensors"] = "ab" * 32
    urls = tuple(source.url(f"{name}.safetensors") for name in ("moved", "spoiled", "good", "never"))
    report = await pull(here, [Need("vae", "a.safetensors", urls)])
    assert report.come == {("vae", "a.safetensors"): urls[2]}
    assert contents(here) == {"vae/a.safetensors": safetensors(1)}


async def test_what_is_no_safetensors_file_is_refused(here: LocalModels, source: SourceServer) -> None:
    page = need(source, "page.safetensors", b"<!DOCTYPE html><html>Sign in</html>")
    short = need(source, "short.safetensors", safetensors(1)[:-5])
    report = await pull(here, [page, short])
    assert "no safetensors file" in report.failed[page.key]
    assert "cut off" in report.failed[short.key]
    assert not contents(here)


@pytest.mark.parametrize(
    "url",
    [
        "http://huggingface.co/o/r/resolve/main/a.safetensors",
        "https://evil.example/a.safetensors",
        "https://127.0.0.1/a.safetensors",
        "https://169.254.169.254/latest/a.safetensors",
        "https://[::1]/a.safetensors",
        "https://huggingface.co@10.0.0.1/a.safetensors",
        "https://huggingface.co.evil.example/a.safetensors",
        "file:///etc/passwd",
        "https://[/",
    ],
)
async def test_other_hosts_and_this_machine_are_not_asked(url: str) -> None:
    async with Sources(SourceRules()) as sources:
        with pytest.raises(SourceRefused):
            await sources.ask(url)


async def test_a_source_cannot_lead_on_into_the_network(
    here: LocalModels, source: SourceServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only the first host is allowed here, so a redirect to the other name of this machine leads inwards.
    wanted = need(source, "a.safetensors", safetensors(1))
    source.moved_to["a.safetensors"] = f"http://localhost:{source.port}/cdn/a.safetensors"
    only = SourceRules(frozenset({"127.0.0.1"}))
    report = await pull(here, [wanted], rules=only)
    assert "https" in report.failed[wanted.key]
    source.moved_to["a.safetensors"] = f"https://localhost:{source.port}/cdn/a.safetensors"
    report = await pull(here, [wanted], rules=only)
    assert "localhost is no address on the internet" in report.failed[wanted.key]
    assert not source.asked


async def test_nothing_is_fetched_where_it_does_not_all_fit(
    here: LocalModels, source: SourceServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = [need(source, f"{n}.safetensors", safetensors(n, 500_000)) for n in range(3)]
    monkeypatch.setattr(pulling, "SPARE", shutil.disk_usage(here.root.parent).free - 1_000_000)
    with pytest.raises(NoRoom, match=r"3 models need 0\.0 GB"):
        await pull(here, needs)
    assert not source.sent
    monkeypatch.undo()
    assert (await pull(here, needs[:1])).come


class Order(Watch):
    """Notes which file's bytes came when."""

    def __init__(self) -> None:
        self.order: list[str] = []

    def has_come(self, located: Located, where: str) -> None:
        self.order.append(located.need.name)


async def test_files_come_in_the_order_of_need_and_several_at_once(here: LocalModels, source: SourceServer) -> None:
    needs = [need(source, f"{n}.safetensors", safetensors(n, 400_000)) for n in range(6)]
    watch = Order()
    await pull(here, needs, at_once=1, watch=watch)
    assert watch.order == [each.name for each in needs]
    assert source.most_at_once == 1
    source.rate = 4_000_000
    await pull(LocalModels(here.root.parent / "again"), needs, at_once=3)
    assert source.most_at_once == 3


async def test_one_content_under_two_names_comes_once(here: LocalModels, source: SourceServer) -> None:
    first = need(source, "a.safetensors", safetensors(1))
    second = need(source, "b.safetensors", safetensors(1), folder="loras")
    plain = [Need("vae", f"{n}.safetensors", (source.url("c.safetensors"),)) for n in range(2)]
    need(source, "c.safetensors", safetensors(2))
    source.plain.add("c.safetensors")
    assert len((await pull(here, [first, second, *plain])).come) == 4
    assert len(set(contents(here).values())) == 2
    assert source.sent["a.safetensors"] + source.sent["b.safetensors"] == len(safetensors(1))
    assert source.sent["c.safetensors"] == len(safetensors(2))
    assert not [finding for finding in verify_here(here) if finding.problem or not finding.is_certain]


async def test_a_damaged_file_that_came_by_other_ways_is_told_and_replaced_when_asked(
    here: LocalModels, source: SourceServer
) -> None:
    wanted = need(source, "a.safetensors", safetensors(1))
    put(here, "a.safetensors", safetensors(1)[:-7])
    assert "cut off" in (await pull(here, [wanted])).failed[wanted.key]
    assert not source.sent
    assert (await pull(here, [wanted], replace=True)).come
    assert contents(here) == {"vae/a.safetensors": safetensors(1)}


async def test_two_pulls_do_not_fill_one_folder(here: LocalModels, source: SourceServer) -> None:
    wanted = need(source, "a.safetensors", safetensors(1))
    with here.locked(), pytest.raises(PullUnderWay):
        await pull(here, [wanted])
    assert (await pull(here, [wanted])).come


def run(*arguments: str, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", RUN, "models", *arguments],
        env={**os.environ, "COMFYUME_MODELS_HOSTS": "127.0.0.1, localhost", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )


def graph_of(path: Path, needs: list[Need]) -> Path:
    models = [{"name": each.name, "url": each.urls[0], "directory": each.folder} for each in needs]
    path.write_text(json.dumps({"nodes": [{"id": 1, "type": "x", "properties": {"models": models}}]}))
    return path


def test_a_pull_that_is_killed_goes_on_and_fetches_nothing_whole_twice(
    here: LocalModels, source: SourceServer, tmp_path: Path
) -> None:
    sizes = (100_000, 150_000, 3_000_000, 3_000_001, 3_000_002)
    needs = [need(source, f"{n}.safetensors", safetensors(n, size)) for n, size in enumerate(sizes)]
    source.plain.add("3.safetensors")
    source.rate = 2_000_000
    graph = graph_of(tmp_path / "graph.json", needs)
    arguments = ("--models", str(here.root), "pull", "test-card", "--workflow", str(graph))
    process = run(*arguments)
    until(lambda: source.sent["3.safetensors"] > 1_500_000)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    there = contents(here)
    assert set(there) == {"vae/0.safetensors", "vae/1.safetensors"}
    source.rate = None
    before = dict(source.sent)
    process = run(*arguments)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    assert contents(here) == {f"vae/{each.name}": source.files[each.name] for each in needs}
    assert [source.sent[f"{n}.safetensors"] - before[f"{n}.safetensors"] for n in (0, 1)] == [0, 0]
    again = sum(source.sent.values())
    assert again < sum(map(len, source.files.values())) + 3 * 1_500_000
    assert "3 files" in err
    process = run("--models", str(here.root), "verify")
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "5 models looked at, 0 of them are damaged.\n")


def test_a_file_that_came_by_other_ways_is_checked_by_its_header(here: LocalModels) -> None:
    put(here, "a.safetensors", safetensors(1))
    put(here, "b.safetensors", safetensors(1)[:-1])
    put(here, "c.safetensors", safetensors(1) + b"x")
    put(here, "d.safetensors", b"")
    put(here, "e.safetensors", (9).to_bytes(8, "little") + b'{"t": []}')
    found = {each.name[4]: each.problem for each in verify_here(here, quick=True)}
    assert found["a"] == ""
    assert "cut off" in found["b"]
    assert "1 bytes more" in found["c"]
    assert "no safetensors" in found["d"]
    assert "header" in found["e"]


def test_a_folder_laid_out_as_comfyuis_is_a_place(tmp_path: Path) -> None:
    models = LocalModels(tmp_path / "drive")
    put(models, "a.safetensors", safetensors(1), folder="clip")
    place = PlainFolder(models.root)
    assert [(offer.folder, offer.name) for offer in place.offers()] == [("text_encoders", "a.safetensors")]
    assert place.find("text_encoders", "a.safetensors") is not None
    assert place.find("vae", "a.safetensors") is None
