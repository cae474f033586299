"""Owns the checks of drift: is the plan of today the one that the last passing drill proved.

A drill proves what it recovered: a drill of tier 1 says nothing about tier 2. So each dataset is compared with the
newest drill that had it, by what does not change from day to day. What differs is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reopen.clock import to_text
from reopen.durations import to_text as duration_text
from reopen.errors import ReopenError
from reopen.recover.clocks import DatasetResult, Verdict
from reopen.recover.evidence import Evidence
from reopen.recover.plan import PlanKind, PlannedDataset, RecoveryPlan
from reopen.recover.readiness.model import UNKNOWN, Area, Check, Mark
from reopen.recover.shelf import runbook_standing
from reopen.storage.base import ObjectStore

DRILL_AGE_WARN = timedelta(days=90)
"""Most rules that ask for tests ask for them once a quarter or once a year. It counts where a contract says nothing."""
LATE = 1.1
"""A drill that is on time begins when the last one is as old as it may be, and takes a while."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drilled:
    """A dataset as a drill recovered it."""

    at: datetime
    planned: PlannedDataset
    result: DatasetResult


def check_drift(
    plan: RecoveryPlan, evidence: Sequence[Evidence], now: datetime, every: Mapping[str, timedelta] | None = None
) -> list[Check]:
    """``proven`` of the plan, and ``drill`` of each dataset.

    :param evidence: every record of evidence, oldest first.
    :param every: how often the contract of a dataset asks for a drill, where it does.
    """
    wanted = every or {}
    newest, proofs = last_drills(plan, evidence), passing_drills(plan, evidence)
    checks = []
    for dataset in plan.datasets:
        last, proof = newest.get(dataset.name), proofs.get(dataset.name)
        checks.append(_judge(dataset, last, proof, now, wanted.get(dataset.name)))
    unproven = [check.dataset for check in checks if check.verdict is not Mark.OK]
    return [_check_plan(plan, evidence, unproven), *checks]


def passing(evidence: Iterable[Evidence], *, site: str) -> Evidence | None:
    """The newest drill at a site that met every objective."""
    found = [item for item in _drills(evidence, site) if item.measured.verdict is Verdict.MET]
    return found[-1] if found else None


def last_drills(plan: RecoveryPlan, evidence: Iterable[Evidence]) -> Mapping[str, Drilled]:
    """The newest drill of each dataset at the plan's target, however it ended."""
    return {
        result.name: Drilled(at=item.measured.t_finished, planned=item.planned.dataset(result.name), result=result)
        for item in _drills(evidence, plan.target_site)
        for result in item.measured.datasets
    }


def passing_drills(plan: RecoveryPlan, evidence: Iterable[Evidence]) -> Mapping[str, Drilled]:
    """The newest drill of each dataset that met its objectives."""
    return {
        result.name: Drilled(at=item.measured.t_finished, planned=item.planned.dataset(result.name), result=result)
        for item in _drills(evidence, plan.target_site)
        for result in item.measured.datasets
        if result.verdict is Verdict.MET
    }


def differences(planned: PlannedDataset, proven: PlannedDataset) -> list[str]:
    """What of a dataset is not as a drill had it: what does not change from day to day, and no more."""
    compared = {
        "contract": (planned.contract.digest, proven.contract.digest),
        "tier": (planned.tier, proven.tier),
        "objectives": (planned.objective, proven.objective),
        "dependencies": (planned.depends_on, proven.depends_on),
        "place": (planned.serving_url, proven.serving_url),
    }
    return [name for name, (now, then) in compared.items() if now != then]


def check_kit(problems: Sequence[str]) -> Check:
    """Whether the recovery kit lies at the standby, and is what would be made now.

    :param problems: what is wrong with it, in words.
    """
    if not problems:
        return _check("kit", Mark.OK, "at the standby, and what would be made now")
    todo = "Run `reopen kit --store`, and bring a copy to where neither site is: `reopen kit --to`."
    return _check("kit", Mark.WARN, "; ".join(problems), todo)


