"""Every setting of comfyume: its name, default and check, in one place.

A setting is taken from the environment, else from ``comfyume.toml`` in ComfyUI's system user folder, else from the
default here. The TOML file uses the names of the fields below (``redis_url = "..."``); the environment uses the same
names in capitals behind ``COMFYUME_`` (``COMFYUME_REDIS_URL``).
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PREFIX = "COMFYUME_"
FILE_NAME = "comfyume.toml"
REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel")
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")

Mode = Literal["standalone", "frontend", "worker", "off"]
QueueMode = Literal["fifo", "round_robin", "fair"]
GateMode = Literal["on", "dry_run", "off"]
PullMode = Literal["none", "templates"]


def _split(separator: str) -> BeforeValidator:
    def split(value: Any) -> Any:
        return [part.strip() for part in value.split(separator) if part.strip()] if isinstance(value, str) else value

    return BeforeValidator(split)


#: A list in TOML; words between commas in the environment.
Words = Annotated[tuple[str, ...], _split(",")]
#: A list in TOML; lines or parts between semicolons in the environment.
Lines = Annotated[tuple[str, ...], _split(";")]


def _local_moment(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            pass
    if value is not None and not isinstance(value, datetime):
        raise ValueError("write date and time as in 2026-12-03 18:00")
    return value


#: A date with its time, by the clock on this machine's wall unless it says otherwise.
Moment = Annotated[datetime | None, BeforeValidator(_local_moment)]
#: None where nobody has said it.
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)] | None


class SettingsError(Exception):
    """A setting is unknown or impossible; the message says what to write instead."""


#: A bucket, and maybe a prefix in it.
IN_A_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\s\\]*)?")
#: Names of settings that nobody is told the value of.
SECRET_NAME = re.compile("secret|password|token|(?:^|_)key(?:_|$)")
#: Too long for their lines.
MODELS = "where models are found, as in `/mnt/models; s3://NAME/PREFIX`; between semicolons"
MODELS_HOSTS = "further hosts from which models may be fetched, also in a private network; between commas"
MODEL_UPLOAD = "GiB that a model may have which a participant brings; 0 for none"
ROUTES = "who may use routes of node packs, as in `participant GET /pack/route`; between semicolons"
WORKERS_STORE = "address of the store for workers that join by a link, as `comfyume workers allow` prints it"
CACHE = "GiB of results on a frontend's disk; older ones stay in the bucket alone"


class Settings(BaseModel):
    """The settings of one ComfyUI process, checked. Times are seconds, sizes bytes unless the name says otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Mode = "standalone"
    redis_url: str | None = Field(None, description="store of the workshop; none starts an embedded one")
    workers_redis_url: str | None = Field(None, description=WORKERS_STORE)
    workshop: str = Field("default", description="namespace on the store")
    worker_id: str = Field("", validate_default=True, description="name of this worker, stable across restarts")
    secret: str = Field("", repr=False, description="words that encrypt API keys in prompts, the same everywhere")
    frontend_url: str | None = Field(None, description="where a worker reaches the frontend for files")
    shared_folder: Path | None = Field(None, description="folder that frontend and workers both see")
    bucket: str | None = Field(None, description="bucket through which large files travel, as s3://NAME/PREFIX")
    bucket_endpoint: str | None = Field(None, description="address of the service that has the bucket, if not Amazon's")
    bucket_region: str | None = Field(None, description="region of the bucket")
    bucket_path_style: bool = Field(False, description="whether the bucket's name stands in the path of its address")
    bucket_days: float = Field(7, gt=0, description="days that a job's file stays in the bucket")
    bucket_gib: float | None = Field(None, gt=0, description="GiB that jobs' files may take in the bucket")
    cache_gib: float | None = Field(None, ge=0, description=CACHE)
    bucket_key: str = Field("", repr=False, description="access key id of the bucket")
    bucket_secret: str = Field("", repr=False, description="secret access key of the bucket")
    backup: str | None = Field(None, description="where snapshots are kept: s3://NAME/PREFIX, or a folder")
    backup_key: str = Field("", repr=False, description="words that seal the backup; keep them elsewhere too")
    backup_paths: Words = Field((), description="further files and folders that belong to it; between commas")
    backup_hours: float = Field(1, gt=0, description="hours between two snapshots that the frontend takes by itself")
    models: Lines = Field((), description=MODELS)
    models_hosts: Words = Field((), description=MODELS_HOSTS)
    models_pickles: bool = Field(False, description="whether models may come that are no safetensors files")
    hf_token: str = Field("", repr=False, description="token of Hugging Face, if `HF_TOKEN` does not tell it")
    model_upload_gib: float = Field(4, ge=0, description=MODEL_UPLOAD)
    pull_models: PullMode = Field("none", description="models that a worker fetches as it starts")
    queue_mode: QueueMode = Field("fair", description="who goes next")
    job_timeout: float = Field(1800, gt=0, description="seconds that a job may run")
    vram_gate: GateMode = Field("on", description="whether jobs wait for GPU memory; dry_run only tells of it")
    vram_margin: float = Field(2, ge=0, description="GiB kept free beside what a job needs")
    price_hour: Price = Field(None, description="what an hour of this worker costs, for the room's sums")
    currency: str = Field("USD", description="what all prices are in, as people write it")
    price_server_hour: Price = Field(None, description="what an hour of the frontend's server costs")
    price_storage_gib_month: Price = Field(None, description="what a GiB that is kept for a month costs")
    price_traffic_gib: Price = Field(None, description="what a GiB that leaves the server costs")
    workshop_begins: Moment = Field(
        None, description="when the workshop begins, as `2026-12-03 18:00` by this machine's clock"
    )
    workshop_ends: Moment = Field(None, description="when it ends, for what it will cost by then")
    max_jobs: int = Field(0, ge=0, description="jobs after which a worker ends by itself; 0 for no limit")
    drain_notice: float = Field(25, ge=0, description="seconds that a job has when its worker is told to end")
    lease: float = Field(30, ge=1, description="seconds until a silent worker's job is given to another")
    history_size: int = Field(1000, ge=1, description="finished jobs kept for each person")
    history_days: float = Field(30, gt=0, description="days a finished job is kept")
    session_hours: float = Field(24, gt=0, description="hours that a sign-in lasts after its last use")
    user: str = Field("", description="the one person whom this frontend serves")
    hosts: Words = Field(
        (), description="names by which people reach the frontend, beside its addresses; between commas"
    )
    trusted_proxies: Words = Field((), description="addresses of proxies whose word is believed; between commas")
    user_header: str = Field("", description="header in which a trusted proxy names the user")
    webhook_hosts: Words = Field((), description="hosts in private networks that webhooks may reach; between commas")
    routes: Lines = Field((), description=ROUTES)
    activity_prompts: bool = Field(False, description="whether the activity log keeps the text of prompts")
    first_template: str = Field("test-card", description="template that a person's first visit opens; empty for none")

    def without_secrets(self) -> dict[str, Any]:
        """The values by their names, as JSON has them, for people to read.

        Left out is what ``repr`` leaves out and what is called a secret, a key, a token or a password; an address is
        told without what may hold one.
        """
        return {
            name: _without_password(value)
            for name, value in self.model_dump(mode="json").items()
            if type(self).model_fields[name].repr and not SECRET_NAME.search(name)
        }

    @field_validator("workshop")
    @classmethod
    def _workshop_is_a_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", value):
            raise ValueError("use 1 to 64 letters, digits, dots, dashes or underscores")
        return value

    @field_validator("worker_id")
    @classmethod
    def _worker_id_is_a_name(cls, value: str) -> str:
        value = value or default_worker_id(os.environ)
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,128}", value):
            raise ValueError("use 1 to 128 letters, digits, dots, dashes or underscores")
        return value

    @field_validator("redis_url", "workers_redis_url")
    @classmethod
    def _redis_url_is_safe(cls, value: str | None) -> str | None:
        if not value:
            return None
        parts = urlsplit(value)
        if parts.scheme not in REDIS_SCHEMES:
            raise ValueError("begin it with " + ", ".join(f"{scheme}://" for scheme in REDIS_SCHEMES))
        if parts.scheme == "unix":
            return value
        if not parts.hostname:
            raise ValueError("name a host, as in redis://127.0.0.1:6379")
        if parts.hostname not in LOOPBACK_HOSTS and not parts.password:
            raise ValueError(
                f"{parts.hostname} is another machine, so the URL needs a password: "
                f"{parts.scheme}://:PASSWORD@{parts.hostname}:{parts.port or 6379}"
            )
        return value

    @field_validator("frontend_url", "bucket_endpoint")
    @classmethod
    def _address_is_http(cls, value: str | None) -> str | None:
        if not value:
            return None
        if urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).hostname:
            raise ValueError("write it as http://HOST:PORT or https://HOST")
        return value.rstrip("/")

    @field_validator("bucket")
    @classmethod
    def _bucket_is_an_address(cls, value: str | None) -> str | None:
        if not value:
            return None
        if not IN_A_BUCKET.fullmatch(value):
            raise ValueError("write it as s3://NAME or s3://NAME/PREFIX, with the bucket's name in small letters")
        return value.rstrip("/")

    @field_validator("backup")
    @classmethod
    def _backup_is_a_place(cls, value: str | None) -> str | None:
        if not value or "://" not in value:
            return value or None
        return cls._bucket_is_an_address(value)

    @field_validator("backup_paths")
    @classmethod
    def _paths_are_absolute(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            if not text.startswith("/") or ".." in text.split("/") or not text.strip("/"):
                raise ValueError(f"{text!r} is no path from the root on, as /etc/wireguard")
        return value

    @field_validator("models")
    @classmethod
    def _models_are_in_places(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for place in value:
            if not IN_A_BUCKET.fullmatch(place) and (urlsplit(place).scheme or not place.startswith(("/", "~"))):
                raise ValueError(
                    f"{place!r} is no place: write folders as /mnt/models, and buckets as s3://NAME/PREFIX"
                )
        return tuple(place.rstrip("/") for place in value)

    @field_validator("currency")
    @classmethod
    def _currency_is_a_word(cls, value: str) -> str:
        if not re.fullmatch(r"[^\W\d_]{1,8}|[$€£¥₣₤₹]", value):
            raise ValueError("write one word or sign, such as EUR or €")
        return value

    @field_validator("user")
    @classmethod
    def _user_is_lower_case(cls, value: str) -> str:
        # Whether there is such a user is for the store to say, which may not be there yet.
        return value.strip().lower()

    @field_validator("hosts")
    @classmethod
    def _hosts_are_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z0-9.-]+", name):
                raise ValueError(
                    f"{name!r} is no host name: write it without scheme and port, as in workshop.example.org"
                )
        return tuple(name.lower() for name in value)

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies_are_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            try:
                ipaddress.ip_network(text)
            except ValueError as error:
                raise ValueError(f"{text!r} is no address or network, such as 127.0.0.1 or 10.0.0.0/8") from error
        return value

    @field_validator("routes")
    @classmethod
    def _routes_are_rules(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            parts = text.split()
            if len(parts) != 3 or parts[0] not in ("anybody", "participant", "instructor"):
                raise ValueError(
                    f"{text!r} is no rule: write who, methods and path, as in `participant GET /pack/route`"
                )
            try:
                re.compile(parts[2])
            except re.error as error:
                raise ValueError(f"{parts[2]!r} is no regular expression: {error}") from error
        return value

    @field_validator("shared_folder")
    @classmethod
    def _shared_folder_exists(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_dir():
            raise ValueError(f"{value} is no folder on this machine; create or mount it first")
        return value

    @model_validator(mode="after")
    def _roles_have_a_store(self) -> Settings:
        if self.mode in ("frontend", "worker") and self.redis_url is None:
            raise ValueError(
                f"a {self.mode} needs the store of its workshop: set {PREFIX}REDIS_URL, for example redis://127.0.0.1:6379"
            )
        if bool(self.bucket_key) != bool(self.bucket_secret):
            raise ValueError(f"set both {PREFIX}BUCKET_KEY and {PREFIX}BUCKET_SECRET, or neither")
        if self.cache_gib is not None and (self.bucket is None or self.mode != "frontend" or self.shared_folder):
            raise ValueError(
                f"{PREFIX}CACHE_GIB is for a frontend with {PREFIX}BUCKET and without {PREFIX}SHARED_FOLDER"
            )
        begins, ends = self.workshop_begins, self.workshop_ends
        if begins is not None and ends is not None and ends.timestamp() <= begins.timestamp():
            raise ValueError(
                f"{PREFIX}WORKSHOP_ENDS must be later than {PREFIX}WORKSHOP_BEGINS; they are {ends} and {begins}"
            )
        if self.max_jobs and self.mode != "worker":
            raise ValueError(f"{PREFIX}MAX_JOBS ends the process, so it is for {PREFIX}MODE=worker alone")
        if self.user_header and not self.trusted_proxies:
            raise ValueError(
                f"{PREFIX}USER_HEADER is believed from proxies alone: name them in {PREFIX}TRUSTED_PROXIES"
            )
        return self


def _without_password(value: Any) -> Any:
    """A value; an address without the user and the query, in which passwords stand."""
    if isinstance(value, list):
        return [_without_password(each) for each in value]
    if not isinstance(value, str) or "://" not in value:
        return value
    parts = urlsplit(value)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def default_worker_id(environ: Mapping[str, str]) -> str:
    """Name a worker by its host and the index of its GPU: ``render-1-gpu0``."""
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()) or "worker"
    index = environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    return f"{host[:100]}-gpu{index if index.isdigit() else 0}"


def load(environ: Mapping[str, str], file: Path | None = None) -> Settings:
    """Read and check the settings.

    Raises:
        SettingsError: naming every setting that is unknown or impossible, and what to write instead.
    """
    values: dict[str, Any] = {}
    if file is not None and file.is_file():
        try:
            values.update(tomllib.loads(file.read_text(encoding="utf-8")))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"{file} is not valid TOML: {error}") from error
    for name, value in environ.items():
        if name.startswith(PREFIX) and value != "":
            values[name[len(PREFIX) :].lower()] = value
    for name in NOT_SETTINGS:
        values.pop(name, None)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_explain(error)) from error


#: Environment variables with our prefix that the tests and the launcher read; the extension itself does not.
NOT_SETTINGS = ("python", "test_comfyui", "test_comfyui_old", "test_frontend_old")


def _explain(error: ValidationError) -> str:
    known = ", ".join(f"{PREFIX}{name.upper()}" for name in Settings.model_fields)
    sentences = []
    for item in error.errors():
        name = f"{PREFIX}{str(item['loc'][0]).upper()}" if item["loc"] else ""
        if item["type"] == "extra_forbidden":
            sentences.append(f"{name} is no setting of comfyume; the settings are {known}.")
            continue
        reason = item["msg"].removeprefix("Value error, ")
        given = f" (it is {item['input']!r})" if name and "password" not in reason and "URL" not in name else ""
        sentences.append(f"{name}: {reason}{given}.".lstrip(": "))
    return " ".join(sentences)
