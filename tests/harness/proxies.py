"""Real nginx and Caddy before a frontend, set up as `docs/deploy.md` says, and a client that comes to them by TLS."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from email.message import Message
from pathlib import Path
from types import TracebackType
from typing import Any

import websocket
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .client import Client, Event, RequestRefused
from .package import ROOT
from .people import password_of
from .processes import READY_SECONDS, ProcessFailed, _end, die_with_parent, free_port, tail
from .proxy import Direction, Proxy

#: What the document calls the workshop, and where the frontend stands in it.
NAME = "workshop.example.org"
UPSTREAM = "127.0.0.1:8188"

#: Debian keeps nginx where only root's PATH leads.
PROGRAMS = {"nginx": ("nginx", "/usr/sbin/nginx"), "caddy": ("caddy",)}
PACKAGES = {"nginx": "nginx-light", "caddy": "caddy"}


@dataclass(frozen=True)
class Block:
    """A block of code in the document: the heading above it, its language and its text."""

    heading: str
    language: str
    text: str


class Document:
    """The code in `docs/deploy.md`."""

    def __init__(self, path: Path = ROOT / "docs" / "deploy.md") -> None:
        self.blocks: list[Block] = []
        for section in re.split(r"^## ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            heading, _, text = section.partition("\n")
            for language, code in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
                self.blocks.append(Block(heading, language, code))

    def code(self, heading: str, language: str) -> str:
        """The one block of this language below a heading."""
        (found,) = [block.text for block in self.blocks if (block.heading, block.language) == (heading, language)]
        return found

    def exports(self, *headings: str) -> dict[str, str]:
        """What the lines `export NAME=VALUE` below some headings set; the last one of a name counts."""
        lines = "".join(self.code(heading, "sh") for heading in headings)
        return dict(re.findall(r"^export (\w+)=(\S+)$", lines, re.MULTILINE))


def replaced(text: str, parts: Mapping[str, object]) -> str:
    """Replace parts of a text, each of which must be in it."""
    for old, new in parts.items():
        assert old in text, f"{old!r} is not in the document any more:\n{text}"
        text = text.replace(old, str(new))
    return text


@dataclass(frozen=True)
class Certificate:
    """A certificate for `NAME` that its own key has signed, and this key."""

    certificate: Path
    key: Path

    @classmethod
    def make(cls, folder: Path) -> Certificate:
        """Make one that is good for a day."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
        now = datetime.datetime.now(datetime.timezone.utc)
        made = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        found = cls(folder / "cert.pem", folder / "key.pem")
        found.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        found.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return found


