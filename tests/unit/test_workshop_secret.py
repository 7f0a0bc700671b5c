"""Where the words come from that encrypt API keys."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from comfyume import workshop_secret
from comfyume.job_queue.errors import SecretsUnreadable
from comfyume.settings import Settings


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def find(**values: object) -> str:
    return workshop_secret.find(Settings.model_validate(values))


def test_the_setting_comes_first():
    assert find(secret="correct horse", redis_url="redis://:pass@127.0.0.1") == "correct horse"


def test_the_password_of_the_store_serves_all_who_know_it():
    assert find(redis_url="redis://ada:p%40ss@10.0.0.1:6379/0") == "p@ss"


def test_a_machine_has_words_of_its_own_that_others_cannot_read(home):
    words = find(redis_url="unix:///run/redis.sock")
    assert len(words) >= 43
    assert words == find() == (home / workshop_secret.FILE).read_text()
    assert (home / workshop_secret.FILE).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (home / workshop_secret.FILE).parent.iterdir()] == ["secret"]


def test_processes_that_begin_at_once_have_the_same_words():
    with ThreadPoolExecutor(16) as threads:
        assert len(set(threads.map(lambda _: find(), range(64)))) == 1


def test_a_machine_that_keeps_nothing_is_told_what_to_set(home):
    (home / ".config").write_text("no folder")
    with pytest.raises(SecretsUnreadable, match="Set COMFYUME_SECRET"):
        find()
