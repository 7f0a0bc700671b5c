"""Settings: where they come from, what is refused, and that the README tells them all."""

from __future__ import annotations

import json
import re
import typing
from pathlib import Path

import pydantic
import pytest

from comfyume import settings
from comfyume.job_queue.jobs import QueueMode

ROOT = Path(settings.__file__).resolve().parent
STORE = {"COMFYUME_REDIS_URL": "redis://127.0.0.1:6379"}

#: What the README says where the plain default would not help a reader.
DEFAULTS_IN_WORDS = {
    "redis_url": "a store of its own, in standalone mode",
    "workers_redis_url": "that of the frontend, unless it is on this machine",
    "worker_id": "host name and GPU index",
    "secret": "the store's password, or a file of this machine",
    "frontend_url": "told by the job",
    "shared_folder": "none: files travel over HTTP",
    "bucket": "none",
    "bucket_endpoint": "Amazon's",
    "bucket_region": "told by the endpoint, or by boto3's own settings",
    "bucket_gib": "no limit",
    "cache_gib": "all of them",
    "bucket_key": "found by boto3",
    "bucket_secret": "found by boto3",
    "backup": "none",
    "backup_key": "made up by the first backup",
    "hf_token": "`HF_TOKEN`",
}
MEANINGS = {"mode": "what this ComfyUI is"}


def test_no_settings_are_a_standalone_with_its_own_store():
    loaded = settings.load({})
    assert (loaded.mode, loaded.redis_url, loaded.workshop) == ("standalone", None, "default")


def test_the_environment_comes_before_the_file(tmp_path):
    file = tmp_path / settings.FILE_NAME
    file.write_text('workshop = "from-file"\nlease = 45\n')
    loaded = settings.load({"COMFYUME_WORKSHOP": "from-environment"}, file)
    assert (loaded.workshop, loaded.lease) == ("from-environment", 45)


def test_what_people_are_told_has_every_setting_and_no_secret():
    loaded = settings.Settings(
        secret="canary",
        bucket_key="canary",
        bucket_secret="canary",
        backup_key="canary",
        hf_token="canary",
        redis_url="rediss://canary:canary@store:6380/2?password=canary",
        frontend_url="https://canary:canary@workshop.example.org/",
        hosts=("workshop.example.org",),
    )
    told = loaded.without_secrets()
    assert "canary" not in json.dumps(told)
    assert (told["redis_url"], told["frontend_url"]) == ("rediss://store:6380/2", "https://workshop.example.org")
    assert (told["lease"], told["shared_folder"], told["hosts"]) == (30, None, ["workshop.example.org"])
    hidden = {"secret", "bucket_key", "bucket_secret", "backup_key", "hf_token"}
    assert settings.Settings.model_fields.keys() - told.keys() == hidden


@pytest.mark.parametrize("name", ["secret", "api_key", "hub_token", "password_of_all", "Hidden"])
def test_a_new_setting_that_is_called_a_secret_or_not_shown_in_logs_is_told_nobody(name):
    field = (str, pydantic.Field("canary", repr=name != "Hidden"))
    longer = pydantic.create_model("Longer", __base__=settings.Settings, **{name: field})
    assert "canary" not in json.dumps(longer().without_secrets())


def test_an_empty_variable_counts_as_not_set(tmp_path):
    file = tmp_path / settings.FILE_NAME
    file.write_text('workshop = "from-file"\n')
    assert settings.load({"COMFYUME_WORKSHOP": ""}, file).workshop == "from-file"


def test_a_file_that_is_no_toml_is_named(tmp_path):
    file = tmp_path / settings.FILE_NAME
    file.write_text("workshop = \n")
    with pytest.raises(settings.SettingsError, match=re.escape(str(file))):
        settings.load({}, file)


@pytest.mark.parametrize("mode", ["frontend", "worker"])
def test_a_role_without_a_store_is_told_which_setting_is_missing(mode):
    with pytest.raises(settings.SettingsError, match=f"a {mode} needs the store.*COMFYUME_REDIS_URL"):
        settings.load({"COMFYUME_MODE": mode})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MODE", "server", "standalone"),
        ("WORKSHOP", "a workshop", "letters, digits"),
        ("WORKER_ID", "gpu/0", "letters, digits"),
        ("REDIS_URL", "http://127.0.0.1", "redis://"),
        ("REDIS_URL", "redis://", "name a host"),
        ("REDIS_URL", "redis://store.example", "needs a password"),
        ("FRONTEND_URL", "frontend:8188", "http://HOST:PORT"),
        ("SHARED_FOLDER", "/no/such/folder", "create or mount it"),
        ("LEASE", "soon", "number"),
        ("BACKUP", "http://bucket", "s3://NAME"),
        ("BACKUP_PATHS", "/etc/ssh,../secrets", "no path from the root on"),
        ("HISTORY_DAYS", "-1", "greater than 0"),
        ("HISTORY_SIZE", "0", "greater than or equal to 1"),
        ("WORKSHOP_ENDS", "tomorrow", "as in 2026-12-03 18:00"),
        ("WORKSHOP_BEGINS", "2026-13-03 18:00", "as in 2026-12-03 18:00"),
        ("CURRENCY", "many coins", "such as EUR"),
        ("PRICE_SERVER_HOUR", "nan", "finite"),
        ("PRICE_TRAFFIC_GIB", "-1", "greater than or equal to 0"),
    ],
)
def test_an_impossible_value_is_refused_by_name_with_what_to_write(name, value, message):
    with pytest.raises(settings.SettingsError) as raised:
        settings.load({f"COMFYUME_{name}": value})
    assert f"COMFYUME_{name}" in str(raised.value)
    assert message in str(raised.value)


