"""No name of a file leads out of a person's own folders, however it is written."""

from __future__ import annotations

import http.client
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image

from comfyume.tests.harness.client import Client
from comfyume.tests.harness.discovery import ComfyInstall
from comfyume.tests.harness.people import add_users_to_store, basic, wait_until_known
from comfyume.tests.harness.processes import ComfyProcess, RedisServer

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(240)]

SECRET = f"secret{uuid.uuid4().hex}".encode()
#: In the name of one of bob's files.
MARK = f"mark{uuid.uuid4().hex}"
UP = ["..", "../../..", "../bob", "../../input/bob", "../../user/bob"]
SPELLINGS = [
    lambda path: path,
    lambda path: path.replace("/", "\\"),
    lambda path: path.replace("..", "%2e%2e"),
    lambda path: path.replace("/", "%2f"),
    lambda path: path.replace("..", "%252e%252e").replace("/", "%252f"),
    lambda path: path.replace("..", "....//"),
    lambda path: f"./{path}",
    lambda path: f"x/../{path}",
    lambda path: f"{path}\0.png",
    lambda path: path.replace("..", "．．"),  # noqa: RUF001 - dots of another script
    lambda path: path.replace("/", "∕"),  # noqa: RUF001
]


@dataclass(frozen=True)
class Frontend:
    """A frontend with two people, whose files lie in `folder`."""

    process: ComfyProcess
    folder: Path

    def client(self, name: str) -> Client:
        return Client(self.process.address, headers=basic(name), connect=False)

    def ask(self, method: str, address: str, body: bytes | None = None, content_type: str = "") -> tuple[int, bytes]:
        """Send an address exactly as it is written."""
        connection = http.client.HTTPConnection("127.0.0.1", self.process.port, timeout=30)
        try:
            connection.putrequest(method, address, skip_accept_encoding=True)
            headers = {**basic("ada"), "Content-Length": str(len(body or b""))}
            for name, value in {**headers, **({"Content-Type": content_type} if content_type else {})}.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def files(self) -> dict[str, bytes]:
        """All files but ada's, and what is in them; the log is none."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file() and "ada" not in path.parts and path.suffix not in (".log", ".db", ".pyc")
        }


@pytest.fixture(scope="module")
def frontend(comfyui: ComfyInstall, tmp_path_factory: pytest.TempPathFactory, short_folder: Path) -> Iterator[Frontend]:
    folder = tmp_path_factory.mktemp(f"traversal-{comfyui.label}")
    with RedisServer(short_folder / f"traversal-{comfyui.label}", port=None) as store:
        process = ComfyProcess(comfyui, folder, mode="frontend", store_url=store.url, workshop="traversal")
        with process:
            add_users_to_store(store.url, "traversal", {"ada": "participant", "bob": "participant"})
            made = Frontend(process, folder)
            wait_until_known(process.address)
            for name in ("ada", "bob"):
                client = made.client(name)
                client.upload(SECRET if name == "bob" else b"mine", "a.png")
                client.upload(b"x", f"{MARK if name == 'bob' else 'x'}.png", fields={"subfolder": "x"})
                client.request("POST", "/userdata/workflows%2Fa.json", SECRET if name == "bob" else b"{}")
            (folder / "secret.png").write_bytes(SECRET)
            own = next(path for path in folder.rglob("ada/a.png")).parent
            bobs = next(path for path in folder.rglob("bob/a.png")).parent
            data = next(path for path in folder.rglob("ada/workflows"))
            # As a node pack might have made them.
            for link, target in ((own / "link", bobs), (own / "link.png", bobs / "a.png"), (data / "link", bobs)):
                link.symlink_to(target)
            yield made


def targets() -> list[str]:
    """Ways to files that are not ada's, of which the first few levels lead somewhere."""
    names = ["a.png", "workflows/a.json", "secret.png"]
    plain = [f"{up}/{name}" for up in UP for name in names]
    plain += ["/etc/passwd", "/etc/hostname", "C:\\Windows\\win.ini", "file:///etc/passwd", "//etc/passwd", "~/.bashrc"]
    return [spell(path) for path in plain for spell in SPELLINGS]


def leaks(body: bytes) -> bool:
    return SECRET in body or MARK.encode() in body or b"root:x:0:0" in body


