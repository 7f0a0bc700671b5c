"""`comfyume models` on the command line, on a real bucket and a server that gives models."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from comfyume.commands.main import main
from comfyume.commands.models_progress import Progress, told_size, told_time
from comfyume.model_vault.locating import Located
from comfyume.model_vault.needs import Need
from comfyume.tests.harness.model_source import SourceServer, safetensors
from comfyume.tests.harness.s3 import KEY, SECRET, S3Server


class Desk:
    """A machine with a folder of models, people's workflows, and a bucket."""

    def __init__(
        self,
        folder: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        source: SourceServer,
    ) -> None:
        self._monkeypatch = monkeypatch
        self.folder = folder
        self.models = folder / "models"
        self.source = source
        self._capsys = capsys

    def run(self, *arguments: str, places: tuple[str, ...] = (), answer: str = "") -> tuple[int, str, str]:
        self._monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        where = [word for place in places for word in ("--place", place)]
        common = ("--models", str(self.models), "--people", str(self.folder / "user"), *where)
        status = main(["models", *common, *arguments])
        told = self._capsys.readouterr()
        return status, told.out, told.err

    def workflow(self, user: str, name: str, *files: str, folder: str = "loras", mode: int = 0) -> Path:
        path = self.folder / "user" / user / "workflows" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        models = [{"name": file, "url": self.source.url(file), "directory": folder} for file in files]
        path.write_text(json.dumps({"nodes": [{"id": 1, "type": "x", "mode": mode, "properties": {"models": models}}]}))
        return path

    def put(self, name: str, content: bytes, folder: str = "loras") -> Path:
        path = self.models / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def desk(
    tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Desk]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COMFYUME_BUCKET_ENDPOINT", s3.endpoint)
    monkeypatch.setenv("COMFYUME_BUCKET_PATH_STYLE", "true")
    monkeypatch.setenv("COMFYUME_BUCKET_REGION", "us-east-1")
    monkeypatch.setenv("COMFYUME_BUCKET_KEY", KEY)
    monkeypatch.setenv("COMFYUME_BUCKET_SECRET", SECRET)
    monkeypatch.setenv("COMFYUME_MODELS_HOSTS", "127.0.0.1, localhost")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with SourceServer() as source:
        yield Desk(tmp_path, capsys, monkeypatch, source)


@pytest.fixture
def bucket(request: pytest.FixtureRequest) -> str:
    return f"s3://workshop/{request.node.name.replace('[', '-').strip(']')}"


def test_the_plan_tells_all_files_of_the_templates(desk: Desk) -> None:
    status, out, _ = desk.run("plan", "--offline", "--json")
    planned = json.loads(out)
    assert status == 0
    assert len(planned) == 10
    assert all(each["urls"] and each["templates"] and not each["here"] for each in planned)
    status, out, _ = desk.run("plan", "--offline", "flux2-klein-4b-text-to-image")
    assert "3 models; 3 are not here" in out
    status, _, err = desk.run("plan", "nonsense")
    assert (status, "There are: flux2-klein-4b-text-to-image" in err) == (1, True)


def test_the_plan_tells_sizes_hashes_and_what_nobody_knows(desk: Desk, bucket: str) -> None:
    desk.source.files["a.safetensors"] = safetensors(1)
    desk.workflow("ada", "film", "a.safetensors", "gone.safetensors")
    path = desk.workflow("bob", "odd")
    path.write_text(json.dumps({"nodes": [{"type": "Strange", "widgets_values": ["odd.safetensors"]}]}))
    evil = desk.workflow("eve", "evil", "e.safetensors")
    evil.write_text(evil.read_text().replace("127.0.0.1", "evil.example").replace("e.safetensors", "../e.safetensors"))
    far = evil.read_text().replace("../e.safetensors", "f.safetensors").replace("http://", "https://")
    desk.workflow("eve", "far", "f.safetensors").write_text(far)
    desk.workflow("bob", "off", "off.safetensors", mode=4)
    named = [
        word
        for name in ("film", "odd", "evil", "far", "off")
        for word in ("--workflow", str(next(desk.folder.rglob(f"{name}.json"))))
    ]
    status, out, _ = desk.run("plan", "test-card", *named, places=(bucket,))
    assert status == 0
    assert "loras/a.safetensors  200.1 kB  at its source" in out
    assert "there is no such file" in out
    assert "odd.safetensors: no folder is known" in out
    assert "is no place for a model" in out
    assert "evil.example is none of the hosts" in out
    assert "(switched off there)" in out
    assert "5 models" not in out.splitlines()[0]


