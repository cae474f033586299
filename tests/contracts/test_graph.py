"""The rules of order, on random graphs and on named cases."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reopen.contracts.graph import effective_tiers, find_cycles, find_torn_groups, raises, recovery_order, with_groups

Graph = tuple[dict[str, int], dict[str, list[str]]]


@st.composite
def acyclic(draw: st.DrawFn) -> Graph:
    """Up to ten datasets with tiers, each needing only datasets before it in a hidden order."""
    names = draw(st.permutations([f"d{i}" for i in range(draw(st.integers(1, 10)))]))
    tiers = {name: draw(st.integers(1, 4)) for name in names}
    needs = {
        name: sorted(draw(st.sets(st.sampled_from(names[:index]), max_size=3))) if index else []
        for index, name in enumerate(names)
    }
    return tiers, needs


@given(acyclic())
def test_dependencies_always_come_before_what_needs_them(graph: Graph) -> None:
    tiers, needs = graph
    order = recovery_order(effective_tiers(tiers, needs), needs)
    assert sorted(order) == sorted(tiers)
    assert all(order.index(needed) < order.index(name) for name in tiers for needed in needs[name])


@given(acyclic())
def test_tiers_ascend_once_they_are_raised(graph: Graph) -> None:
    tiers, needs = graph
    effective = effective_tiers(tiers, needs)
    along = [effective[name] for name in recovery_order(effective, needs)]
    assert along == sorted(along)


@given(acyclic(), st.data())
def test_a_group_has_one_tier_the_order_holds_and_a_group_that_is_not_torn_opens_at_once(
    graph: Graph, data: st.DataObject
) -> None:
    tiers, needs = graph
    groups = {
        name: group
        for name in tiers
        if (group := data.draw(st.sampled_from(["", "g1", "g2"]), label=f"group of {name}"))
    }
    links = with_groups(needs, groups)
    effective = effective_tiers(tiers, links)

    order = recovery_order(effective, needs)
    assert [effective[name] for name in order] == sorted(effective.values())
    assert all(order.index(needed) < order.index(name) for name in tiers for needed in needs[name])
    for group in set(groups.values()):
        assert len({effective[name] for name in groups if groups[name] == group}) == 1
    torn = find_torn_groups(needs, groups)
    opened: set[str] = set()
    units = {name: {n for n in groups if groups[n] == groups[name]} if name in groups else {name} for name in tiers}
    while ready := [
        unit for name, unit in units.items() if name not in opened
        and all(needed in opened or needed in unit for member in unit for needed in needs[member])
    ]:  # fmt: skip
        opened |= ready[0]
    assert (opened == set(tiers)) is not bool(torn)


@given(acyclic())
def test_a_dataset_is_raised_exactly_as_far_as_something_that_needs_it(graph: Graph) -> None:
    tiers, needs = graph
    effective = effective_tiers(tiers, needs)
    for name, tier in effective.items():
        dependants = [effective[other] for other in tiers if name in needs[other]]
        assert tier == min([tiers[name], *dependants])
    for raised in raises(tiers, needs):
        assert effective[raised.dataset] == raised.effective_tier < raised.stated_tier == tiers[raised.dataset]
        assert all(tiers[name] == raised.effective_tier for name in raised.needed_by)
        assert raised.chain[0] == raised.needed_by[0]
        assert raised.chain[-1] == raised.dataset
        assert all(later in needs[earlier] for earlier, later in pairwise(raised.chain))
    assert {raised.dataset for raised in raises(tiers, needs)} == {n for n in tiers if effective[n] != tiers[n]}


@given(acyclic())
def test_the_order_in_which_files_are_found_changes_nothing(graph: Graph) -> None:
    tiers, needs = graph
    turned = {name: list(reversed(needs[name])) for name in reversed(needs)}
    assert recovery_order(effective_tiers(tiers, needs), needs) == recovery_order(
        effective_tiers(dict(reversed(tiers.items())), turned), turned
    )
    assert raises(tiers, needs) == raises(tiers, turned)


@given(acyclic())
def test_an_acyclic_graph_has_no_cycle(graph: Graph) -> None:
    assert find_cycles(graph[1]) == ()


@pytest.mark.parametrize(
    ("needs", "cycles"),
    [
        ({"a": ["b"], "b": ["a"]}, (("a", "b", "a"),)),
        ({"a": ["b"], "b": ["c"], "c": ["a"]}, (("a", "b", "c", "a"),)),
        ({"c": ["a"], "a": ["b"], "b": ["c"], "x": ["y"], "y": ["x"]}, (("a", "b", "c", "a"), ("x", "y", "x"))),
        ({"a": ["a"]}, ()),
    ],
)
def test_each_cycle_is_spelled_from_its_smallest_name_in_the_direction_of_need(
    needs: dict[str, list[str]], cycles: tuple[tuple[str, ...], ...]
) -> None:
    assert sorted(find_cycles(needs)) == sorted(cycles)


def test_what_is_free_to_choose_goes_by_name() -> None:
    needs: dict[str, list[str]] = {"b": [], "a": [], "c": []}
    assert recovery_order({"a": 2, "b": 1, "c": 2}, needs) == ("b", "a", "c")
