"""docs/openapi.yaml is a valid description, and says of whom each route answers what the table of routes says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from comfyume.commands.source_tree import ROOT
from comfyume.server_routes.access import Who, who_may
from comfyume.server_routes.prompt_limits import MOST_BYTES_OF_IDS, MOST_IDS

DESCRIPTION = ROOT / "docs" / "openapi.yaml"
WORKERS = "/comfyume/worker/"
METHODS = ("get", "put", "post", "delete", "patch")


def read() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    return dict(yaml.safe_load(DESCRIPTION.read_text(encoding="utf-8")))


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of each operation."""
    return [
        (method.upper(), path, item[method])
        for path, item in read()["paths"].items()
        for method in METHODS
        if method in item
    ]


def who_is_answered(method: str, path: str) -> Who | None:
    """Whom the table of routes lets in, with something in place of what is in braces."""
    return who_may(method, re.sub(r"\{[^}]*\}", "something", path))


def test_it_is_a_valid_description() -> None:
    schemathesis = pytest.importorskip("schemathesis")
    description = schemathesis.openapi.from_path(DESCRIPTION)
    description.validate()
    found = [operation.ok() for operation in description.get_all_operations()]
    assert len(found) == len(operations()) > 10


def references(value: Any) -> Iterator[str]:
    """Every place in the description that something in it points to."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    for item in value if isinstance(value, list) else []:
        yield from references(item)


def test_it_points_to_what_is_there_and_has_nothing_to_spare() -> None:
    description = read()
    there = {f"#/components/{kind}/{name}" for kind, named in description["components"].items() for name in named}
    there = {place for place in there if "/securitySchemes/" not in place}
    assert set(references(description)) == there


def test_it_describes_routes_of_ours_alone() -> None:
    assert [path for path in read()["paths"] if not path.startswith("/comfyume/")] == []


def test_every_route_is_answered_to_whom_it_says() -> None:
    usual = read()["security"]
    for method, path, operation in operations():
        who = who_is_answered(method, path)
        assert who is not None, f"{method} {path}: server_routes/access.py lets nobody in"
        given = operation.get("security", usual)
        wanted = {Who.ANYBODY: [{"claim": []}] if path.startswith(WORKERS) else []}.get(who, usual)
        assert given == wanted, f"{method} {path}"
        assert ("For the instructor." in operation["summary"]) == (who is Who.INSTRUCTOR), f"{method} {path}"


def test_every_route_says_how_it_refuses() -> None:
    for method, path, operation in operations():
        if path.startswith(WORKERS):
            wanted = {"403", "503"}
        elif who_is_answered(method, path) is Who.ANYBODY:
            wanted = {"403", "429"}
        else:
            wanted = {"401", "403", "429", "503"} | ({"302"} if method == "GET" else set())
        assert wanted <= set(operation["responses"]), f"{method} {path}"


def test_bodies_that_name_jobs_have_the_bounds_that_the_code_has() -> None:
    description = read()
    assert description["components"]["schemas"]["NamedJobs"]["maxItems"] == MOST_IDS
    for path, method in (("/comfyume/jobs", "patch"), ("/comfyume/jobs/cancel", "post")):
        said = description["paths"][path][method]["requestBody"]["description"]
        assert said.startswith(f"At most {MOST_BYTES_OF_IDS // 1024} KiB")


def test_every_route_has_a_name_of_its_own_and_a_known_tag() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names)
    tags = {tag["name"] for tag in read()["tags"]}
    assert {tag for _, _, operation in operations() for tag in operation["tags"]} == tags
