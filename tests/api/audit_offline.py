"""Ask pip-audit about our dependencies without a network: ``python tests/api/audit_offline.py FOLDER [ARGUMENT ...]``.

The folder is a copy of https://github.com/pypa/advisory-database, of any age; what is younger than it is not found. It
is served on this machine in the way of OSV, which is where pip-audit then asks. The arguments go to pip-audit, as in
``-r requirements.txt``; without any it looks at ComfyUI's environment. pip-audit is run by uvx if it is not installed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

Advisory = dict[str, Any]


class Advisories:
    """The advisories of a folder, in OSV's format, as YAML or JSON."""

    def __init__(self, folder: Path) -> None:
        self._by_package: dict[str, list[Advisory]] = {}
        self.count = 0
        for file in sorted(path for kind in ("*.yaml", "*.json") for path in folder.rglob(kind)):
            read = json.loads if file.suffix == ".json" else _read_yaml
            advisory = read(file.read_text(encoding="utf-8"))
            names = {canonicalize_name(part["package"]["name"]) for part in _affected(advisory)}
            self.count += bool(names)
            for name in names:
                self._by_package.setdefault(name, []).append(advisory)

    def of(self, name: str, version: str) -> list[Advisory]:
        """The advisories that hold for a version of a package; those that were withdrawn do not."""
        return [
            advisory
            for advisory in self._by_package.get(canonicalize_name(name), [])
            if "withdrawn" not in advisory and any(_holds(part, name, version) for part in _affected(advisory))
        ]


def _read_yaml(text: str) -> Advisory:
    # Times stay text, as JSON has them.
    return dict(yaml.load(text, Loader=yaml.BaseLoader) or {})  # noqa: S506 - makes text, lists and dicts alone


def _affected(advisory: Advisory) -> list[Mapping[str, Any]]:
    return [part for part in advisory.get("affected", []) if part["package"]["ecosystem"] == "PyPI"]


def _holds(part: Mapping[str, Any], name: str, version: str) -> bool:
    if canonicalize_name(part["package"]["name"]) != canonicalize_name(name):
        return False
    ranges = [each for each in part.get("ranges", []) if each["type"] == "ECOSYSTEM"]
    return version in part.get("versions", []) or any(_is_in(each["events"], Version(version)) for each in ranges)


def _is_in(events: Iterable[Mapping[str, str]], version: Version) -> bool:
    """Whether a version is in a range of OSV's: from each `introduced` to the `fixed` or `last_affected` behind it."""
    is_affected = False
    for kind, text in sorted((item for event in events for item in event.items()), key=lambda item: _version(item[1])):
        if kind == "introduced" and version >= _version(text):
            is_affected = True
        elif (kind == "fixed" and version >= _version(text)) or (kind == "last_affected" and version > _version(text)):
            is_affected = False
    return is_affected


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0")


def serve(advisories: Advisories) -> ThreadingHTTPServer:
    """Answer OSV's ``/v1/query`` on a free port of 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found = advisories.of(asked["package"]["name"], asked["version"])
            body = json.dumps({"vulns": found} if found else {}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def main() -> int:
    """Serve the folder and run pip-audit, whose status is returned."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    options, arguments = parser.parse_known_args()
    advisories = Advisories(options.folder)
    print(f"{advisories.count} advisories in {options.folder}", flush=True)
    if advisories.count == 0:
        parser.error("there are none in this folder")
    server = serve(advisories)
    beside = Path(sys.executable).parent
    program = shutil.which("pip-audit", path=str(beside)) or shutil.which("pip-audit")
    command = [program] if program else [shutil.which("uvx", path=str(beside)) or "uvx", "pip-audit"]
    url = f"http://127.0.0.1:{server.server_port}/v1/query"
    return subprocess.run([*command, "--strict", "-s", "osv", "--osv-url", url, *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
