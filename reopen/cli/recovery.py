"""Owns the commands that run again from copies: ``plan failover``, ``failover``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reopen.cli.amounts import parse_duration
from reopen.cli.consent import YesOption, consent
from reopen.cli.face import Answer, CommandGroup, Face, VaultOption, command
from reopen.cli.flows_bridge import FlowOption, run_flow
from reopen.cli.options import (
    AssertOption,
    ByOption,
    PointOption,
    ReasonOption,
    RiskOption,
    ScopeArgument,
    TargetOption,
)
from reopen.cli.text import duration_text, make_table, plain, size_text
from reopen.clock import from_text
from reopen.errors import EXIT_NEGATIVE, EXIT_OK, InvalidInput

if TYPE_CHECKING:
    from rich.console import RenderableType

    from reopen.control.records import Fence
    from reopen.desk.recovery import Chosen, Wish
    from reopen.recover.clocks import Measured
    from reopen.recover.context import Delivery, WaitFor
    from reopen.recover.evidence import StoredEvidence
    from reopen.recover.failover import FailoverResult
    from reopen.recover.plan import RecoveryPlan

PANEL = "Run again"
KEPT = "nothing was moved"

FromOption = Annotated[
    str | None, typer.Option("--from", metavar="SITE", help="The site that is lost.", show_default="the primary")
]
FailedAtOption = Annotated[
    str | None,
    typer.Option(
        "--failed-at",
        metavar="TIME",
        help="When it failed, as 2026-11-22T03:05:00Z; it starts the clock.",
        show_default="now",
    ),
]


QuiesceMaxOption = Annotated[
    str,
    typer.Option(
        "--quiesce-max", metavar="DURATION", help="How long a planned move may hold the writers; then it ends."
    ),
]
WaitApprovalOption = Annotated[
    str,
    typer.Option(
        "--wait-approval", metavar="DURATION", help="How long to wait for a person, where the plan needs an approval."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    plans = typer.Typer(
        cls=CommandGroup,
        help="Show what a recovery would do, and change nothing.",
        no_args_is_help=True,
        epilog="Example: reopen plan failover --runbook",
    )
    app.add_typer(plans, name="plan", rich_help_panel=PANEL)
    command(plans, "failover", group="plan", example="reopen plan failover --runbook > runbook.md")(plan)
    command(
        app,
        "failover",
        panel=PANEL,
        example="reopen failover --reason 'production burnt down' --assert-fenced 'it is ashes'",
    )(failover)


def plan(
    face: Face,
    datasets: ScopeArgument = None,
    point: PointOption = "last-verified",
    source: FromOption = None,
    to: TargetOption = None,
    failed_at: FailedAtOption = None,
    runbook: Annotated[
        bool, typer.Option("--runbook", help="Print it as Markdown that a person can follow by hand.")
    ] = False,
    vault: VaultOption = None,
) -> Answer:
    """Show what a failover would do, and what it would lose.

    The order, the recovery point of each dataset, the data that is lost and the objectives, as `reopen failover` would
    take them now.

    Changes: nothing; no role is moved.
    Needs: any key of the vault; to be run at the site that would take over.
    Exit 3: a dataset has no recovery point.
    """
    from reopen.desk.doubts import doubts
    from reopen.desk.recovery import foreseen

    wish = _wish(datasets, point=point, source=source, to=to, failed_at=failed_at, vault=vault)
    planned = foreseen(face.session, wish)
    return _plan_answer(planned, doubts(face.session, planned, vault or planned.target_site), as_runbook=runbook)


def _plan_answer(planned: RecoveryPlan, suspect: Mapping[str, str], *, as_runbook: bool) -> Answer:
    from reopen.cli.forecast import outlook
    from reopen.cli.outline import pending_text
    from reopen.control.values import to_json
    from reopen.desk.doubts import doubt_lines
    from reopen.recover.plan import PlanKind
    from reopen.recover.runbook import runbook

    lacking = [dataset.name for dataset in planned.datasets if dataset.point is None]
    value = {"digest": planned.digest, "shape": planned.shape, "plan": to_json(planned), "without_point": lacking}
    value["suspect"] = suspect
    code = EXIT_NEGATIVE if lacking else EXIT_OK
    if as_runbook:
        return Answer(value=value | {"runbook": runbook(planned)}, show=[runbook(planned)], exit_code=code)
    rows = [
        (
            dataset.tier,
            dataset.name,
            ", ".join(dataset.depends_on) or "-",
            "-" if dataset.point is None else dataset.point.snapshot[:8],
            "-" if dataset.point is None else dataset.point.verified_level or "no",
            "-" if dataset.rpa is None else duration_text(dataset.rpa.total_seconds()),
            duration_text(dataset.objective.rpo.total_seconds()),
            duration_text(dataset.objective.rto.total_seconds()),
            "-" if dataset.point is None else f"{dataset.point.files:,}",
            "-" if dataset.point is None else size_text(dataset.point.size_bytes),
            dataset.temperature + (" staged" if dataset.staged is not None else ""),
            dataset.target_url,
        )
        for dataset in planned.datasets
    ]
    columns = (
        ">tier", "dataset", "depends on", "point", "verified", ">data lost", ">RPO", ">RTO", ">files", ">size", "kept",
        "target",
    )  # fmt: skip
    raised = [d for d in planned.datasets if d.raised_by]
    preparing = planned.datasets if planned.kind is PlanKind.PREPARE else ()
    show: list[RenderableType] = [
        f"{planned.kind} from {planned.source_site} to {planned.target_site}, plan {planned.digest[:16]}",
        make_table(columns, rows),
        *(f"{d.name}: raised from tier {d.stated_tier}, {', '.join(d.raised_by)} need it" for d in raised),
        *(f"{d.name}: no recovery point: {d.problem}. {d.hint}" for d in planned.datasets if d.problem),
        *(f"left out: {item.dataset}: {item.reason}" for item in planned.left_out),
        *(f"{d.name}: nothing is lost, because the final sync comes first: {pending_text(d)}" for d in preparing),
        *([] if preparing else outlook(planned)),
        *doubt_lines(suspect),
    ]
    return Answer(value=value, show=show, exit_code=code)


def failover(
    face: Face,
    datasets: ScopeArgument = None,
    reason: ReasonOption = "",
    point: PointOption = "last-verified",
    source: FromOption = None,
    to: TargetOption = None,
    failed_at: FailedAtOption = None,
    assert_fenced: AssertOption = "",
    accept_risk: RiskOption = None,
    by: ByOption = None,
    planned: Annotated[
        bool,
        typer.Option(
            "--planned", help="Both sites are there: the primary hands over, and nothing that was written is lost."
        ),
    ] = False,
    quiesce_max: QuiesceMaxOption = "1h",
    wait_approval: WaitApprovalOption = "0s",
    yes: YesOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, and move nothing.")] = False,
    flow: FlowOption = False,
    vault: VaultOption = None,
) -> Answer:
    """Open the business at the other site, tier by tier.

    It moves the role, fences the lost site, and for each tier restores, checks and promotes, before the next one
    begins. Run it again after a break: it goes on by the plan it had. At a terminal it shows what is lost and asks
    before it begins, and asks what becomes of a dataset that fails while it waits ([recovery] decide_within).

    It needs to know that the lost site no longer writes: by a fence hook of the settings, by --assert-fenced, or, where
    nobody can tell, by --accept-risk.

    Changes: the role, in the epoch log; the places of the datasets at this site. `reopen rollback` undoes it until it
    is committed.
    Needs: a --reason; the recovery key; to be run at the site that takes over. No Prefect server.
    Exit 3: a dataset missed its objective or failed; the others are open.
    """
    if dry_run and not planned:
        return plan(face, datasets, point=point, source=source, to=to, failed_at=failed_at, vault=vault)
    from reopen.cli.outline import outline_of_move
    from reopen.control.records import Scenario
    from reopen.desk.doubts import doubts
    from reopen.desk.moves import choose_move
    from reopen.desk.recovery import choose_failover, fence_of

    wish = _wish(datasets, point=point, source=source, to=to, failed_at=failed_at, vault=vault)
    fence = fence_of(asserted=assert_fenced, accepted_risks=accept_risk or (), by=by)

    def choose() -> Chosen:
        if planned:
            limit = parse_duration(quiesce_max, "--quiesce-max")
            return choose_move(face.session, wish, scenario=Scenario.PLANNED, reason=reason, quiesce_max=limit)
        return choose_failover(face.session, wish, reason=reason)

    if dry_run:
        reason = reason or "a plan only"
        foreseen_plan = choose().plan
        return _plan_answer(
            foreseen_plan, doubts(face.session, foreseen_plan, vault or foreseen_plan.target_site), as_runbook=False
        )
    if flow:
        # The flow makes the plan itself; it is made here only for whoever is to be asked.
        consent(face, lambda: outline_of_move(face.session, choose(), fence), yes=yes, kept=KEPT)
        result = led(
            face,
            lambda: run_flow(
                face, "failover", datasets=tuple(datasets or ()), reason=reason, point=point, source=source,
                to=to, failed_at=wish.failed_at, assert_fenced=assert_fenced,
                accept_risk=tuple(accept_risk or ()), by=by, vault=vault, planned=planned, quiesce_max=quiesce_max,
                wait_approval=wait_approval,
            ),
        )  # fmt: skip
        return failover_answer(result, doubts(face.session, result.plan, vault or result.plan.target_site))
    return move(
        face, choose(), fence=fence, reason=reason, vault=vault, wait_approval=wait_approval, yes=yes, what="failover"
    )


def move(
    face: Face,
    chosen: Chosen,
    *,
    fence: Fence,
    reason: str,
    vault: str | None,
    wait_approval: str,
    yes: bool,
    what: str,
) -> Answer:
    """Carry out a move of the role, after whoever sits at the terminal has agreed to its plan."""
    from reopen.cli import terminal as terminals
    from reopen.cli.outline import outline_of_move
    from reopen.desk.doubts import doubt_lines, doubts
    from reopen.desk.moves import carry_out
    from reopen.recover.context import Attended

    if chosen.note:
        face.note(chosen.note)
    if chosen.begun:
        digest = chosen.plan.digest[:16]
        face.note(f"going on with the {what} to {chosen.plan.target_site} that was begun by plan {digest}.")
    home = vault or chosen.plan.target_site
    suspect = doubts(face.session, chosen.plan, home)
    if not consent(face, lambda: outline_of_move(face.session, chosen, fence), yes=yes, kept=KEPT):
        # Whoever was asked has read it in the outline.
        for line in doubt_lines(suspect):
            face.note(line)
    result = led(
        face,
        lambda: carry_out(
            face.session,
            chosen,
            fence=fence,
            reason=reason,
            vault=vault,
            progress=face.progress(),
            wait=waiting(wait_approval),
            attended=Attended.NOBODY if terminals.find_terminal(face) is None else Attended.TERMINAL,
        ),
    )
    if result.plan.digest != chosen.plan.digest:
        # One that holds the writers first chooses its points after the final sync.
        suspect = doubts(face.session, result.plan, home)
    return failover_answer(result, suspect)


def led(face: Face, carry: Callable[[], FailoverResult]) -> FailoverResult:
    """What a recovery comes to; whoever sits at the terminal is asked about each step of it that fails."""
    from reopen.cli import terminal as terminals
    from reopen.cli.asking import deciding
    from reopen.desk.session import open_session

    with deciding(terminals.find_terminal(face), open_session(face.config)):
        return carry()


def waiting(text: str) -> WaitFor:
    """Waits for people as long as an option says."""
    from reopen.recover.approvals import polling

    return polling(parse_duration(text, "--wait-approval"))


def _wish(
    datasets: Sequence[str] | None,
    *,
    point: str,
    source: str | None,
    to: str | None,
    failed_at: str | None,
    vault: str | None,
) -> Wish:
    from reopen.desk.recovery import Wish

    instant = None if failed_at is None else _instant(failed_at)
    return Wish(datasets=tuple(datasets or ()), point=point, source=source, to=to, failed_at=instant, vault=vault)


def failover_answer(result: FailoverResult, suspect: Mapping[str, str]) -> Answer:
    """What a failover, planned or not, or a failback came to.

    :param suspect: by dataset why the recovery point that it took may be no good.
    """
    from reopen.desk.doubts import doubt_lines

    value = {
        "ok": result.verdict == "met" and not result.broken and not result.undone,
        "verdict": result.verdict.value,
        "epoch": result.epoch,
        "primary": result.primary,
        "resumed": result.resumed,
        "aborted": result.aborted,
        "plan": result.plan.digest,
        "scenario": result.plan.scenario.value,
        "rpo_zero": result.rpo_zero,
        "fence": dict(result.evidence.evidence.fence),
        "diverged": list(result.diverged),
        "suspect": dict(suspect),
        "problems": list(result.problems),
        "undone": list(result.undone),
        "chain_broken": result.broken,
        **measured_value(result.measured, result.messages, result.evidence.name, result.evidence.digest),
    }
    show: list[RenderableType] = [
        f"{result.primary} is the primary, epoch {result.epoch}: {result.verdict}",
        *([f"aborted by {result.aborted}; `reopen rollback` gives the role back"] if result.aborted else []),
        *_role_lines(result),
        *measured_tables(result.measured),
        *evidence_lines(result.evidence),
        *broken_lines(result.broken),
        *result.undone,
        *_what_to_type(result),
        *(f"note: {line}" for line in doubt_lines(suspect)),
        *(f"note: {problem}" for problem in result.problems),
    ]
    return Answer(value=value, show=show, exit_code=EXIT_OK if value["ok"] else EXIT_NEGATIVE)


def _what_to_type(result: FailoverResult) -> list[RenderableType]:
    """What becomes of datasets that failed is said, where nobody ended the whole."""
    from reopen.control.records import StepResult

    failed = sorted(
        {
            name
            for step in result.plan.steps
            if step.id in result.outcomes and result.outcomes[step.id].result is StepResult.FAILED
            for name in step.datasets
        }
    )
    if result.aborted or not failed:
        return []
    again, skip = "`reopen failover` tries again what does not serve", f"`reopen decide {failed[0]} skip --reason WHY`"
    return [f"failed: {', '.join(failed)}. {again}; {skip} gives it up."]


def evidence_lines(record: StoredEvidence) -> list[RenderableType]:
    """Where the evidence of a recovery stands, and its anchor for somebody outside."""
    from reopen.recover.anchor import Anchor, how_to_check

    anchor = Anchor(number=record.number, digest=record.digest)
    return [f"evidence: {record.name} {record.digest}", f"anchor: {anchor}", how_to_check(anchor)]


def broken_lines(broken: str) -> list[RenderableType]:
    """What to say of a recovery whose evidence could not go on with the chain (E7)."""
    if not broken:
        return []
    return [
        f"the chain of the evidence is broken: {broken}",
        "this record stands in a part of its own; `reopen evidence verify` shows all that is wrong",
    ]


def _role_lines(result: FailoverResult) -> list[RenderableType]:
    """How sure the fence is, whether anything was lost in a planned move, and what is kept for review."""
    fence = result.evidence.evidence.fence
    lines: list[RenderableType] = [f"fence: {fence['level']} by {fence['by']}"] if fence else []
    if result.rpo_zero:
        why = result.outcomes["confirm"].details.get("why", "")
        lines.append(f"RPO 0: {result.rpo_zero}" + (f": {why}" if why else ""))
    if result.diverged:
        named = ", ".join(f"{found['dataset']} {found['snapshot']}" for found in result.diverged)
        lines.append(f"kept for review, written at {result.primary} without the role: {named}")
    for _, outcome in sorted(result.outcomes.items()):
        kept = outcome.details.get("pointer", {}).get("kept", {})
        lines += [f"{name}: what stood in its place before is kept in {place}" for name, place in kept.items()]
    return lines


def measured_value(
    measured: Measured, messages: Sequence[Delivery], evidence: str, evidence_digest: str
) -> dict[str, Any]:
    """The JSON of what every recovery comes to: clocks, messages and where the evidence is."""
    from reopen.control.values import to_json

    return {
        "measured": to_json(measured),
        "messages": [plain(message) for message in messages],
        "evidence": {"object": evidence, "digest": evidence_digest},
    }


def measured_tables(measured: Measured) -> list[RenderableType]:
    """Clocks against objectives, a table of tiers and one of datasets, and what to do where it says so."""

    def seconds(duration: timedelta | None) -> str:
        return "-" if duration is None else duration_text(duration.total_seconds())

    tiers = [
        (
            tier.tier, tier.verdict.value, seconds(tier.rta), seconds(tier.rto), seconds(tier.rpa), seconds(tier.rpo),
            ", ".join(tier.not_recovered) or "-",
        )
        for tier in measured.tiers
    ]  # fmt: skip
    datasets = [
        (
            result.name, result.tier, result.verdict.value, seconds(result.rta), seconds(result.rto),
            seconds(result.rpa), seconds(result.rpo), f"{result.checks_passed}/{result.checks_total}",
            f"{result.files:,}", size_text(result.size_bytes), result.reason,
        )
        for result in measured.datasets
    ]  # fmt: skip
    hints = [f"{result.name}: {result.hint}" for result in measured.datasets if result.hint]
    return [
        make_table((">tier", "verdict", ">RTA", ">RTO", ">RPA", ">RPO", "not recovered"), tiers),
        make_table(
            ("dataset", ">tier", "verdict", ">RTA", ">RTO", ">RPA", ">RPO", ">checks", ">files", ">size", "why"),
            datasets,
        ),
        *hints,
    ]


def _instant(text: str) -> datetime:
    try:
        return from_text(text)
    except ValueError as error:
        raise InvalidInput(f"{text!r} is not a time: {error}.", hint="Write it like 2026-11-22T13:00:00Z.") from error
