"""Owns which datasets a recovery is about, and why every other one is left out. Pure.

Invariants
    I2  Every dataset of every contract and of the vault is in the scope or left out, with the reason.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from reopen.contracts.load import Contracts
from reopen.contracts.problems import did_you_mean
from reopen.control.values import stored
from reopen.errors import NotFound

NO_SNAPSHOT = "it has no snapshot in this vault"
"""Why a dataset that a contract protects is left out: it would be lost."""


@stored
@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A dataset that this plan does not recover, and why."""

    dataset: str
    reason: str


def scope_of(
    contracts: Contracts, protected: Collection[str], datasets: Collection[str] | None, served: Mapping[str, str]
) -> tuple[set[str], tuple[LeftOut, ...]]:
    """The datasets to recover, and every other one with the reason (I2)."""
    wanted = set(contracts.datasets) if datasets is None else _with_dependencies(contracts, datasets)
    scope, left_out = set(), []
    for name in sorted({*contracts.datasets, *protected}):
        if name not in contracts.datasets:
            left_out.append(LeftOut(dataset=name, reason="it has snapshots and no contract (retired)"))
        elif name in served:
            left_out.append(LeftOut(dataset=name, reason=f"it serves already, at {served[name]}"))
        elif name not in wanted:
            left_out.append(LeftOut(dataset=name, reason="it was not asked for, and nothing in the plan needs it"))
        elif name not in protected and datasets is None and not _needed(contracts, name):
            left_out.append(LeftOut(dataset=name, reason=NO_SNAPSHOT))
        else:
            scope.add(name)
    return scope, tuple(left_out)


def near(contracts: Contracts, name: str) -> tuple[str, ...]:
    """The datasets that one depends on or switches together with."""
    dataset = contracts.datasets[name]
    mates = contracts.groups().get(dataset.consistency_group, ())
    return tuple(sorted({*dataset.depends_on, *mates} - {name}))


def _needed(contracts: Contracts, name: str) -> bool:
    # What others depend on stays in the plan without a snapshot, so that its dependants fail with that reason; so does
    # the member of a group, which holds the group back.
    together = any(name in members and len(members) > 1 for members in contracts.groups().values())
    return together or any(name in dataset.depends_on for dataset in contracts.datasets.values())


def _with_dependencies(contracts: Contracts, names: Collection[str]) -> set[str]:
    groups = contracts.groups()
    closure: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in closure:
            closure.add(name)
            dataset = contracts.datasets[name]
            todo += [*dataset.depends_on, *groups.get(dataset.consistency_group, ())]
    return closure


def check_known(contracts: Contracts, names: Collection[str]) -> None:
    """Refuse names that no contract describes. :raises NotFound: naming those there are."""
    unknown = sorted(set(names) - set(contracts.datasets))
    if unknown:
        raise NotFound(
            f"no contract describes {', '.join(unknown)}.",
            hint=f"{did_you_mean(unknown[0], contracts.datasets)}There are: {', '.join(contracts.datasets)}.",
        )
