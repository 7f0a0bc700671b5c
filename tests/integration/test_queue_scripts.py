"""The scripts themselves: each says what it does, names its keys in one way, and runs on Redis 6.2."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from comfyume.job_queue import scripts
from comfyume.job_queue.keys import Keys
from comfyume.tests.harness.package import ROOT

FOLDER = ROOT / "job_queue" / "lua"
SCRIPTS = sorted(FOLDER.glob("*.lua"))
INCLUDES = sorted((FOLDER / "includes").glob("*.lua"))
EVERY_FILE = [*SCRIPTS, *INCLUDES]

#: Commands that the scripts may use: all are in Redis 6.2 as they are used here, and none looks at the whole store.
ALLOWED = {"DEL", "EXISTS", "EXPIRE", "PERSIST", "PEXPIRE", "TTL", "GET", "INCR", "SET", "RPUSH", "LTRIM"}
ALLOWED |= {"HDEL", "HGET", "HGETALL", "LRANGE", "HEXISTS", "HMGET", "HSET", "SADD", "SDIFF", "SMEMBERS", "SREM"}
ALLOWED |= {"ZADD", "ZCARD", "ZDIFF", "ZINTER", "ZRANGE", "ZRANGEBYSCORE", "ZREM", "ZREMRANGEBYSCORE", "ZSCORE"}
ALLOWED |= {"PUBLISH", "TIME", "HINCRBY", "HKEYS", "PTTL", "XADD", "SISMEMBER", "ZREMRANGEBYRANK"}
#: Options of those commands that came after 6.2.
TOO_NEW = re.compile(r"'(?:PX|EX|NX|XX|GT|LT)AT?'")
CALL = re.compile(r"redis\.p?call\('([A-Za-z]+)'((?:[^()]|\([^()]*\))*)")
#: Key names that only scripts, or only Python, have to do with.
SCRIPTS_ONLY = {"active", "fits", "history", "idle", "lane", "lanes", "lease", "needs", "nothing"}
SCRIPTS_ONLY |= {"running", "submitted", "people", "queued", "served", "turns", "usage", "kind", "reserved", "submits"}
SCRIPTS_ONLY |= {"meter", "metered"}
SCRIPTS_ONLY |= {"heads", "order", "passed", "grace", "swept", "orphans", "allowance", "grant", "lost", "ended"}
PYTHON_ONLY = {"catalogues-seen", "replies", "script-file"}
PYTHON_ONLY |= {"users", "session", "sessions-of", "failures", "browser", "activity", "signing-key"}
PYTHON_ONLY |= {"series", "sampled", "seen"}


def name(path: Path) -> str:
    return path.stem


def code_of(path: Path) -> str:
    return "\n".join(line.split("--")[0] for line in path.read_text(encoding="utf-8").splitlines())


def keys_in_python() -> dict[str, str]:
    """The names of the keys that ``Keys`` builds, by the attribute that builds them."""
    keys = Keys("w")
    found = {}
    for attribute, member in inspect.getmembers(Keys):
        if attribute.startswith("_") or attribute in ("prefix", "workshop"):
            continue
        value = getattr(keys, attribute) if isinstance(member, property) else getattr(keys, attribute)("ID")
        assert value.startswith(keys.prefix)
        found[attribute] = value.removeprefix(keys.prefix).removesuffix(":ID")
    return found


def keys_in_scripts() -> set[str]:
    return {key for path in EVERY_FILE for key in re.findall(r"\bkey\('([^']+)'", code_of(path))} | {
        "catalogue",
        "capabilities",
    }


@pytest.mark.parametrize("script", SCRIPTS, ids=name)
def test_the_header_says_what_a_script_does_with_which_keys_and_what_it_keeps_true(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    header = re.match(r"(?:--.*\n)+", text)
    assert header is not None
    lines = header[0].splitlines()
    assert re.fullmatch(r"-- [A-Z].{15,}", lines[0]), "the first line says what it does"
    for start in ("-- KEYS[1]  prefix of the workshop", "-- ARGV[1]", "-- Returns ", "-- Invariant: "):
        assert any(line.startswith(start) for line in lines), f"the header has no line {start!r}"


@pytest.mark.parametrize("script", SCRIPTS, ids=name)
def test_the_header_describes_every_argument_that_is_used(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    used = {int(number) for number in re.findall(r"ARGV\[(\d+)\]", code_of(script))}
    described = {
        int(number)
        for number in re.findall(r"^--.*?ARGV.*", text, re.MULTILINE)
        for number in re.findall(r"ARGV\[(\d+)", number)
    }
    assert used <= described
    assert described == set(range(1, max(described) + 1))


@pytest.mark.parametrize("path", EVERY_FILE, ids=name)
def test_a_script_uses_only_commands_of_redis_6_2_and_none_that_looks_at_everything(path: Path) -> None:
    code = code_of(path)
    commands = set(re.findall(r"redis\.p?call\('([A-Za-z]+)'", code))
    assert commands <= ALLOWED
    assert len(re.findall(r"redis\.p?call\('[A-Z]+'", code)) == code.count("redis."), "a command that is not spelt out"
    assert not re.search(r"\b(KEYS\s*\*|FLUSH\w*|SCAN|EVAL|setresp|redis\.pcall|replicate_commands)\b", code)
    for command, arguments in CALL.findall(code):
        options = set(TOO_NEW.findall(arguments))
        assert not options or command == "SET", f"{command} took {options} after 6.2"


def test_every_allowed_command_is_used() -> None:
    assert {found for path in EVERY_FILE for found in re.findall(r"redis\.call\('(\w+)'", code_of(path))} == ALLOWED


@pytest.mark.parametrize("path", EVERY_FILE, ids=name)
def test_a_script_builds_its_keys_in_the_one_way(path: Path) -> None:
    if path.name == "keys.lua":
        return
    code = code_of(path)
    assert "KEYS[" not in code
    assert "comfyume" not in code
    # A command's first argument is a key, and so a call of key(), or a local made by one.
    made = set(re.findall(r"local (\w+) = key\(", code))
    for command, arguments in CALL.findall(code):
        if command == "TIME":
            continue
        # Of these the number of keys comes first.
        behind = ", 2" if command in ("ZDIFF", "ZINTER") else ""
        first = arguments.removeprefix(behind).lstrip(", ").split(",")[0]
        assert first.startswith("key(") or first in made, f"{command} {first}"


def test_keys_are_called_the_same_in_python_and_in_the_scripts() -> None:
    python = set(keys_in_python().values())
    lua = keys_in_scripts()
    assert lua - python == SCRIPTS_ONLY - {"active", "history"}
    assert python - lua == PYTHON_ONLY
    assert keys_in_python()["events"] == keys_in_python()["events_channel"] == "events"


def test_no_other_module_builds_a_key_by_hand() -> None:
    for path in modules():
        assert "keys.prefix}" not in path.read_text(encoding="utf-8"), path


def modules() -> Iterator[Path]:
    for folder in ("job_queue", "server_routes", "worker_mode"):
        yield from (path for path in (ROOT / folder).glob("*.py") if path.name != "keys.py")


@pytest.mark.parametrize("script", SCRIPTS, ids=name)
def test_includes_are_put_in_once_and_all_are_there(script: Path) -> None:
    source = scripts.source(script.stem)
    assert not re.search(r"^-- @include", source, re.MULTILINE)
    assert source.count("local function key(") == 1


@pytest.mark.parametrize(
    "script",
    ["append_events", "cancel", "includes/claiming", "finish", "forget", "leave", "register_worker", "renew", "sweep"],
)
def test_a_script_that_a_full_store_must_not_stop_begins_with_a_write_that_needs_no_memory(script: str) -> None:
    body = code_of(FOLDER / f"{script}.lua")
    first = re.search(r"proceed_when_full\(\)|'(HSET|SADD|ZADD|RPUSH|SET|INCR|HINCRBY|ZREM|PEXPIRE)'", body)
    assert first is not None
    assert first[0] in ("proceed_when_full()", "'ZREM'", "'PEXPIRE'")


def test_a_submit_is_the_one_that_a_full_store_refuses() -> None:
    assert "proceed_when_full" not in code_of(FOLDER / "submit.lua")