def test_a_workshop_ends_after_it_begins(tmp_path):
    with pytest.raises(settings.SettingsError, match="WORKSHOP_ENDS must be later"):
        settings.load({"COMFYUME_WORKSHOP_BEGINS": "2026-12-03 18:00", "COMFYUME_WORKSHOP_ENDS": "2026-12-02 18:00"})
    file = tmp_path / settings.FILE_NAME
    file.write_text('workshop_begins = 2026-12-03T18:00:00\nworkshop_ends = "2026-12-06 18:00"\n')
    loaded = settings.load({}, file)
    assert (loaded.workshop_ends - loaded.workshop_begins).days == 3


def test_an_unknown_setting_is_refused_with_the_list_of_settings():
    with pytest.raises(settings.SettingsError, match=r"COMFYUME_WORKSHP is no setting.*COMFYUME_WORKSHOP"):
        settings.load({"COMFYUME_WORKSHP": "x"})


def test_every_mistake_is_told_at_once():
    with pytest.raises(settings.SettingsError) as raised:
        settings.load({"COMFYUME_MODE": "server", "COMFYUME_LEASE": "0"})
    assert "COMFYUME_MODE" in str(raised.value)
    assert "COMFYUME_LEASE" in str(raised.value)


def test_a_password_in_a_refused_url_is_not_repeated():
    with pytest.raises(settings.SettingsError) as raised:
        settings.load({"COMFYUME_REDIS_URL": "http://:hunter2@store.example"})
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:6379",
        "redis://localhost",
        "unix:///run/store.sock",
        "rediss://:secret@store.example:6380/1",
        "redis+sentinel://:secret@sentinel.example:26379/mymaster",
    ],
)
def test_these_stores_are_accepted(url):
    assert settings.load({"COMFYUME_REDIS_URL": url}).redis_url == url


def test_a_frontend_url_loses_its_last_slash():
    assert settings.load({"COMFYUME_FRONTEND_URL": "http://host:8188/"}).frontend_url == "http://host:8188"


def test_a_worker_is_named_by_its_gpu():
    assert settings.default_worker_id({"CUDA_VISIBLE_DEVICES": "3,4"}).endswith("-gpu3")
    assert settings.default_worker_id({}).endswith("-gpu0")
    named = settings.load({"COMFYUME_MODE": "worker", "COMFYUME_WORKER_ID": "render-1", **STORE})
    assert named.worker_id == "render-1"


def test_the_launchers_variables_are_no_settings():
    assert settings.load({f"COMFYUME_{name.upper()}": "x" for name in settings.NOT_SETTINGS}).mode == "standalone"


def test_the_readme_tells_every_setting_with_its_default():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = (
        readme.split("<!-- settings: checked by tests/unit/test_settings.py -->")[1].split("<!-- end -->")[0].strip()
    )
    wanted = settings_table()
    assert table == wanted, f"The README's table of settings should be:\n\n{wanted}"


def settings_table() -> str:
    rows = ["| setting | meaning | default |", "|---|---|---|"]
    for name, field in settings.Settings.model_fields.items():
        meaning = field.description or MEANINGS[name]
        choices = typing.get_args(field.annotation)
        if choices and all(isinstance(choice, str) for choice in choices):
            meaning += ": " + ", ".join(f"`{choice}`" for choice in choices)
        default = DEFAULTS_IN_WORDS.get(name) or _default_in_words(field.default)
        rows.append(f"| `COMFYUME_{name.upper()}` | {meaning} | {default} |")
    return "\n".join(rows)


def _default_in_words(default):
    if default in ((), ""):
        return "none"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def test_the_modes_of_the_queue_are_those_that_the_queue_has():
    assert set(typing.get_args(settings.QueueMode)) == set(typing.get_args(QueueMode))