def test_people_count_in_the_plan_and_are_pulled_only_when_asked(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.source.files["a.safetensors"] = safetensors(1)
    desk.workflow("ada", "film", "a.safetensors")
    _, out, _ = desk.run("plan", "--offline")
    assert "for ada: film" in out
    status, _, _ = desk.run("pull", "--offline")
    assert status == 1
    assert not list(desk.models.rglob("*.safetensors"))
    _, out, _ = desk.run("pull", "--with-people", "--offline")
    assert "its source was not asked (--offline)" in out


def test_a_machine_is_filled_and_emptied(desk: Desk, bucket: str) -> None:
    names = ["a.safetensors", "b.safetensors"]
    for number, name in enumerate(names):
        desk.source.files[name] = safetensors(number)
    graph = desk.workflow("ada", "film", *names)
    wanted = ("test-card", "--workflow", str(graph))
    status, out, err = desk.run("pull", *wanted, places=(bucket,))
    assert (status, out) == (0, "2 came, 0 did not. All others are here already.\n")
    assert "2 files, 400.2 kB to move" in err
    assert "2 of 2  loras/" in err
    assert desk.run("push", "--to", bucket)[:2] == (0, "2 went, 0 did not. All others are there already.\n")
    status, out, _ = desk.run("list", places=(bucket,))
    assert f"Place 1 is {bucket}." in out
    assert "here 1      200.1 kB  loras/a.safetensors  (needed by 1)" in out
    # Nothing is needed twice from the source.
    for path in desk.models.rglob("*.safetensors"):
        path.unlink()
    assert desk.run("pull", *wanted, places=(bucket,))[0] == 0
    assert sum(desk.source.sent.values()) == sum(map(len, desk.source.files.values()))
    # What nothing needs any more goes, after a question.
    desk.workflow("ada", "film", "a.safetensors")
    status, out, err = desk.run("prune", "--at", bucket)
    assert (status, "Nothing was deleted" in err) == (1, True)
    assert "loras/b.safetensors" in out
    assert "loras/a.safetensors" not in out
    assert desk.run("prune", "--at", bucket, answer="no\n")[0] == 1
    status, out, _ = desk.run("prune", "--at", bucket, answer="y\n")
    assert (status, "200.1 kB are free again." in out) == (0, True)
    assert "There is nothing to delete." in desk.run("prune", "--at", bucket, "--yes")[1]
    _, out, _ = desk.run("list", places=(bucket,))
    assert "here -      200.1 kB  loras/b.safetensors  (not needed)" in out
    status, out, _ = desk.run("verify", "--at", bucket)
    assert (status, out.splitlines()[0]) == (0, "1 models looked at, 0 of them are damaged.")


def test_a_disk_is_made_free_of_what_others_have(desk: Desk, bucket: str) -> None:
    for number, name in enumerate("abcd"):
        path = desk.put(f"{name}.safetensors", safetensors(number))
        os.utime(path, (1_000_000 + number, 1_000_000 + number))
    desk.run("push", "--to", bucket, "loras/a.safetensors", "loras/b.safetensors", "loras/c.safetensors")
    for number, name in enumerate("abcd"):
        os.utime(desk.models / "loras" / f"{name}.safetensors", (1_000_000 + number, 1_000_000 + number))
    desk.workflow("ada", "film", "a.safetensors")
    status, out, _ = desk.run("prune", "--here", "0.0003", "--yes", places=(bucket,))
    assert status == 0
    assert "loras/d.safetensors stays: nobody else has it" in out
    assert sorted(path.name for path in desk.models.rglob("*.safetensors")) == ["d.safetensors"]
    status, out, _ = desk.run("prune", "--here", "1", "--yes", places=(bucket,))
    assert status == 0
    assert out.splitlines()[0] == "5 templates and 1 workflows of people on this machine say what is needed."
    assert out.splitlines()[1:] == ["There is nothing to delete."]


def test_a_damaged_model_is_told_and_the_command_fails(desk: Desk) -> None:
    desk.put("a.safetensors", safetensors(1)[:-1])
    desk.put("b.safetensors", safetensors(2))
    status, out, _ = desk.run("verify", "--quick")
    assert status == 1
    assert "loras/a.safetensors: it is cut off" in out
    assert "2 models looked at, 1 of them are damaged." in out
    assert desk.run("verify", "loras/b.safetensors", "--quick")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("pull", "--at-once", "0"), "--at-once must be 1 to 32"),
        (("push", "--to", "s3://workshop/x"), "There is no such model"),
        (("--place", "/nowhere/at/all", "pull"), "there is no such folder"),
        (("push", "--to", "s3://nowhere-at-all/x"), "There is no such model"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(desk: Desk, arguments: tuple[str, ...], told: str) -> None:
    status, _, err = desk.run(*arguments)
    assert (status, told in err) == (1, True), err


def test_progress_is_a_line_that_changes_on_a_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    progress = Progress(out)
    progress.begins(2, 4_000_000)
    progress._told_at -= 10
    progress.moved("vae/a.safetensors", 1_000_000)
    line = out.getvalue().rpartition("\r")[2]
    assert line.startswith("0 of 2 files  1.0 MB of 4.0 MB")
    assert line.endswith("left  vae/a.safetensors")
    progress.has_come(Located(Need("vae", "a.safetensors"), size=1_000_000), "s3://x")
    assert out.getvalue().endswith("\r1 of 2  vae/a.safetensors  1.0 MB  s3://x\n")
    assert (told_size(999), told_size(41_200_000_000)) == ("999 bytes", "41.2 GB")
    assert (told_time(3_723), told_time(65)) == ("1:02:03", "1:05")
