"""Owns the turning of one document into one dataset: name, tier, owner, table; the parts with rules of their own
(servers, service levels) have modules of their own.

The dataset's name is the contract's ``name``, or its ``id`` where it has no name.

Invariants
    I1  A draft keeps name and dependencies even when the rest is wrong, so that one bad file does not make its
        dependants look wrong too.
    I2  A column is classified when the contract classifies it, or anything nested in it, as other than ``public``.

Called by :mod:`reopen.contracts.load`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from reopen.contracts.document import Document, Place
from reopen.contracts.model import Channel, Dataset, SourceKind, Table, TableFormat, Temperature, TierDefaults
from reopen.contracts.problems import Problem, did_you_mean, shown
from reopen.contracts.reader import Custom, Reader, text_list, vendor_properties
from reopen.contracts.servers import read_locations
from reopen.contracts.service import read_service_levels

NAME_PATTERN = re.compile(r"[a-z][a-z0-9_-]{0,62}")
TIERS = range(1, 10)

PROPERTIES: Mapping[str, str] = {
    "tier": "1 to 9: 1 reopens first. Every contract needs it.",
    "dependsOn": "Names of datasets that have to serve before this one can; a list.",
    "temperature": "`cold` (restored when needed), `warm` (kept restored at the standby) or `hot` (warm, and its views "
    "are ready); else as its tier in the settings says, else `cold`.",
    "sourceKind": "How it is captured; `files` is the only kind.",
    "include": "Gitignore-style patterns of what belongs to it; a list, else everything.",
    "exclude": "Gitignore-style patterns of what does not; a list.",
    "approval": "`required` when a person approves a plan that moves it, or `none`; else as its tier says.",
    "automaticFailover": "`true` when a failover that nobody asked for may move it without approval; else `false`.",
    "consistencyGroup": "A name: datasets with the same one begin to serve together, or none of them does.",
    "showFailingRows": "`true` when results of checks may show rows that break a rule, but never classified columns; "
    "else `false`.",
}
"""Our ``customProperties``, each with what it means. The reference is made from this."""


class _Approval(StrEnum):
    """Whether a person approves a plan that moves the dataset."""

    REQUIRED = "required"
    NONE = "none"


_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_SECRET_URL = re.compile(
    r"^[a-z][a-z0-9+.-]*://[^/@?#]*:[^/@?#]+@"
    r"|^https://hooks\.slack\.com/(services|workflows|triggers)/\w"
    r"|^https://(\w+\.)?discord(app)?\.com/api/webhooks/\d*/\w"
    r"|^https://[\w.-]+\.webhook\.office\.com/webhookb2/\w",
    re.IGNORECASE,
)
"""A password before the host, or a webhook whose path is its secret, after variables were taken out of the URL."""
_Choice = TypeVar("_Choice", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """One dataset that a contract says it needs, and where it says so."""

    name: str
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What could be read of one contract. ``dataset`` is ``None`` when a problem of it stops loading."""

    document: Document
    name: str
    name_place: Place
    dependencies: tuple[Dependency, ...]
    dataset: Dataset | None
    problems: tuple[Problem, ...]


def read_draft(document: Document, *, base: Path, sites: Collection[str], tiers: Mapping[int, TierDefaults]) -> Draft:
    """Understand one document; every problem is in the draft, none is raised."""
    key = "name" if "name" in document.data else "id"
    if problems := _standard_problems(document):
        name = str(document.data.get(key, document.file.name.split(".")[0]))
        return Draft(
            document=document,
            name=name,
            name_place=(key,),
            dependencies=(),
            dataset=None,
            problems=tuple(problems),
        )
    reader = Reader(document=document)
    name = str(document.data[key])
    if not NAME_PATTERN.fullmatch(name):
        message = f"{shown(name)} is a bad dataset name; allowed: {NAME_PATTERN.pattern}."
        hint = "The contract's 'name' (or its 'id', when it has no name) names the dataset: correct it."
        reader.error((key,), message, hint, value=name)
    custom = vendor_properties(
        reader, document.data.get("customProperties", ()), ("customProperties",), known=tuple(PROPERTIES)
    )
    dependencies = _dependencies(reader, custom.get("dependsOn"))
    dataset = _dataset(reader, name, custom, dependencies, base, sites, tiers)
    return Draft(
        document=document,
        name=name,
        name_place=(key,),
        dependencies=dependencies,
        dataset=dataset,
        problems=tuple(reader.problems),
    )