class ProxyProcess:
    """A proxy in the foreground, with all its files in a folder of its own.

    Args:
        command: its command line.
    """

    def __init__(self, folder: Path, command: Sequence[str | Path], door: Door) -> None:
        self.door = door
        self.log = folder / "proxy.log"
        self._command = command
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ProxyProcess:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                # Caddy keeps files where these lead.
                env={**os.environ, **dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"), str(self._folder))},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl call, no lock taken
            )
        try:
            self.door.wait_open(self._process)
        except ProcessFailed as error:
            self.__exit__(None, None, None)
            raise ProcessFailed(f"{error}\n{tail(self.log)}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _end(self._process, signal.SIGTERM)


def program(name: str) -> str | None:
    """Where a proxy's program is, if it is here."""
    return next(filter(None, map(shutil.which, PROGRAMS[name])), None)


def nginx(folder: Path, server: str, upstream: str, certificate: Certificate) -> ProxyProcess:
    """An nginx with the document's `server`; where it listens and what it reads are replaced."""
    folder.mkdir(parents=True)
    port = free_port()
    live = f"/etc/letsencrypt/live/{NAME}"
    parts = {
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        f"{live}/fullchain.pem": certificate.certificate,
        f"{live}/privkey.pem": certificate.key,
        f"http://{UPSTREAM}": f"http://{upstream}",
    }
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "\n".join(f"{kind}_temp_path {folder / kind};" for kind in kinds)
    config = folder / "nginx.conf"
    # One process, so that none is left behind when it is killed.
    config.write_text(
        f"daemon off;\nmaster_process off;\npid {folder / 'pid'};\nerror_log stderr;\nevents {{}}\n"
        f"http {{\naccess_log {folder / 'access.log'};\n{temporary}\n{replaced(server, parts)}\n}}\n"
    )
    command = (program("nginx") or "nginx", "-p", folder, "-c", config)
    return ProxyProcess(folder, command, Door.to(port, certificate))


def caddy(folder: Path, site: str, upstream: str, certificate: Certificate) -> ProxyProcess:
    """A Caddy with the document's site; it asks nobody for a certificate, and listens on a port of its own."""
    folder.mkdir(parents=True)
    port = free_port()
    first, line, rest = replaced(site, {UPSTREAM: upstream}).partition("{\n")
    config = folder / "Caddyfile"
    config.write_text(
        "{\nadmin off\nauto_https disable_redirects\nskip_install_trust\n"
        f"default_bind 127.0.0.1\nhttps_port {port}\nstorage file_system {folder / 'storage'}\n}}\n"
        f"{first}{line}    tls {certificate.certificate} {certificate.key}\n{rest}"
    )
    command = (program("caddy") or "caddy", "run", "--adapter", "caddyfile", "--config", config)
    return ProxyProcess(folder, command, Door.to(port, certificate))


@dataclass(frozen=True)
class Door:
    """Where a browser comes to the workshop: a port of this machine that is taken for `NAME`.

    Attributes:
        source: the address from which it comes.
    """

    port: int
    trust: ssl.SSLContext
    source: str = "127.0.0.1"

    @classmethod
    def to(cls, port: int, certificate: Certificate) -> Door:
        """The door at a port, for who trusts this certificate and no other."""
        return cls(port, ssl.create_default_context(cafile=str(certificate.certificate)))

    def coming_from(self, source: str) -> Door:
        """The same door, to which somebody comes from another address."""
        return replace(self, source=source)

    def open(self, timeout: float) -> ssl.SSLSocket:
        """A connection by TLS; the server has proved that it is `NAME`."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout, source_address=(self.source, 0))
        try:
            return self.trust.wrap_socket(plain, server_hostname=NAME)
        except BaseException:
            plain.close()
            raise

    def wait_open(self, process: subprocess.Popen[bytes] | None, timeout: float = READY_SECONDS) -> None:
        """Wait until there is an answer at the door; a refusal is one too.

        Raises:
            ProcessFailed: ``process`` has ended, or nothing answers after ``timeout`` seconds.
        """
        client = TlsClient(self)
        deadline = time.monotonic() + timeout
        while True:
            try:
                if client.answer("GET", "/comfyume/health").status < 500:
                    return
            except (OSError, http.client.HTTPException):
                pass
            if process is None or process.poll() is not None or time.monotonic() > deadline:
                raise ProcessFailed(f"nothing answers at port {self.port}:")
            time.sleep(0.05)


class _Connection(http.client.HTTPSConnection):
    def __init__(self, door: Door, timeout: float) -> None:
        super().__init__(NAME, timeout=timeout)
        self._door = door

    def connect(self) -> None:
        self.sock = self._door.open(self.timeout or 60.0)


@dataclass(frozen=True)
class Answer:
    """An answer, whatever its status."""

    status: int
    headers: Message
    body: bytes


class TlsClient(Client):
    """One browser's worth of requests to `NAME`, by TLS. As a browser it sends its origin with changes."""

    def __init__(self, door: Door, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(NAME, headers=headers, connect=False)
        self.door = door

    def answer(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str | Sequence[str]] | None = None,
    ) -> Answer:
        """Send one request; a header with several values is sent as several lines."""
        connection = _Connection(self.door, self.timeout)
        own = {"Origin": f"https://{NAME}"} if method != "GET" else {}
        sent: dict[str, str | Sequence[str]] = {**own, **self.headers, **(headers or {})}
        if body is not None:
            sent["Content-Length"] = str(len(body))
        try:
            connection.putrequest(method, path, skip_host="Host" in sent)
            for name, values in sent.items():
                for value in [values] if isinstance(values, str) else values:
                    connection.putheader(name, value)
            connection.endheaders(body)
            with connection.getresponse() as response:
                return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """See ``Client``."""
        answer = self.answer(method, path, body, headers)
        if answer.status >= 400:
            raise RequestRefused(answer.status, answer.body.decode(errors="replace"))
        return answer.body

    def connect(self, feature_flags: Mapping[str, Any] | None = None) -> Event:
        """See ``Client``."""
        self.close()
        self.socket = websocket.create_connection(
            f"wss://{NAME}/ws?clientId={self.client_id}",
            header=[f"{name}: {value}" for name, value in self.headers.items()],
            socket=self.door.open(self.timeout),
        )
        if feature_flags is not None:
            self.socket.send(json.dumps({"type": "feature_flags", "data": feature_flags}))
        return self.receive()

    def sign_in(self, name: str, headers: Mapping[str, str | Sequence[str]] | None = None) -> list[str]:
        """Sign in as the page does, and be known from then on; returns the cookies as they were set."""
        body = json.dumps({"user": name, "password": password_of(name)}).encode()
        answer = self.answer("POST", "/comfyume/sign-in", body, {"Content-Type": "application/json", **(headers or {})})
        if answer.status != 200:
            raise RequestRefused(answer.status, answer.body.decode(errors="replace"))
        cookies = answer.headers.get_all("Set-Cookie") or []
        self.headers["Cookie"] = "; ".join(cookie.partition(";")[0] for cookie in cookies)
        return cookies


#: As a line in /etc/hosts would do it, for the Python processes that find this in their PYTHONPATH.
RESOLVER = f'''
import socket
import time

_asked = socket.getaddrinfo


def getaddrinfo(host, *arguments, **options):
    if host not in ("{NAME}", b"{NAME}"):
        return _asked(host, *arguments, **options)
    time.sleep(SECONDS)
    return _asked("127.0.0.1", *arguments, **options)


socket.getaddrinfo = getaddrinfo
'''


def name_leads_here(folder: Path, seconds: float = 0) -> dict[str, str]:
    """The environment of a Python process for which `NAME` is this machine; it asks no server for names for it.

    Args:
        seconds: how long it takes to find that out, as with a slow name server.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(RESOLVER.replace("SECONDS", str(seconds)))
    return {"PYTHONPATH": str(folder)}


class Relay(Proxy):
    """How a worker, which knows one address, comes to one door after another."""

    def __init__(self) -> None:
        super().__init__()
        self._ends: set[socket.socket] = set()

    @property
    def port(self) -> int:
        """Where the worker comes to."""
        return int(self.url.rpartition(":")[2])

    @contextlib.contextmanager
    def leading_to(self, door: Door) -> Iterator[None]:
        """Within, it leads to this door; connections that a worker has kept to another are ended."""
        before = self.target
        self._turn(door.port)
        try:
            yield
        finally:
            self._turn(before)

    def _turn(self, port: int) -> None:
        self.target = port
        for end in list(self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _relay(self, source: socket.socket, sink: socket.socket, direction: Direction) -> None:
        self._ends.add(source)
        try:
            super()._relay(source, sink, direction)
        finally:
            self._ends.discard(source)


MakeProxy = Callable[[Path, str, str, Certificate], ProxyProcess]
MAKERS: dict[str, MakeProxy] = {"nginx": nginx, "caddy": caddy}
