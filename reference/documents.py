"""The page of JSON documents, and the schemas that it is made from: ``docs/reference/schemas``, one for each command.

A schema says what a document *has*, so it allows more: members may come in any version, and whoever reads one passes over
what it does not know. A member that goes, or that means something else, gives the document a new number in its name. The
tests hold every document that they see to its schema, and there a member that no schema names is a fault
(:func:`closed`).

The files are JSON Schema (2020-12) and grow by :func:`learn` from what commands print, with ``LEARN_SCHEMAS=1`` when the
tests of the command line run. A person gives each new member its meaning in :data:`MEANINGS`, by its name where that
means the same in every document, else by its place (:func:`key_of`), and reads the difference.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from reference import FOLDER
from reference.markdown import cell, code, table
from reopen.cli.face import SCHEMA_VERSION

SCHEMAS = FOLDER / "schemas"
MEANINGS = Path(__file__).parent / "members.json"
LEARNS = bool(os.environ.get("LEARN_SCHEMAS"))
DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]

HEAD = """\
# JSON documents

With `--json` a command prints one document on standard output and nothing else there. Its first member, `schema`, names the
command and the version of the document. Members may come in any version of Reopen, so pass over what you do not know; a
member goes, or means something else, only under a new number. Instants are RFC 3339 in UTC, durations are seconds, sizes
are bytes, digests and ids are hexadecimal.

An error is `{"schema": "reopen.error/1", "error": {"kind", "message", "hint", "context"}}`, with the
[exit code](exit-codes.md) of its kind. `reopen sql` prints the bare array of rows of its query.