def _standard_problems(document: Document) -> list[Problem]:
    if document.follows_standard:
        return []
    # Imported here: the JSON schema's library takes as long as all the rest of loading.
    from reopen.contracts.standard import standard_problems

    return standard_problems(document)


def _dataset(
    reader: Reader,
    name: str,
    custom: Mapping[str, Custom],
    dependencies: tuple[Dependency, ...],
    base: Path,
    sites: Collection[str],
    tiers: Mapping[int, TierDefaults],
) -> Dataset | None:
    tier = _tier(reader, name, custom.get("tier"))
    defaults = None if tier is None else tiers.get(tier)
    fallback = Temperature(defaults.temperature) if defaults and defaults.temperature else Temperature.COLD
    temperature = _choice(reader, custom.get("temperature"), "temperature", Temperature, fallback)
    kind = _choice(reader, custom.get("sourceKind"), "source kind", SourceKind, SourceKind.FILES)
    levels = read_service_levels(reader, name, tier, defaults)
    locations = read_locations(reader, name, sites, base)
    shows_rows = _flag(reader, custom.get("showFailingRows"), "showFailingRows")
    table = _table(reader, locations.table_format, show_failing_rows=shows_rows)
    owner = _owner(reader)
    include = text_list(reader, custom.get("include"), "include", "'*.parquet'")
    exclude = text_list(reader, custom.get("exclude"), "exclude", "'*.tmp'")
    group = _group(reader, custom.get("consistencyGroup"))
    asked = _Approval.REQUIRED if defaults and defaults.approval else _Approval.NONE
    approval = _choice(reader, custom.get("approval"), "approval", _Approval, asked)
    automatic = _flag(reader, custom.get("automaticFailover"), "automaticFailover")
    if tier is None or levels.objective is None or len(locations.by_site) < len(set(sites)):
        return None
    return Dataset(
        name=name,
        contract_path=reader.document.file,
        contract_id=reader.data["id"],
        contract_version=reader.data["version"],
        contract_digest=reader.document.digest,
        kind=kind,
        tier=tier,
        depends_on=tuple(dependency.name for dependency in dependencies),
        temperature=temperature,
        objective=levels.objective,
        locations=locations.by_site,
        include=include,
        exclude=exclude,
        schedule=levels.schedule,
        drill_schedule=levels.drill_schedule,
        drill_every=levels.drill_every,
        frequency=levels.frequency,
        retention=levels.retention,
        owner=owner,
        channels=_channels(reader),
        table=table,
        description=" ".join(str(reader.data.get("description", {}).get("purpose") or "").split()),
        consistency_group=group,
        approval=approval is _Approval.REQUIRED,
        automatic_failover=automatic,
    )


def _tier(reader: Reader, name: str, custom: Custom | None) -> int | None:
    allowed = f"whole numbers from {TIERS[0]} (reopens first) to {TIERS[-1]}"
    if custom is None:
        message = f"Dataset {name!r} has no tier; allowed: {allowed}."
        hint = "Add '{property: tier, value: 2, vendor: reopen}' to customProperties."
        reader.error(("customProperties",), message, hint)
        return None
    value = custom.value
    # type() and not isinstance: True is an int to Python and no tier to anyone.
    if type(value) is int and value in TIERS:
        return value
    reader.error(custom.place, f"{shown(value)} is a bad tier; allowed: {allowed}.", "Correct the tier.", value=value)
    return None


def _choice(reader: Reader, custom: Custom | None, noun: str, kind: type[_Choice], default: _Choice) -> _Choice:
    if custom is None:
        return default
    allowed = [member.value for member in kind]
    if custom.value in allowed:
        return kind(custom.value)
    message = f"{shown(custom.value)} is a bad {noun}; allowed: {', '.join(allowed)}."
    hint = f"{did_you_mean(str(custom.value), allowed)}Use an allowed value."
    reader.error(custom.place, message, hint, value=custom.value)
    return default


