"""Owns the acts of the steps that are about the role: what they ask of hooks, people and the source, and note.

Invariants (docs/0011-failover-and-failback.md)
    F1  A hook whose step was begun before, with nobody knowing how it ended, is asked what happened.
    F2  The fence that is recorded is the one that was achieved: ``enforced`` only after a hook that enforces.
    F5  RPO 0 is ``proven`` only when the fence is enforced and the source equals the final sync after it.

Each act answers with a :class:`Report`; :mod:`reopen.recover.driver` makes an outcome of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from reopen.clock import to_text
from reopen.control.records import Fence, FenceLevel, Scenario
from reopen.control.rules import RISK_OLD_PRIMARY
from reopen.control.values import to_json
from reopen.errors import Internal, ReopenError
from reopen.recover.context import RecoveryContext
from reopen.recover.hooks import HookCall, HookFailed, HookKind, HookRun
from reopen.recover.plan import RecoveryPlan
from reopen.recover.roles import PLANNED_SCENARIOS, QUIESCE
from reopen.recover.steps import FENCE, Step

if TYPE_CHECKING:
    from reopen.recover.journal import Journal


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How the act of a step ended, before it has times and an attempt. It failed when there is a ``problem``."""

    details: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    hint: str = ""


def preflight(plan: RecoveryPlan, step: Step, context: RecoveryContext, journal: Journal) -> Report:
    """Look how ready the target is. It stops a move that can wait, and only warns one that cannot."""
    planned = plan.scenario in PLANNED_SCENARIOS
    try:
        found = context.verbs.preflight(plan)
    except Exception as error:
        if planned:
            raise
        # A standby that cannot even be looked at may still be the only one there is.
        return Report(details={"verdict": "unknown", "problem": f"{type(error).__name__}: {error}"})
    details = {"verdict": str(found.verdict), "readiness": to_json(found)}
    if found.ok or not planned:
        return Report(details=details)
    named = "; ".join(f"{check.name} {check.dataset}".strip() + f": {check.value}" for check in found.failed)
    return Report(
        details=details,
        problem=f"{plan.target_site} is not ready: {named}",
        hint=next((check.what_to_do for check in found.failed if check.what_to_do), "`reopen ready` shows all."),
    )


def approve(plan: RecoveryPlan, step: Step, context: RecoveryContext, journal: Journal) -> Report:
    """Wait until people have approved the plan, or one has refused it."""
    context.wait(lambda: journal.approval() is not None)
    given = journal.approval()
    asked = ", ".join(plan.approvals)
    if given is None:
        return Report(
            problem=f"nobody has approved plan {plan.digest[:16]} yet; asked for by {asked}",
            hint=f"`reopen approve {plan.digest[:16]} --reason WHY`, then run the same command again.",
        )
    details = {"by": given.by, "why": given.why, "granted": given.granted, "asked_for_by": list(plan.approvals)}
    if given.granted:
        return Report(details=details)
    return Report(
        details=details, problem=f"{given.by} refused plan {plan.digest[:16]}: {given.why}", hint="Plan it anew."
    )


def quiesce(plan: RecoveryPlan, step: Step, context: RecoveryContext, journal: Journal) -> Report:
    """Hold the writers of the source. Our own read the intent of this step."""
    run = _run(HookKind.QUIESCE, plan.source_site, plan, step, context, journal)
    return Report(details=_told(run, "only our own writers are held: the site has no quiesce hook"))


def final_sync(plan: RecoveryPlan, step: Step, context: RecoveryContext, journal: Journal) -> Report:
    """Copy what the writers wrote last, and have it verified at the target."""
    if step.dataset is None:
        raise Internal(f"{step.id} names no dataset.")
    dataset = plan.dataset(step.dataset)
    if context.hooks.has(plan.source_site, HookKind.FINAL_SYNC):
        run = _run(HookKind.FINAL_SYNC, plan.source_site, plan, step, context, journal)
        quiesced = journal.outcomes()[QUIESCE]
        synced = context.source.arrived(dataset, since=quiesced.finished_at)
        return Report(details={**asdict(synced), "consistent_at": to_text(synced.consistent_at), **_told(run, "")})
    synced = context.source.final_sync(dataset)
    return Report(details={**asdict(synced), "consistent_at": to_text(synced.consistent_at)})


