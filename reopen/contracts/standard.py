"""Owns the question whether a document follows the Open Data Contract Standard, and says in plain words where not.

The standard's JSON schema ships in the package ``open-data-contract-standard``. Its pydantic model is not used: it
drops misspelt keys of nested objects without a word, and a misspelt rule is a check that never runs.

Invariants
    I1  Each fault gives one problem. What the JSON schema reports twice (a broken part also makes its siblings
        "unevaluated") is told once.
    I2  An unknown key is named together with the nearest key that is known there.
    I3  Arguments of a library metric, which the schema leaves open, are held to those that the standard's text names.
    I4  A column without ``logicalType`` gives one problem. The schema's conditions are true for an absent key, so it
        would ask such a column to be a map, a vector and six other things at once.

Called by :mod:`reopen.contracts.load`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jsonschema import Draft201909Validator
from jsonschema.exceptions import ValidationError

from reopen.contracts.document import Document, Place
from reopen.contracts.problems import Problem, did_you_mean, shown
from reopen.errors import Internal

_METRIC_ARGUMENTS: Mapping[str, frozenset[str]] = {
    "nullValues": frozenset(),
    "missingValues": frozenset({"missingValues"}),
    "invalidValues": frozenset({"validValues", "pattern"}),
    "duplicateValues": frozenset({"properties"}),
    "rowCount": frozenset(),
}
"""The arguments that the standard's text gives to each library metric; its schema allows any."""

_OPERATORS = (
    "mustBe",
    "mustNotBe",
    "mustBeGreaterThan",
    "mustBeGreaterOrEqualTo",
    "mustBeLessThan",
    "mustBeLessOrEqualTo",
    "mustBeBetween",
    "mustNotBeBetween",
)

_HINT = "See the standard: https://bitol-io.github.io/open-data-contract-standard/"


def standard_problems(document: Document) -> list[Problem]:
    """Everything in which a document departs from the standard; empty when it follows it."""
    if problem := _version_problem(document):
        return [problem]
    untyped = _untyped_columns(document)
    errors = [
        leaf
        for error in _validator().iter_errors(document.data)
        for leaf in _leaves(error)
        if not any(_hidden_by(column, leaf) for column in untyped)
    ]
    problems = [
        document.problem(
            column, "The key 'logicalType' is missing.", "Add it, for example 'logicalType: string'; ODCS needs one."
        )
        for column in untyped
    ]
    problems += [_problem(document, error) for error in errors if not _is_unknown_key(error)]
    # A broken part makes jsonschema call its healthy siblings unevaluated (I1); only keys that are really unknown stay.
    bad_types = {tuple(error.absolute_path)[:-1] for error in errors if error.validator == "enum"}
    for error in errors:
        place = tuple(error.absolute_path)
        # Which keys a server may have depends on its type: when that is wrong, nothing can be said about the keys.
        if _is_unknown_key(error) and not (place in bad_types and place[:1] == ("servers",)):
            problems += _unknown_keys(document, error, bool(problems))
    return list(dict.fromkeys([*problems, *_unread_arguments(document)]))


def supported_versions() -> tuple[str, ...]:
    """The versions of the standard that can be read, newest first."""
    return tuple(version for version in _schema()["properties"]["apiVersion"]["enum"] if version.startswith("v3."))


@cache
def _schema() -> dict[str, Any]:
    # Found without importing the package: its __init__ builds the pydantic model that is not wanted here.
    spec = find_spec("open_data_contract_standard")
    if spec is None or not spec.submodule_search_locations:
        raise Internal("The package open-data-contract-standard is not installed.", hint="Install Reopen again.")
    folder = Path(spec.submodule_search_locations[0])
    schema: dict[str, Any] = json.loads((folder / "schema.json").read_text(encoding="utf-8"))
    return schema


@cache
def _validator() -> Draft201909Validator:
    return Draft201909Validator(_schema())


def _version_problem(document: Document) -> Problem | None:
    version = document.data.get("apiVersion")
    if version in supported_versions():
        return None
    allowed = ", ".join(supported_versions())
    if version is None:
        message = "The version of the standard is missing."
    else:
        message = f"{shown(version)} is not a supported version of the Open Data Contract Standard; allowed: {allowed}."
    return document.problem(("apiVersion",), message, f"Write 'apiVersion: {supported_versions()[0]}'.", value=version)


def _leaves(error: ValidationError) -> Iterator[ValidationError]:
    """The errors that people can act on: of alternatives, those of the branch that fits best."""
    if error.validator not in ("oneOf", "anyOf") or not error.context or _one_operator(error):
        yield error
        return
    branches: dict[int, list[ValidationError]] = {}
    for inner in error.context:
        branches.setdefault(int(inner.schema_path[0]), []).append(inner)
    # A branch of the wrong type altogether explains nothing; then the one with the deepest fault came closest.
    fitting = [b for b in branches.values() if not any(e.validator == "type" and not e.path for e in b)]
    if not fitting:
        yield error
        return
    for inner in max(fitting, key=lambda branch: (max(len(e.path) for e in branch), -len(branch))):
        yield from _leaves(inner)


def _one_operator(error: ValidationError) -> bool:
    """True for the standard's list of comparison operators, of which a rule needs exactly one."""
    alternatives: Any = error.validator_value
    return error.validator == "oneOf" and bool(alternatives[0].get("required") == ["mustBe"])


