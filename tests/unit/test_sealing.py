"""API keys on their way through the store."""

from __future__ import annotations

import pytest

from comfyume.job_queue.errors import SecretsUnreadable
from comfyume.job_queue.sealing import Sealer

SECRETS = {"api_key_comfy_org": "comfyui-0123456789", "auth_token_comfy_org": "\u00fcber\0"}


def sealer(words: str = "words", workshop: str = "film") -> Sealer:
    return Sealer(lambda: words, workshop)


def test_what_is_sealed_is_opened_by_another_process_with_the_same_words():
    sealed = sealer().seal("job", SECRETS)
    assert sealer().open("job", sealed) == SECRETS
    assert b"0123456789" not in sealed


def test_the_same_submit_again_is_the_same():
    assert sealer().seal("job", SECRETS) == sealer().seal("job", SECRETS)


@pytest.mark.parametrize(
    ("other", "job_id"), [(sealer("other"), "job"), (sealer(workshop="other"), "job"), (sealer(), "another job")]
)
def test_nothing_else_opens_it(other, job_id):
    with pytest.raises(SecretsUnreadable, match="Set COMFYUME_SECRET"):
        other.open(job_id, sealer().seal("job", SECRETS))


def test_what_was_changed_is_not_opened():
    sealed = bytearray(sealer().seal("job", SECRETS))
    sealed[-1] ^= 1
    with pytest.raises(SecretsUnreadable):
        sealer().open("job", bytes(sealed))


def test_a_prompt_without_keys_needs_no_words():
    def words() -> str:
        raise AssertionError("nobody needs them")

    unused = Sealer(words, "film")
    assert unused.seal("job", {}) == b""
    assert unused.open("job", b"") == {}