def test_nothing_is_read(frontend: Frontend) -> None:
    found = []
    asked = 0
    for path in [*targets(), "link/a.png", "link.png", "x" * 5000]:
        folder, _, name = path.rpartition("/")
        once, folder_once, name_once = (quote(text, safe="%") for text in (path, folder, name))
        addresses = [f"/view?filename={once}&type={kind}" for kind in ("input", "output", "temp", "user", "..")]
        addresses += [f"/view?filename={name_once}&subfolder={folder_once}&type=input"]
        addresses += [f"/api/view?filename={once}%20[input]", f"/userdata/{once}", f"/userdata/workflows%2F{once}"]
        addresses += [f"/userdata?dir={folder_once or '.'}&recurse=true", f"/v2/userdata?path={folder_once}"]
        addresses += [f"/view_metadata/{once}?filename={once}.safetensors", f"/models/{once}", f"/settings/{once}"]
        addresses += [
            f"/experiment/models/preview/checkpoints/0/{once}",
            f"/templates/{once}",
            f"/internal/files/{once}",
        ]
        addresses += [f"/{prefix}/{once}" for prefix in ("extensions/comfyume", "assets", "workflow_templates", "docs")]
        addresses += [f"/history/{once}", f"/api/jobs/{once}", f"/global_subgraphs/{once}", f"/object_info/{once}"]
        for address in addresses:
            status, body = frontend.ask("GET", address.replace("\0", "%00").replace(" ", "%20"))
            asked += 1
            if leaks(body):
                found.append((address, status, body[:200]))
    assert found == []
    assert asked > 3_000
    assert frontend.client("bob").view("a.png", type="input") == SECRET, "there is something to be read"


def multipart(fields: dict[str, str], filename: str) -> tuple[bytes, str]:
    boundary = uuid.uuid4().hex
    named = [
        *((f'name="{name}"', value) for name, value in fields.items()),
        (f'name="image"; filename="{filename}"', "EVIL"),
    ]
    parts = [f"--{boundary}\r\nContent-Disposition: form-data; {name}\r\n\r\n{value}\r\n" for name, value in named]
    return f"{''.join(parts)}--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def test_no_picture_of_another_is_shown(frontend: Frontend) -> None:
    """In whatever form: a preview is another file than the picture."""
    content = BytesIO()
    Image.new("RGB", (8, 8)).save(content, "PNG")
    frontend.client("bob").upload(content.getvalue(), "real.png")
    (picture,) = frontend.folder.rglob("bob/real.png")
    ways = [
        f"checkpoints/0/{picture}",
        f"checkpoints/0/{quote(str(picture), safe='')}",
        f"checkpoints/0/../..{picture}",
    ]
    addresses = [f"/experiment/models/preview/{way}" for way in ways]
    addresses += [f"/api{address}" for address in addresses]
    addresses += [
        f"/view?filename=real.png&subfolder={below}&type=input" for below in ("link", "link/../bob", "../bob")
    ]
    addresses += [f"/view?filename={quote(str(picture))}&preview=webp&type=input"]
    assert {
        address: frontend.ask("GET", address)[0] for address in addresses if frontend.ask("GET", address)[0] == 200
    } == {}


def test_nothing_is_written(frontend: Frontend) -> None:
    before = frontend.files()
    for path in [*targets(), "link/new.png", "link.png", "link/deep/new.png"]:
        folder, _, name = path.rpartition("/")
        reference = {"overwrite": "1", "original_ref": json.dumps({"filename": path, "subfolder": "", "type": "input"})}
        for fields, filename in (({}, path), ({"subfolder": folder}, name), ({"subfolder": path, "type": "temp"}, "n")):
            for route in ("/upload/image", "/api/upload/mask"):
                frontend.ask("POST", route, *multipart({**reference, **fields}, filename.replace('"', "")))
        once = quote(path, safe="%").replace("%00", "%2500")
        moved = f"/userdata/workflows%2Fa.json/move/{once}"
        for address in (f"/userdata/{once}", f"/userdata/workflows%2F{once}", moved):
            frontend.ask("POST", f"{address}?overwrite=true", b"EVIL", "application/json")
        frontend.ask("DELETE", f"/userdata/{once}")
        frontend.ask("POST", f"/settings/{once}", b'"EVIL"', "application/json")
    after = frontend.files()
    assert {name for name in before if after.get(name) != before[name]} == set()
    assert {name for name in after if name not in before} == set()
    assert frontend.client("bob").view("a.png", type="input") == SECRET
