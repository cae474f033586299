"""The reference in docs says what the code says, today."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from reference import FOLDER, commands, documents, pages, settings

SCHEMAS = sorted(documents.SCHEMAS.glob("*.json"))
AGAIN = "run `python -m reference` and commit what it writes"


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    """All pages, made anew."""
    return dict(pages())


def test_every_page_is_what_the_code_says(made: dict[str, str]) -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")}
    assert sorted(committed) == sorted(made)
    stale = [name for name, text in made.items() if committed[name] != text]
    assert stale == [], AGAIN


def test_every_command_has_a_schema_and_every_schema_a_command() -> None:
    names = {documents.path_of(" ".join(path)).name for path, _ in commands.walk()}
    assert names == {path.name for path in SCHEMAS}, "LEARN_SCHEMAS=1 with tests that run it, then python -m reference"


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.stem)
def test_a_schema_is_one_and_says_what_each_member_means(path: Path) -> None:
    schema = json.loads(path.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    assert schema["properties"]["schema"]["const"] == schema["title"]
    for place, _, inner in documents.members(schema):
        assert inner.get("description"), f"{place} {AGAIN}, with its meaning in reference/members.json"
        assert inner["type"] != "null", f"{place} is more than null, or it would not be there"


def test_a_name_that_is_not_always_the_same_kind_of_value_has_a_meaning_for_each() -> None:
    """A number and a list under one name are two things; null is none of either."""
    kinds: dict[str, dict[str, list[str]]] = {}
    for path in SCHEMAS:
        for place, name, inner in documents.members(json.loads(path.read_text(encoding="utf-8"))):
            types = {inner["type"]} if isinstance(inner["type"], str) else set(inner["type"])
            kind = " or ".join(sorted({"number" if one == "integer" else one for one in types} - {"null"}))
            key = documents.key_of(path.stem, place, name)
            kinds.setdefault(key, {}).setdefault(kind, []).append(f"{path.stem}:{place}")
    assert {key: found for key, found in kinds.items() if len(found) > 1} == {}


def test_no_meaning_is_left_of_a_member_that_is_gone() -> None:
    used = {
        documents.key_of(path.stem, place, name)
        for path in SCHEMAS
        for place, name, _ in documents.members(json.loads(path.read_text(encoding="utf-8")))
    }
    assert set(documents._meanings()) == used


def test_every_setting_says_what_it_means() -> None:
    assert settings.undocumented() == []


@pytest.fixture
def schemas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of schemas to learn in."""
    monkeypatch.setattr(documents, "SCHEMAS", tmp_path)
    documents._read.cache_clear()
    documents._validator.cache_clear()
    return tmp_path


def test_a_schema_grows_by_what_it_sees_and_refuses_what_it_did_not(schemas: Path) -> None:
    first: dict[str, Any] = {"schema": "reopen.x/1", "ok": True, "items": [{"name": "a", "bytes": 1}]}
    second: dict[str, Any] = {"schema": "reopen.x/1", "ok": False, "items": [{"name": None, "bytes": 1.5}], "why": "so"}
    assert documents.learn("x", first)
    assert not documents.learn("x", first)
    assert documents.faults("x", first) == []
    assert len(documents.faults("x", second)) == 3
    assert documents.learn("x", second)
    documents._validator.cache_clear()
    assert documents.faults("x", first) == documents.faults("x", second) == []
    [missing] = documents.faults("x", {"schema": "reopen.x/1", "items": []})
    assert "'ok' is a required property" in missing
    assert documents.faults("y", first) == [f"reopen y --json has no schema in {schemas}."]


def test_names_that_are_data_are_not_learnt_as_members(schemas: Path) -> None:
    documents.path_of("x").write_text('{"properties": {"sites": {"type": "object", "additionalProperties": {}}}}')
    documents.learn("x", {"schema": "reopen.x/1", "sites": {"production": 1}})
    documents.learn("x", {"schema": "reopen.x/1", "sites": {"standby": 2}})
    assert documents.faults("x", {"schema": "reopen.x/1", "sites": {"moon": 3}}) == []
    assert [place for place, _, _ in documents.members(documents.schema_of("x") or {})] == ["sites", "schema"]


@pytest.fixture(autouse=True)
def read_anew() -> Any:
    """What a test read of schemas of its own is forgotten."""
    yield
    documents._read.cache_clear()
    documents._validator.cache_clear()
