"""The page of settings, from the models that read ``reopen.toml`` and what their values say of themselves."""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Iterator, Mapping
from datetime import timedelta
from enum import Enum
from functools import cache
from itertools import pairwise
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from reference.markdown import cell, code, table
from reopen import durations
from reopen.config import initial, model, text

HEAD = """\
# Settings

`reopen.toml` says where the sites and vaults are, and what tiers promise. `reopen init` writes one with every key explained.
It is looked for where `--config` says, then where `REOPEN_CONFIG` says, then in the current folder. Relative paths count
from the folder of the file. A key that is unknown or wrong stops every command, with all faults named at once.

Each key can be set by the environment instead: `REOPEN_SITE`, `REOPEN_HOME`, `REOPEN_CONTRACTS` and `REOPEN_KEYS` for
`[reopen]`, and two underscores for what lies deeper, as in `REOPEN_SITES__STANDBY__VAULT` or `REOPEN_WATCH__EVERY`.
Credentials of stores are no settings: the stores' own variables (`AWS_ACCESS_KEY_ID` and so on) give them.

A duration is a number and a unit, as `15m` or `24h`; a rate is an amount a second, as `50MiB/s`.
"""
HOOKS = """\
Commands of a site that a recovery calls, each in a table of its own: `[sites.NAME.hooks.fence]`. What they do to fence and
to publish is in [0011](../0011-failover-and-failback.md)."""
_NAMES: Mapping[type[BaseModel], str] = {text.TierText: "TierDefaults"}


def page() -> str:
    """The page, as Markdown."""
    parts = [HEAD]
    for title, of in _tables():
        if of is text.HooksText:
            hooks = table(
                ("hook", "what it does"), ((code(name), cell(_meaning(of, name))) for name in of.model_fields)
            )
            parts.append(f"## `[{title}]`\n\n{HOOKS}\n\n{hooks}\n")
            continue
        rows = [
            (code(name), cell(_kind(field.annotation, field.metadata)), cell(_default(field)), cell(_meaning(of, name)))
            for name, field in of.model_fields.items()
            if not _is_table(field.annotation)
        ]
        if rows:
            parts.append(f"## `[{title}]`\n\n{table(('key', 'takes', 'default', 'meaning'), rows)}\n")
    parts.append(f"## What `reopen init` writes\n\n```toml\n{initial.default_settings_text()}```\n")
    return "\n".join(parts)


def undocumented() -> list[str]:
    """Keys that say nothing of themselves."""
    return [
        f"[{title}] {name}"
        for title, of in _tables()
        for name, field in of.model_fields.items()
        if not _is_table(field.annotation) and not _meaning(of, name)
    ]


def _tables() -> Iterator[tuple[str, type[BaseModel]]]:
    yield "reopen", text.SettingsText
    for name, field in text.SettingsText.model_fields.items():
        if _is_table(field.annotation):
            yield from _below(name, field.annotation)


def _below(title: str, annotation: Any) -> Iterator[tuple[str, type[BaseModel]]]:
    inner = _models(annotation)[0]
    if get_origin(annotation) is dict:
        title += ".NUMBER" if title == "tiers" else ".NAME"
    yield title, inner
    if inner is text.HooksText:
        # One table has the keys of all of them: those of a fence are the others' and one more.
        yield f"{title}.HOOK", text.FenceHookText
        return
    for name, field in inner.model_fields.items():
        if _is_table(field.annotation):
            yield from _below(f"{title}.{name}", field.annotation)


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models of a key that is a table, or a table of tables."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is dict:
        return _models(get_args(annotation)[1])
    if get_origin(annotation) in (Union, types.UnionType):
        found = [item for item in get_args(annotation) if item is not type(None)]
        return _models(found[0]) if len(found) == 1 else []
    return []


def _is_table(annotation: Any) -> bool:
    return bool(_models(annotation))


def _meaning(of: type[BaseModel], name: str) -> str:
    """What a key means: beside it where it is read, else beside the value that it becomes."""
    if of is text.RetentionText:
        return _retention(name)
    said = _said(text).get(of.__name__, {})
    values = _said(model)
    for base in of.__mro__:
        if base.__module__ == text.__name__:
            owner = _NAMES.get(base, base.__name__.removesuffix("Text"))
            found = _said(text).get(base.__name__, said).get(name) or values.get(owner, {}).get(name)
            if found:
                return found
    return ""


def _retention(name: str) -> str:
    if name == "last":
        return "The newest so many."
    if name == "within":
        return "All that are not older."
    period = name.removeprefix("within_").removesuffix("ly")
    one = {"dai": "a day", "hour": "an hour"}.get(period, f"a {period}")
    return f"One {one}, of those not older." if name.startswith("within_") else f"One {one}, so many times."


@cache
def _said(module: types.ModuleType) -> dict[str, dict[str, str]]:
    """The docstrings below the attributes of a module's classes, by class and attribute."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(module)).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for item, after in pairwise(node.body):
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and isinstance(after, ast.Expr):
                found.setdefault(node.name, {})[item.target.id] = str(ast.literal_eval(after.value))
    return found


def _kind(annotation: Any, metadata: list[Any]) -> str:
    """What values a key takes, in words."""
    checks = {getattr(getattr(item, "func", None), "__name__", "") for item in metadata}
    if "_told" in checks:
        return 'a list of URLs, `{ only = [URLs] }` or `"off"`'
    if "_count" in checks:
        return "a count from 1, or -1 for all"
    origin = get_origin(annotation)
    if origin is Literal:
        return ", ".join(f'`"{value}"`' for value in get_args(annotation))
    if origin in (Union, types.UnionType):
        return " or ".join(_annotated(item) for item in get_args(annotation) if item is not type(None))
    if origin is list:
        return "a list of texts"
    if origin is dict:
        return f"a table: {_annotated(get_args(annotation)[1])}"
    if inspect.isclass(annotation) and issubclass(annotation, Enum):
        return ", ".join(f'`"{item.value}"`' for item in annotation)
    least = next((str(item.ge) for item in metadata if getattr(item, "ge", None) is not None), None)
    if annotation is int and least is not None:
        return f"a whole number from {least}"
    pattern = next((item.pattern for item in metadata if getattr(item, "pattern", None)), "") or ""
    if annotation is str and "B/s" in pattern:
        return "a rate, or empty"
    if annotation is str and "MB" in pattern.replace("[KMGT]B", "MB"):
        return "an amount of memory"
    names = {timedelta: "a duration", bool: "`true` or `false`", int: "a whole number", float: "a number", str: "text"}
    return names.get(annotation, "text")


def _annotated(annotation: Any) -> str:
    if hasattr(annotation, "__metadata__"):
        inner, *metadata = get_args(annotation)
        return _kind(inner, metadata)
    return _kind(annotation, [])


def _default(field: Any) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "needed" if field.is_required() else "none"
    if value is None or value == "" or value == {} or value == []:
        return "none"
    if isinstance(value, timedelta):
        return f"`{durations.to_text(value) if value else '0s'}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