def _group(reader: Reader, custom: Custom | None) -> str:
    if custom is None:
        return ""
    if isinstance(custom.value, str) and NAME_PATTERN.fullmatch(custom.value):
        return custom.value
    message = f"{shown(custom.value)} is a bad consistency group; allowed: {NAME_PATTERN.pattern}."
    reader.error(custom.place, message, "Write one name, the same in the contract of each member.", value=custom.value)
    return ""


def _flag(reader: Reader, custom: Custom | None, noun: str) -> bool:
    if custom is None or isinstance(custom.value, bool):
        return custom is not None and custom.value
    hint = f"Write '{{property: {noun}, value: true, vendor: reopen}}', without quotes around the value."
    reader.error(
        custom.place, f"{shown(custom.value)} is a bad {noun}; allowed: true, false.", hint, value=custom.value
    )
    return False


def _dependencies(reader: Reader, custom: Custom | None) -> tuple[Dependency, ...]:
    names = text_list(reader, custom, "dependsOn", "customer, nation")
    if custom is None or not names:
        return ()
    found: dict[str, Dependency] = {}
    for index, name in enumerate(custom.value):
        place = (*custom.place, index)
        if name in found:
            reader.error(place, f"The dependency {name!r} is stated twice.", "Keep one of them.", value=name)
        elif name in names:
            found[name] = Dependency(name=name, place=place)
    return tuple(found.values())


def _table(reader: Reader, table_format: TableFormat | None, *, show_failing_rows: bool) -> Table | None:
    """The tabular side; ``None`` for files that are no table or that the contract does not describe."""
    if table_format is None:
        return None
    schema = reader.data.get("schema", [])
    if not schema:
        reader.warn(
            (),
            f"The files are {table_format.value}, and the contract has no schema: only their bytes can be checked.",
            "Describe the table under 'schema'.",
        )
        return None
    if len(schema) > 1:
        message = f"The contract describes {len(schema)} tables; a dataset has one."
        reader.error(("schema", 1), message, "Write one contract for each table.", value=schema[1]["name"])
    columns = schema[0].get("properties", [])
    return Table(
        name=schema[0]["name"],
        format=table_format,
        schema=schema[0],
        classified=tuple(column.get("physicalName") or column["name"] for column in columns if _is_classified(column)),
        show_failing_rows=show_failing_rows,
    )


def _is_classified(node: object) -> bool:
    if isinstance(node, dict):
        stated = node.get("classification")
        return (isinstance(stated, str) and stated.lower() != "public") or any(map(_is_classified, node.values()))
    return isinstance(node, list) and any(map(_is_classified, node))


def _owner(reader: Reader) -> str:
    """The team's name; for a team without one, or the older list of members, the member whose role is owner."""
    team = reader.data.get("team")
    if isinstance(team, dict) and team.get("name"):
        return str(team["name"])
    members = team.get("members", []) if isinstance(team, dict) else team or []
    owners: Iterator[str] = (str(m["username"]) for m in members if str(m.get("role", "")).lower() == "owner")
    owner = next(owners, "")
    if not owner:
        reader.warn(("team",), "The contract names no owner, so nobody is told.", "Add 'team' with a 'name'.")
    return owner


def _channels(reader: Reader) -> tuple[Channel, ...]:
    support: list[Mapping[str, Any]] = reader.data.get("support", [])
    for number, item in enumerate(support):
        if _SECRET_URL.search(_VARIABLE.sub("", str(item.get("url", "")))):
            # Its value stays untold here too: what is printed ends up in logs.
            message = "The URL carries a secret, and a contract is read by many."
            hint = "Write ${NAME} in its place, and set the variable NAME where Reopen runs."
            reader.error(("support", number, "url"), message, hint, value="…")
    return tuple(
        Channel(
            name=item["channel"], tool=item.get("tool", ""), url=item.get("url", ""), scope=item.get("scope", "")
        )
        for item in support
    )  # fmt: skip