def _untyped_columns(document: Document) -> list[Place]:
    """Places of columns, nested ones and array items included, that state no logical type (I4)."""
    return [
        place
        for place, node in _objects(document.data.get("schema"), ("schema",))
        if len(place) > 2 and (place[-2] == "properties" or place[-1] == "items") and "logicalType" not in node
    ]


def _hidden_by(column: Place, error: ValidationError) -> bool:
    """True when an error is, or could be, only a consequence of a column's missing logical type."""
    place = tuple(error.absolute_path)
    return place[: len(column)] == column and not (place == column and _is_unknown_key(error))


def _problem(document: Document, error: ValidationError) -> Problem:
    place: Place = tuple(error.absolute_path)
    instance: Any = error.instance
    rule: Any = error.validator_value
    match error.validator:
        case "required":
            # One error for each missing key; which key it is about stands only in its message.
            missing = next(key for key in rule if error.message.startswith(repr(key)))
            return document.problem(place, f"The key {missing!r} is missing.", f"Add {missing!r}. {_HINT}")
        case "enum":
            allowed = [str(item) for item in rule]
            hint = f"{did_you_mean(str(error.instance), allowed)}Use an allowed value."
            message = f"{shown(error.instance)} is not allowed here; allowed: {', '.join(allowed)}."
            return document.problem(place, message, hint, value=error.instance)
        case "type":
            message = f"{shown(error.instance)} has the wrong type; allowed: {rule}."
            return document.problem(place, message, f"Write a value of type {rule}.", value=error.instance)
        case "pattern":
            message = f"{shown(error.instance)} does not match the pattern {rule}."
            return document.problem(place, message, _HINT, value=error.instance)
        case "oneOf" | "anyOf" if error.context and all(inner.validator == "type" for inner in error.context):
            types = ", ".join(str(inner.validator_value) for inner in error.context)
            message = f"{shown(error.instance)} has the wrong type; allowed: {types}."
            return document.problem(place, message, f"Write one value: {types}.", value=error.instance)
        case "oneOf" if _one_operator(error):
            found = [operator for operator in _OPERATORS if operator in instance]
            detail = f"has {len(found)} operators ({', '.join(found)})" if found else "has no operator"
            message = f"A quality rule {detail}; it needs exactly one of: {', '.join(_OPERATORS)}."
            return document.problem(place, message, "Split it into one rule for each operator, or add one.")
        case _:
            message = f"The standard does not allow this: {' '.join(error.message.split())[:200]}."
            return document.problem(place, message, _HINT, value=error.instance)


def _is_unknown_key(error: ValidationError) -> bool:
    return error.validator in ("unevaluatedProperties", "additionalProperties")


def _unknown_keys(document: Document, error: ValidationError, others: bool) -> Iterator[Problem]:
    """One problem for each key that is unknown at a place (I2)."""
    place: Place = tuple(error.absolute_path)
    instance: Any = error.instance
    schema: Any = error.schema
    known = _known_keys(schema, instance)
    unknown = [key for key in instance if key not in known]
    if not unknown and not others:
        message = f"The standard does not allow this: {' '.join(error.message.split())[:200]}."
        yield document.problem(place, message, _HINT)
    for key in unknown:
        message = f"The key {key!r} is unknown here; allowed: {', '.join(sorted(known))}."
        hint = f"{did_you_mean(key, known)}Misspelt keys would be dropped without a word."
        yield document.problem((*place, key), message, hint, value=key)


def _known_keys(schema: Mapping[str, Any], instance: object) -> set[str]:
    """The keys that a schema names for this very object, through references, alternatives and conditions."""
    known = set(schema.get("properties", ()))
    reference = schema.get("$ref")
    if isinstance(reference, str):
        target: Any = _schema()
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
        known |= _known_keys(target, instance)
    for keyword in ("allOf", "anyOf", "oneOf"):
        for part in schema.get(keyword, ()):
            known |= _known_keys(part, instance)
    if "if" in schema:
        fits = _validator().evolve(schema=schema["if"]).is_valid(instance)
        known |= _known_keys(schema.get("then" if fits else "else", {}), instance)
    return known


def _unread_arguments(document: Document) -> Iterator[Problem]:
    """Arguments of library metrics that the schema lets through and nobody would read (I3)."""
    for place, node in _objects(document.data.get("schema"), ("schema",)):
        arguments = node.get("arguments")
        allowed = _METRIC_ARGUMENTS.get(str(node.get("metric")))
        if allowed is None or not isinstance(arguments, dict):
            continue
        for key in sorted(set(arguments) - allowed):
            names = ", ".join(sorted(allowed)) or "none"
            message = f"The metric {node['metric']!r} has no argument {key!r}; allowed: {names}."
            hint = f"{did_you_mean(key, allowed)}The rule would not check what it seems to."
            yield document.problem((*place, "arguments", key), message, hint, value=key)


def _objects(node: object, place: Place) -> Iterator[tuple[Place, dict[str, Any]]]:
    if isinstance(node, dict):
        yield place, node
        for key, value in node.items():
            yield from _objects(value, (*place, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _objects(value, (*place, index))
