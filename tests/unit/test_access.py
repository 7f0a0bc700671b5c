"""The table of routes: whom it lets where, and that nobody goes where it says nothing."""

from __future__ import annotations

import pytest

from comfyume.server_routes.access import Rule, Who, who_may

PARTICIPANT, INSTRUCTOR, ANYBODY = Who.PARTICIPANT, Who.INSTRUCTOR, Who.ANYBODY


@pytest.mark.parametrize(
    ("method", "path", "who"),
    [
        ("GET", "/", PARTICIPANT),
        ("HEAD", "/", PARTICIPANT),
        ("POST", "/prompt", PARTICIPANT),
        ("POST", "/api/prompt", PARTICIPANT),
        ("DELETE", "/api/userdata/workflows/a.json", PARTICIPANT),
        ("POST", "/free", INSTRUCTOR),
        ("POST", "/api/free", INSTRUCTOR),
        ("GET", "/internal/logs", INSTRUCTOR),
        ("GET", "/api/internal/logs/raw", INSTRUCTOR),
        ("GET", "/internal/files/output", PARTICIPANT),
        ("POST", "/customnode/install/git_url", INSTRUCTOR),
        ("GET", "/api/v2/manager/queue/status", INSTRUCTOR),
        ("GET", "/comfyume/health", ANYBODY),
        ("PUT", "/comfyume/worker/files/some-job", ANYBODY),
        ("GET", "/free", None),
        ("DELETE", "/prompt", None),
        ("OPTIONS", "/prompt", None),
        ("GET", "/internal/other", None),
        ("GET", "/some/pack", None),
        ("GET", "/api/api/prompt", None),
        ("GET", "/comfyume/sign-in/../../internal/logs", None),
        ("GET", "/apiprompt", None),
        ("GET", "/assets/index.js", PARTICIPANT),
        ("GET", "/api/assets", None),
        ("GET", "/api/assets/hash/some", None),
        ("GET", "/api/some.js", None),
    ],
)
def test_whom_a_route_answers(method: str, path: str, who: Who | None) -> None:
    assert who_may(method, path) is who


def test_further_rules_classify_routes_of_packs_and_loosen_none_of_ours() -> None:
    rules = [Rule.parse("participant GET,POST /pack/route/.*"), Rule.parse("anybody POST /free")]
    assert who_may("POST", "/api/pack/route/x", rules) is PARTICIPANT
    assert who_may("DELETE", "/pack/route/x", rules) is None
    assert who_may("POST", "/free", rules) is INSTRUCTOR


@pytest.mark.parametrize("text", ["", "GET /x", "everybody GET /x", "participant GET /x /y", "participant GET /("])
def test_what_is_no_rule_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="is no rule"):
        Rule.parse(text)
