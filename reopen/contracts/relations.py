"""Owns what can only be seen with all contracts side by side: names, dependencies and their
objectives, foreign keys, shared places.

Called by :mod:`reopen.contracts.load` after every file was read by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from reopen import durations
from reopen.contracts.document import Place
from reopen.contracts.draft import Draft
from reopen.contracts.graph import find_cycles, find_torn_groups
from reopen.contracts.problems import Problem, Severity, did_you_mean
from reopen.contracts.servers import overlap


def relation_problems(drafts: Sequence[Draft], broken: Collection[str]) -> list[Problem]:
    """Problems between contracts.

    :param drafts: every contract that could be parsed.
    :param broken: names that unreadable files presumably stand for; a dependency on one is not called unknown.
    """
    by_name: dict[str, Draft] = {}
    problems: list[Problem] = []
    for draft in drafts:
        first = by_name.setdefault(draft.name, draft)
        if first is not draft:
            message = f"Two contracts describe the dataset {draft.name!r}: {first.document.file} and "
            message += f"{draft.document.file}."
            hint = "Rename one of them, or remove it."
            problems.append(draft.document.problem(draft.name_place, message, hint, value=draft.name))
    for draft in drafts:
        problems += _dependency_problems(draft, {*by_name, *broken})
    cycles = list(_cycle_problems(by_name))
    problems += cycles or _group_problems(by_name)
    problems += _objective_problems(by_name)
    problems += _foreign_key_problems(list(by_name.values()))
    problems += _place_problems(list(by_name.values()))
    return problems


def _dependency_problems(draft: Draft, names: Collection[str]) -> Iterator[Problem]:
    for dependency in draft.dependencies:
        if dependency.name == draft.name:
            message = f"The dataset {draft.name!r} depends on itself."
            hint = "Remove it from dependsOn."
        elif dependency.name not in names:
            message = f"The dataset {draft.name!r} depends on {dependency.name!r}, which no contract describes; "
            message += f"allowed: {', '.join(sorted(set(names) - {draft.name})) or 'none'}."
            hint = f"{did_you_mean(dependency.name, set(names) - {draft.name})}Correct the name, or add its contract."
        else:
            continue
        yield draft.document.problem(dependency.place, message, hint, value=dependency.name)


def _cycle_problems(by_name: Mapping[str, Draft]) -> Iterator[Problem]:
    dependencies = {
        name: [dependency.name for dependency in draft.dependencies if dependency.name in by_name]
        for name, draft in by_name.items()
    }
    for cycle in find_cycles(dependencies):
        draft = by_name[cycle[0]]
        link = next(dependency for dependency in draft.dependencies if dependency.name == cycle[1])
        message = f"The datasets depend on each other in a cycle: {' -> '.join(cycle)}."
        hint = "Remove one of these links: what cannot come first cannot be recovered in order."
        yield draft.document.problem(link.place, message, hint, value=cycle[1])


def _group_problems(by_name: Mapping[str, Draft]) -> Iterator[Problem]:
    """Consistency groups that cannot be promoted at once, and names that would be mistaken for each other."""
    grouped = {
        name: draft.dataset.consistency_group
        for name, draft in by_name.items()
        if draft.dataset is not None and draft.dataset.consistency_group
    }
    dependencies = {
        name: [dependency.name for dependency in draft.dependencies if dependency.name in by_name]
        for name, draft in by_name.items()
    }
    place = ("customProperties",)
    for group in sorted(set(grouped.values())):
        members = sorted(name for name in grouped if grouped[name] == group)
        document = by_name[members[0]].document
        if group in by_name and group not in members:
            message = f"The consistency group {group!r} has the name of a dataset that is not in it."
            yield document.problem(place, message, "Rename the group.", value=group)
        if len(members) == 1:
            message = f"The consistency group {group!r} has one member, {members[0]!r}."
            hint = "Name the group in the contracts of the others too, or remove it."
            yield document.problem(place, message, hint, value=group, severity=Severity.WARNING)
    for cycle in find_torn_groups(dependencies, grouped):
        group = next(node for node in cycle if node in grouped.values())
        between = ", ".join(repr(node) for node in cycle[:-1] if node != group)
        document = by_name[next(name for name in sorted(grouped) if grouped[name] == group)].document
        message = f"The consistency group {group!r} cannot open at once: {between} needs one of its datasets and is "
        message += f"needed by another ({' -> '.join(cycle)})."
        yield document.problem(place, message, "Put what stands between into the group, or split it.", value=group)


def _objective_problems(by_name: Mapping[str, Draft]) -> Iterator[Problem]:
    """Dependencies that may take longer than a dataset that waits for them."""
    for draft in by_name.values():
        for dependency in draft.dependencies:
            needed = by_name.get(dependency.name)
            if draft.dataset is None or needed is None or needed.dataset is None:
                continue
            own, theirs = draft.dataset.objective.rto, needed.dataset.objective.rto
            if theirs > own:
                message = f"The dataset {draft.name!r} must run again in {durations.to_text(own)} and depends on "
                message += f"{needed.name!r}, which may take {durations.to_text(theirs)}."
                hint = f"Shorten the recovery time objective of {needed.name!r}, or relax that of {draft.name!r}."
                yield draft.document.problem(
                    dependency.place, message, hint, value=needed.name, severity=Severity.WARNING
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reference:
    """One end of a foreign key. ``place`` is where the contract states it."""

    table: str
    column: str
    place: Place


def _foreign_key_problems(drafts: Sequence[Draft]) -> Iterator[Problem]:
    owners = {draft.dataset.table.name: draft for draft in drafts if draft.dataset is not None and draft.dataset.table}
    for table, draft in owners.items():
        needs = {dependency.name for dependency in draft.dependencies}
        for reference in _references(draft):
            owner = owners.get(reference.table)
            if reference.table == table:
                continue
            if owner is None:
                message = f"The foreign key refers to the table {reference.table!r}, which no contract describes."
                hint = f"{did_you_mean(reference.table, owners)}It cannot be checked after a recovery."
                severity = Severity.WARNING
            elif reference.column not in _columns(owner):
                message = f"The foreign key refers to {reference.table}.{reference.column}, and that table has no "
                message += f"such column; allowed: {', '.join(_columns(owner))}."
                hint = f"{did_you_mean(reference.column, _columns(owner))}Correct the column."
                severity = Severity.ERROR
            elif owner.name not in needs:
                message = f"A foreign key refers to the dataset {owner.name!r}, which is not in dependsOn."
                hint = f"Add {owner.name!r} to dependsOn, so that it is recovered first."
                severity = Severity.WARNING
            else:
                continue
            yield draft.document.problem(
                reference.place, message, hint, value=f"{reference.table}.{reference.column}", severity=severity
            )


def _references(draft: Draft) -> Iterator[_Reference]:
    """The target columns of a table's foreign keys, from the table's and the columns' ``relationships``."""
    schema = draft.document.data["schema"][0]
    holders: list[tuple[Place, Mapping[str, Any]]] = [(("schema", 0), schema)]
    holders += [(("schema", 0, "properties", i), column) for i, column in enumerate(schema.get("properties", []))]
    for place, holder in holders:
        for index, relationship in enumerate(holder.get("relationships", [])):
            at = (*place, "relationships", index, "to")
            targets = relationship["to"]
            for target in targets if isinstance(targets, list) else [targets]:
                # Names are written table.column. The other notation (section/id/…) points at ids, maybe in other
                # files; the compiler of checks does not follow it either, and says so.
                if "/" not in target:
                    table, _, column = target.partition(".")
                    yield _Reference(table=table, column=column, place=at)


def _columns(draft: Draft) -> list[str]:
    return [column["name"] for column in draft.document.data["schema"][0].get("properties", [])]


def _place_problems(drafts: Sequence[Draft]) -> Iterator[Problem]:
    """Datasets that share a place at a site: the restore of one would write over the other."""
    for first, second in combinations(drafts, 2):
        if first.dataset is None or second.dataset is None:
            continue
        for site in sorted(first.dataset.locations.keys() & second.dataset.locations.keys()):
            one, other = first.dataset.location(site).url, second.dataset.location(site).url
            if overlap(one, other):
                same = one == other
                message = f"The datasets {first.name!r} and {second.name!r} "
                message += f"share the place {other!r} at {site!r}." if same else f"lie inside each other at {site!r}."
                yield second.document.problem(
                    ("servers",),
                    message,
                    "Give each dataset a folder of its own.",
                    value=other,
                    severity=Severity.ERROR if same else Severity.WARNING,
                )
