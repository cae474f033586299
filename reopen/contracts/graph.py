"""Owns the rules of order between datasets, as pure functions over names, tiers and dependencies.

``dependencies`` maps each dataset to those that must serve before it can. Callers hand in mappings that name every
dataset; unknown names were refused before. Members of a consistency group open together, so for tiers, and only for
them, each needs the others (:func:`with_groups`).

Invariants
    I1  A dependency's effective tier is never after that of a dataset that needs it; members of a group have one tier.
    I2  The order puts dependencies before dependants, and tiers ascending.
    I3  The same input gives the same result, whatever the order of the mappings.

Called by :mod:`reopen.contracts.load`.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

Dependencies = Mapping[str, Collection[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Raise:
    """A dataset that must reopen in an earlier tier than its contract states.

    ``chain`` leads from the first dataset (by name) that stands in the earlier tier itself down to the raised one:
    ``("customer", "nation", "region")`` reads "customer needs nation, which needs region".
    """

    dataset: str
    stated_tier: int
    effective_tier: int
    needed_by: tuple[str, ...]
    """Datasets whose contracts state ``effective_tier`` and that need this one, directly or through others."""
    chain: tuple[str, ...]


def find_cycles(dependencies: Dependencies) -> tuple[tuple[str, ...], ...]:
    """Cycles, each as ``("a", "b", "a")``: a needs b, b needs a. It starts at its smallest name.

    Not every path round a knot is listed, but breaking one link of each listed cycle leaves no cycle.
    A dataset that needs itself is no matter of this function.
    """
    remaining = {name: sorted(set(needs) - {name}) for name, needs in sorted(dependencies.items())}
    cycles = []
    while True:
        try:
            TopologicalSorter(remaining).prepare()
        except CycleError as error:
            # graphlib lists each node before the one that needs it; people read it the other way round.
            nodes = list(reversed(error.args[1]))[:-1]
            start = nodes.index(min(nodes))
            cycle = (*nodes[start:], *nodes[:start], nodes[start])
            cycles.append(cycle)
            remaining[cycle[0]].remove(cycle[1])
        else:
            return tuple(cycles)


def with_groups(dependencies: Dependencies, groups: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """What each dataset needs to open: its dependencies and the other members of its group. It may have cycles.

    :param groups: the group of each dataset that has one.
    """
    members: dict[str, list[str]] = {}
    for name, group in sorted(groups.items()):
        members.setdefault(group, []).append(name)
    return {
        name: tuple(sorted({*needs, *(members[groups[name]] if name in groups else ())} - {name}))
        for name, needs in dependencies.items()
    }


def find_torn_groups(dependencies: Dependencies, groups: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    """Groups that cannot open at once, because a dataset outside needs one member and is needed by another; each as a
    cycle ``("sales", "audit", "sales")`` of groups and datasets. ``dependencies`` have no cycle of their own."""
    collapsed: dict[str, set[str]] = {}
    for name, needs in dependencies.items():
        node = groups.get(name, name)
        collapsed.setdefault(node, set()).update(groups.get(needed, needed) for needed in needs)
    for node, needs in collapsed.items():
        needs.discard(node)
    return find_cycles(collapsed)


def effective_tiers(tiers: Mapping[str, int], needs: Dependencies) -> dict[str, int]:
    """Each dataset's tier, raised to the lowest number among those that need it (I1). Sorted by name.

    :param needs: as :func:`with_groups` gives them.
    """
    effective = dict(tiers)
    # The earliest tier first: whatever its datasets need is settled when it was seen once.
    waiting = deque(sorted(tiers, key=lambda name: (tiers[name], name)))
    while waiting:
        name = waiting.popleft()
        for needed in needs[name]:
            if effective[needed] > effective[name]:
                effective[needed] = effective[name]
                waiting.append(needed)
    return dict(sorted(effective.items()))


def recovery_order(tiers: Mapping[str, int], dependencies: Dependencies) -> tuple[str, ...]:
    """Datasets in the order of recovery (I2), by name where the rules leave it open. ``tiers`` are effective."""
    sorter = TopologicalSorter(dependencies)
    sorter.prepare()
    ready: list[tuple[int, str]] = []
    order: list[str] = []
    while sorter.is_active():
        for name in sorter.get_ready():
            heapq.heappush(ready, (tiers[name], name))
        # A tier's unready dataset waits for one of its own tier or an earlier one (I1), so the least is always right.
        _, name = heapq.heappop(ready)
        order.append(name)
        sorter.done(name)
    return tuple(order)


def raises(tiers: Mapping[str, int], needs: Dependencies) -> tuple[Raise, ...]:
    """Which datasets were raised, from which tier, because of whom. Sorted by name; ``needs`` as for the tiers."""
    found = []
    for name, effective in effective_tiers(tiers, needs).items():
        if effective == tiers[name]:
            continue
        paths = _paths_to(name, needs)
        needed_by = tuple(sorted(other for other in paths if tiers[other] == effective and other != name))
        found.append(
            Raise(
                dataset=name,
                stated_tier=tiers[name],
                effective_tier=effective,
                needed_by=needed_by,
                chain=paths[needed_by[0]],
            )
        )
    return tuple(found)


def _paths_to(target: str, needs: Dependencies) -> dict[str, tuple[str, ...]]:
    """The shortest path to ``target`` from each dataset that needs it, itself included."""
    dependants: dict[str, list[str]] = {name: [] for name in needs}
    for name, needed_names in sorted(needs.items()):
        for needed in needed_names:
            dependants[needed].append(name)
    paths: dict[str, tuple[str, ...]] = {target: (target,)}
    waiting = deque([target])
    while waiting:
        current = waiting.popleft()
        for name in dependants[current]:
            if name not in paths:
                paths[name] = (name, *paths[current])
                waiting.append(name)
    return paths
