"""What the page consists of fits together: its modules by their types, its languages by their sentences."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from comfyume.commands.source_tree import ROOT

LOCALES = ROOT / "locales"
FILES = sorted({path.name for path in LOCALES.glob("*/*.json")})
TYPESCRIPT = ["npx", "--yes", "--prefer-offline", "-p", "typescript@5.9", "tsc", "--noEmit", "-p", "web/jsconfig.json"]
#: What npm says when it cannot get TypeScript.
NO_REGISTRY = re.compile(r"npm (?:error|ERR!) (?:code )?(?:ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENOTCACHED)")


@pytest.mark.timeout(300)
def test_the_types_of_the_modules_fit() -> None:
    if shutil.which("npx") is None:
        pytest.skip("no npx: install Node.js to have the types of the page's modules checked")
    checked = subprocess.run(TYPESCRIPT, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    if NO_REGISTRY.search(checked.stderr):
        pytest.skip("npm cannot be reached to fetch TypeScript, which checks the types of the page's modules")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def words_of(language: str, file: str) -> dict[str, str]:
    words: dict[str, str] = json.loads((LOCALES / language / file).read_text(encoding="utf-8"))
    return words


def values_in(text: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", text))


@pytest.mark.parametrize("file", FILES)
def test_every_language_has_the_same_sentences_with_the_same_values(file: str) -> None:
    english = words_of("en", file)
    for language in sorted(path.parent.name for path in LOCALES.glob(f"*/{file}")):
        words = words_of(language, file)
        assert words.keys() == english.keys(), language
        for key, text in words.items():
            # A language may count "one" without its number.
            assert values_in(text) - {"count"} == values_in(english[key]) - {"count"}, (language, key)


def test_every_sentence_is_used_and_none_is_missing() -> None:
    scripts = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "web" / "js").rglob("*.mjs")))
    english = {re.sub(r"\.(?:one|other)$", "", key) for key in words_of("en", "page.json")}
    named = set(re.findall(r'"((?:dialog|session|jobs?|models|file|toast|banner)\.[a-z_.]+)"', scripts))
    assert named <= english
    # Keys that are put together: `job.state.${state}`.
    begun = tuple(re.findall(r"`([a-z]+\.[a-z_.]*)\$\{", scripts))
    assert not [key for key in english - named if not key.startswith(begun)]
