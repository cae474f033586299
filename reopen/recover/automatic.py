"""Owns the rule of automatic failover: may a site that has gone silent be given up with no person in between. Pure.

With two sites nobody can tell a lost site from a lost line: the standby hears nothing either way, and a production that
is alive behind a broken line goes on taking orders while the standby takes them too. What makes it safe is one of two
things: the fence of the silent site is enforced by a hook, so that it cannot take any, or the log of who may act lies
at a third place that the standby still reaches and the silent site does not rule.

Invariants
    A1  Nothing goes by itself unless the contract of every dataset that moves allows it.
    A2  With two places only, nothing goes by itself unless the hook that fences the lost site enforces.
    A3  What is refused is refused to the machine alone: the plan waits for approval, and a person who looked may give
        it and answer for the fence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reopen.config import Site
from reopen.contracts.model import Dataset
from reopen.control.rules import RISK_OLD_PRIMARY

FENCE_HOOK = "fence"


@dataclass(frozen=True, slots=True, kw_only=True)
class AutomaticRule:
    """What the rule says of one failover. ``reasons`` are why it does not go by itself, a sentence each; none when it
    does."""

    reasons: tuple[str, ...]
    hint: str = ""

    @property
    def by_itself(self) -> bool:
        """Whether nobody needs to approve."""
        return not self.reasons

    @property
    def text(self) -> str:
        """The rule's answer in words."""
        return " ".join(self.reasons) or "Every contract allows it, and the lost site cannot act any more."


def judge_automatic(
    sites: Mapping[str, Site], datasets: Iterable[Dataset], *, source: str, target: str
) -> AutomaticRule:
    """Whether a failover that nobody asked for may go by itself.

    :param sites: all sites of the settings; :param datasets: those that would move;
    :param source: the site that is silent; :param target: where the business would reopen.
    """
    reasons, hints = [], []
    moving = list(datasets)
    forbidding = sorted(dataset.name for dataset in moving if not dataset.automatic_failover)
    if forbidding:
        reasons.append(f"The contracts of {', '.join(forbidding)} do not allow automatic failover.")
        hints.append("Set automaticFailover in every contract that may move without a person.")
    if not moving:
        reasons.append("There is nothing that would move.")
    if not is_sure(sites, source=source, target=target):
        reasons.append(
            f"There are only two places, {source} and {target}: from here a dead {source} and a dead line to it look "
            f"the same. If {source} lives, both would serve and take writes, and nobody could merge them "
            "afterwards (split brain)."
        )
        hints.append(
            f"Give {source} a fence hook that enforces ([sites.{source}.hooks.fence] with enforces = true), or keep "
            "the epoch log at a third site."
        )
    return AutomaticRule(reasons=tuple(reasons), hint=" ".join(hints))


def is_sure(sites: Mapping[str, Site], *, source: str, target: str) -> bool:
    """Whether a silent site can be kept from acting, or is ruled by a third place (A2)."""
    return fences_for_sure(sites[source]) or has_third_place(sites, source=source, target=target)


def accepted_risks(sites: Mapping[str, Site], *, source: str) -> tuple[str, ...]:
    """The risks that a failover which nobody asked for goes with (L6), for nobody is there to type them.

    Where a hook enforces there is none: it has to have done it, or nothing moves. Else the person who approves accepts
    that writers which are not ours may go on, or the contracts did, where a third place rules.
    """
    return () if fences_for_sure(sites[source]) else (RISK_OLD_PRIMARY,)


def fences_for_sure(site: Site) -> bool:
    """Whether a site has a hook that, once done, lets nobody write there."""
    hook = site.hooks.get(FENCE_HOOK)
    return hook is not None and hook.enforces


def has_third_place(sites: Mapping[str, Site], *, source: str, target: str) -> bool:
    """Whether the epoch log is kept at a site that is neither the lost one nor the one that takes over."""
    return any(site.control is not None for name, site in sites.items() if name not in (source, target))