def check_runbook(control: ObjectStore | ReopenError, plan: RecoveryPlan, now: datetime) -> Check:
    """Whether the run-book that people would follow by hand lies at the standby, and is that of this plan."""
    todo = "Run `reopen runbook --store`; replication, staging and drills do it too."
    if isinstance(control, ReopenError):
        return _check("runbook", Mark.WARN, f"{UNKNOWN}: the control store cannot be read", todo)
    standing = runbook_standing(control, plan, now=now)
    seconds = None if standing.age is None else timedelta(seconds=int(standing.age.total_seconds()))
    age = "" if seconds is None else f", written {duration_text(seconds)} ago"
    words = {"other plan": "of contracts or a site that are no longer these"}
    value = f"{words.get(standing.verdict, standing.verdict)}{age}"
    return _check("runbook", Mark.OK, value) if standing.ok else _check("runbook", Mark.WARN, value, todo)


def _check_plan(plan: RecoveryPlan, evidence: Sequence[Evidence], unproven: Sequence[str]) -> Check:
    proof = next((item for item in reversed(list(_drills(evidence, plan.target_site))) if _proves(item, plan)), None)
    if proof is not None:
        return _check("proven", Mark.OK, f"as a whole, by the drill of {to_text(proof.measured.t_finished)}")
    if not unproven:
        return _check("proven", Mark.OK, "each dataset by a drill, not yet all in one")
    return _check(
        "proven",
        Mark.WARN,
        f"unproven: {len(unproven)} of {len(plan.datasets)} datasets as they are planned now",
        "Run `reopen drill`; until then nobody knows how long this plan takes, or whether it ends.",
    )


def _proves(item: Evidence, plan: RecoveryPlan) -> bool:
    return item.shape == plan.shape and item.measured.verdict is Verdict.MET


def _judge(
    dataset: PlannedDataset, last: Drilled | None, proof: Drilled | None, now: datetime, every: timedelta | None
) -> Check:
    name, todo = dataset.name, f"Run `reopen drill {dataset.name}`."
    if last is None:
        asked = "" if every is None else f", and its contract asks for it every {duration_text(every)}"
        return _check("drill", Mark.WARN, f"unproven: never drilled{asked}", todo, name)
    if last.result.verdict is not Verdict.MET:
        value = f"the last drill ({to_text(last.at)}) {last.result.verdict}: {last.result.reason}"
        mark = Mark.FAIL if last.result.verdict is Verdict.FAILED else Mark.WARN
        return _check("drill", mark, value, last.result.hint or f"See its evidence, and then: {todo}", name)
    assert proof is not None, "the last drill passed"
    changed = differences(dataset, proof.planned)
    if changed:
        value = f"unproven: changed since the drill of {to_text(proof.at)}: {', '.join(changed)}"
        return _check("drill", Mark.WARN, value, todo, name)
    rta = proof.result.rta or timedelta(0)
    value = (
        f"{to_text(proof.at)}: {duration_text(max(rta, timedelta(0)))} of {duration_text(dataset.objective.rto)} (RTO)"
    )
    if every is not None and now - proof.at > LATE * every:
        late = f"{value}; its contract asks for a drill every {duration_text(every)}"
        return _check("drill", Mark.WARN, late, todo, name)
    if every is None and now - proof.at > DRILL_AGE_WARN:
        return _check("drill", Mark.WARN, f"{value}, more than {DRILL_AGE_WARN.days} days ago", todo, name)
    return _check("drill", Mark.OK, value, "", name)


def _drills(evidence: Iterable[Evidence], site: str) -> Iterable[Evidence]:
    return (item for item in evidence if item.kind == PlanKind.DRILL and item.planned.target_site == site)


def _check(name: str, mark: Mark, value: str, what_to_do: str = "", dataset: str = "") -> Check:
    return Check(name=name, area=Area.DRIFT, verdict=mark, value=value, what_to_do=what_to_do, dataset=dataset)