def fence(plan: RecoveryPlan, step: Step, context: RecoveryContext, journal: Journal) -> Report:
    """Stop the old primary as far as can be, then move the role by an epoch record that says how far that was (F2)."""
    given = journal.given_fence()
    if journal.role_is_moved():
        # A driver before this one did it, and the record says what was achieved.
        return Report(details={"epoch": journal.fence(given), "primary": plan.target_site})
    details: dict[str, Any] = {}
    try:
        run = _run(HookKind.FENCE, plan.source_site, plan, step, context, journal)
    except HookFailed as error:
        if not _suffices(given):
            raise
        # People who vouch for it, or accept the risk, are not stopped by a script at a site that may be gone.
        given = replace(given, why=f"{given.why}; {error.message}".removeprefix("; "))
        details["hook_problem"] = error.message
    else:
        details |= _told(run, "the site has no fence hook")
        if run is not None and run.enforces:
            given = replace(given, level=FenceLevel.ENFORCED, why=f"{given.why}; hook {run.command}".removeprefix("; "))
    return Report(
        details={"epoch": journal.fence(given), "primary": plan.target_site, "fence": str(given.level), **details}
    )


def confirm(plan: RecoveryPlan, step: Step, context: RecoveryContext, journal: Journal) -> Report:
    """Compare the source with the final sync. It never fails: what cannot be proven is said to be unproven (F5)."""
    level = journal.achieved_level()
    found: dict[str, Any] = {}
    for dataset in plan.datasets:
        try:
            difference = context.source.confirm(dataset)
        except ReopenError as error:
            difference = f"the source could not be scanned: {error.message}"
        found[dataset.name] = difference or "equal"
    different = [f"{name}: {text}" for name, text in found.items() if text != "equal"]
    why = list(different)
    if level is not FenceLevel.ENFORCED:
        why.insert(0, f"the fence is {level}, so somebody could still write after the comparison")
    return Report(
        details={
            "rpo_zero": "unproven" if why else "proven",
            "why": "; ".join(why),
            "fence": str(level),
            "source": found,
        }
    )


def unfence(plan: RecoveryPlan, step: Step, context: RecoveryContext, journal: Journal) -> Report:
    """Let the site that has the role now write again; after a roll-back consumers are led back first."""
    details: dict[str, Any] = {}
    if plan.scenario is Scenario.ROLLBACK:
        details |= lead_consumers((), plan, step, context, journal)
    for kind in (HookKind.UNFENCE, HookKind.UNQUIESCE):
        run = _run(kind, plan.target_site, plan, step, context, journal)
        if run is not None:
            details[kind.value] = asdict(run)
    return Report(details=details)


def unquiesce(plan: RecoveryPlan, step: Step, context: RecoveryContext, journal: Journal) -> Report:
    """Give the writers of the source back (F6); a fence that may have acted is taken back too."""
    details = {}
    kinds = (HookKind.UNFENCE, HookKind.UNQUIESCE) if journal.was_begun(FENCE) else (HookKind.UNQUIESCE,)
    for kind in kinds:
        run = _run(kind, plan.source_site, plan, step, context, journal)
        if run is not None:
            details[kind.value] = asdict(run)
    return Report(details=details)


def lead_consumers(
    datasets: Sequence[str], plan: RecoveryPlan, step: Step, context: RecoveryContext, journal: Journal
) -> dict[str, Any]:
    """Make what consumers read agree with the log: the pointer, then the site's own hook (name service, balancer).

    A hook that fails is told and stops nothing: the data serves, and the step after the tiers calls it again.
    """
    details: dict[str, Any] = {"pointer": dict(context.verbs.publish(datasets))}
    for dataset in datasets or ("",):
        call = HookCall(
            kind=HookKind.PUBLISH,
            site=plan.target_site,
            step=step.id,
            epoch=journal.epoch,
            plan=plan.digest,
            dataset=dataset,
        )
        try:
            run = context.hooks.run(call, in_doubt=False)
        except HookFailed as error:
            details["publish_problem"] = error.message
        else:
            if run is not None:
                details["publish"] = asdict(run)
    return details


def _run(
    kind: HookKind, site: str, plan: RecoveryPlan, step: Step, context: RecoveryContext, journal: Journal
) -> HookRun | None:
    call = HookCall(
        kind=kind,
        site=site,
        step=step.id,
        epoch=journal.epoch + (0 if journal.role_is_moved() else 1),
        plan=plan.digest,
        dataset=step.dataset or "",
    )
    return context.hooks.run(call, in_doubt=journal.in_doubt(step.id))


def _told(run: HookRun | None, without: str) -> dict[str, Any]:
    return {"hook": without} if run is None else {"hook": asdict(run)}


def _suffices(fence: Fence) -> bool:
    """Whether a fence suffices without the site's hook (L6)."""
    return fence.level is FenceLevel.ASSERTED or RISK_OLD_PRIMARY in fence.accepted_risks