The schemas are [JSON Schema](https://json-schema.org) files in `docs/reference/schemas`, and the tests of the command line
hold every document that they see to them. Below, `[]` is an item of a list and `*` any name.
"""


def path_of(command: str) -> Path:
    """The file of a command's schema."""
    return SCHEMAS / f"{command.replace(' ', '-')}.json"


@cache
def _read(path: Path) -> Schema:
    schema: Schema = json.loads(path.read_text(encoding="utf-8"))
    return schema


def schema_of(command: str) -> Schema | None:
    """A command's schema; None when there is none."""
    path = path_of(command)
    return _read(path) if path.exists() else None


def closed(schema: Any) -> Any:
    """A schema that allows no member it does not name, for our own tests."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    if "properties" in schema and isinstance(schema["properties"], dict) and "type" in schema:
        made.setdefault("additionalProperties", False)
    return made


def faults(command: str, document: Any) -> list[str]:
    """In what a document departs from the schema of its command, unknown members included; while :data:`LEARNS` nothing
    is a fault, and the schema learns it."""
    if LEARNS:
        learn(command, document)
        return []
    validator = _validator(command)
    if validator is None:
        return [f"reopen {command} --json has no schema in {SCHEMAS}."]
    return [
        f"reopen {command} --json: {error.json_path}: {error.message[:200]} "
        "(a new member? LEARN_SCHEMAS=1 with the same tests, then python -m reference)"
        for error in validator.iter_errors(document)
    ]


@cache
def _validator(command: str) -> Draft202012Validator | None:
    schema = schema_of(command)
    return None if schema is None else Draft202012Validator(closed(schema))


def learn(command: str, value: Any) -> bool:
    """Let a command's schema allow a document too; whether its file changed. Processes may learn at once."""
    path = path_of(command)
    title = f"reopen.{command.replace(' ', '-')}/{SCHEMA_VERSION}"
    with MEANINGS.open(encoding="utf-8") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        before: Schema = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        schema = {"$schema": DIALECT, "title": title, **_joined(before, value)}
        schema["properties"]["schema"] |= {"const": title}
        if schema != before:
            path.write_text(json.dumps(schema, indent=1) + "\n", encoding="utf-8")
            _read.cache_clear()
    return schema != before


def _joined(schema: Schema, value: Any) -> Schema:
    """A schema that allows a value as well."""
    kinds = {schema["type"]} if isinstance(schema.get("type"), str) else set(schema.get("type", ()))
    was_object = "object" in kinds
    kinds.add(_KINDS[type(value)])
    if "number" in kinds:
        kinds.discard("integer")
    made = {**schema, "type": next(iter(kinds)) if len(kinds) == 1 else sorted(kinds)}
    if isinstance(value, list):
        items = made.get("items", {})
        for item in value:
            items = _joined(items, item)
        made["items"] = items
    elif isinstance(value, dict) and schema.get("additionalProperties") is True:
        pass
    elif isinstance(value, dict) and "additionalProperties" in schema:
        for item in value.values():
            made["additionalProperties"] = _joined(made["additionalProperties"], item)
    elif isinstance(value, dict):
        known = dict(made.get("properties", {}))
        for name, item in value.items():
            known[name] = _joined(known.get(name, {}), item)
        needed = [name for name in made.get("required", ()) if name in value] if was_object else list(value)
        made |= {"properties": known, "required": needed}
    return made


_KINDS = {
    dict: "object",
    list: "array",
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    type(None): "null",
}


def members(schema: Schema, path: str = "") -> Iterator[tuple[str, str, Schema]]:
    """Every member of a document: where it is, its name, and its schema; names that are data are ``*``."""
    for name, inner in schema.get("properties", {}).items():
        yield f"{path}{name}", name, inner
        yield from members(inner, f"{path}{name}.")
    if isinstance(schema.get("items"), dict):
        yield from members(schema["items"], f"{path.removesuffix('.')}[]." if path else "[].")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from members(schema["additionalProperties"], f"{path}*.")


@cache
def _meanings() -> Mapping[str, str]:
    found: Mapping[str, str] = json.loads(MEANINGS.read_text(encoding="utf-8"))
    return found


def key_of(command: str, place: str, name: str) -> str:
    """Where :data:`MEANINGS` says what a member means: for the command and the place (``ls:entries``), else for the
    longest end of the place that is there (``loss.rows``), else for the name wherever it stands."""
    parts = place.split(".")
    ends = (".".join(parts[at:]) for at in range(len(parts) - 1))
    return next((key for key in (f"{command}:{place}", *ends) if key in _meanings()), name)


def describe() -> list[str]:
    """Write the meaning of each member into its schema; returns the members that have none."""
    silent = []
    for path in sorted(SCHEMAS.glob("*.json")):
        schema = json.loads(path.read_text(encoding="utf-8"))
        for place, name, inner in members(schema):
            meaning = _meanings().get(key_of(path.stem, place, name))
            if meaning is None:
                silent.append(f"{path.stem}:{place}")
            else:
                inner["description"] = meaning
        text = json.dumps(schema, indent=1) + "\n"
        if text != path.read_text(encoding="utf-8"):
            path.write_text(text, encoding="utf-8")
    _read.cache_clear()
    return silent


def page() -> str:
    """The page, as Markdown."""
    parts = [HEAD]
    for path in sorted(SCHEMAS.glob("*.json")):
        schema = _read(path)
        command = schema["title"].removeprefix("reopen.").partition("/")[0]
        rows = [(code(place), _type(inner), cell(inner.get("description", ""))) for place, _, inner in members(schema)]
        parts.append(
            f"## {command}\n\n`{schema['title']}`, [schema](schemas/{path.name})\n\n"
            f"{table(('member', 'type', 'meaning'), rows)}\n"
        )
    return "\n".join(parts)


def _type(schema: Schema) -> str:
    kinds = schema.get("type", "any")
    named = [kinds] if isinstance(kinds, str) else kinds
    words = {"array": "list", "string": "text", "integer": "whole number", "boolean": "true or false"}
    return " or ".join(words.get(kind, kind) for kind in sorted(named, key="null".__eq__))
