"""Owns the commands about the role: ``approve``, ``commit``, ``rollback``, ``failback``, ``reprotect``."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated

import typer

from reopen.cli.amounts import parse_duration
from reopen.cli.consent import YesOption, consent
from reopen.cli.face import Answer, Face, VaultOption, command
from reopen.cli.flows_bridge import FlowOption, run_flow
from reopen.cli.options import AssertOption, ByOption, ReasonOption, RiskOption
from reopen.cli.recovery import (
    KEPT,
    PANEL,
    QuiesceMaxOption,
    WaitApprovalOption,
    failover_answer,
    led,
    move,
)
from reopen.cli.text import count_text, duration_text, size_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from reopen.desk.recovery import Chosen
    from reopen.recover.evidence import StoredEvidence

RISK = "--accept-risk old-primary-may-write"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "approve", panel=PANEL, example="reopen approve --reason 'agreed with the shop'")(approve)
    command(app, "commit", panel=PANEL, example="reopen commit --reason 'the numbers of the day are right'")(commit)
    command(app, "rollback", panel=PANEL, example=f"reopen rollback --reason 'false alarm' {RISK}")(rollback)
    command(app, "failback", panel=PANEL, example=f"reopen failback --reason 'rebuilt' {RISK}")(failback)
    command(app, "reprotect", panel=PANEL, example="reopen reprotect")(reprotect)


def approve(
    face: Face,
    plan: Annotated[
        str | None,
        typer.Argument(metavar="PLAN", help="The plan's digest, or how it begins; what waits when left out."),
    ] = None,
    reason: ReasonOption = "",
    refuse: Annotated[bool, typer.Option("--refuse", help="Refuse it: it must not be carried out.")] = False,
    by: ByOption = None,
    yes: YesOption = False,
) -> Answer:
    """Approve a plan that waits for a person, or refuse it.

    Which plans need it the contracts say, or their tiers. Whoever waits goes on by itself. At a terminal a plan that is
    not named is shown, and asked about, first.

    Changes: adds the approval to the epoch log.
    Needs: a --reason; the epoch log in reach. No key, no server.
    """
    from reopen.cli.outline import outline_of_approval
    from reopen.desk.moves import plan_to_approve
    from reopen.ids import new_id
    from reopen.recover.approvals import give_approval

    log, found = plan_to_approve(face.session, plan)
    if plan is None and not refuse:
        consent(face, lambda: outline_of_approval(found), yes=yes, kept="nothing was approved")
    given = give_approval(log, found, by=by or getpass.getuser(), why=reason, granted=not refuse, identifier=new_id())
    lost = max((dataset.rpa for dataset in found.datasets if dataset.rpa is not None), default=None)
    value = {
        "plan": found.digest,
        "granted": given.granted,
        "by": given.by,
        "why": given.why,
        "scenario": found.scenario.value,
        "source": found.source_site,
        "target": found.target_site,
        "asked_for_by": list(found.approvals),
        "lost_seconds": None if lost is None else lost.total_seconds(),
    }
    said = "approved" if given.granted else "refused"
    worst = "unknown" if lost is None else duration_text(lost.total_seconds())
    what = f"{found.scenario} failover from {found.source_site} to {found.target_site}, plan {found.digest[:16]}"
    return Answer(value=value, show=[f"{said} by {given.by}: {what}; data lost at worst: {worst}"])


def commit(face: Face, reason: ReasonOption = "", by: ByOption = None, yes: YesOption = False) -> Answer:
    """Accept a failover that is done; no roll-back after it.

    From here on the way back is a failback. The next steps are `reopen reprotect`, then, when the other site stands
    again, `reopen failback`.

    Changes: adds the acceptance to the epoch log.
    Needs: a --reason; the epoch log in reach.
    """
    from reopen.cli.outline import outline_of_commit
    from reopen.control.rules import current_epoch
    from reopen.desk.moves import accept

    consent(face, lambda: outline_of_commit(face.session), yes=yes, kept="nothing was committed")
    committed = accept(face.session, by=by or getpass.getuser(), why=reason)
    value = {"epoch": committed.epoch, "by": committed.by, "why": committed.why, "primary": face.session.primary()}
    assert face.session.log is not None
    epoch = current_epoch(face.session.log.records())
    return Answer(
        value=value, show=[f"committed by {committed.by}: {value['primary']} stays the primary, epoch {epoch}"]
    )


def rollback(
    face: Face,
    reason: ReasonOption = "",
    assert_fenced: AssertOption = "",
    accept_risk: RiskOption = None,
    by: ByOption = None,
    yes: YesOption = False,
) -> Answer:
    """Give the role back, as long as nothing is committed.

    No bytes move: the site that had the role serves what it had. What was written at the abandoned site since then is
    kept as diverged, for review. A planned move that has not reached its fence is ended, and its writers are given
    back; that needs no fence.

    Changes: the role, in the epoch log.
    Needs: a --reason, and a fence: a hook, --assert-fenced or --accept-risk.
    """
    from reopen.cli.outline import outline_of_rollback
    from reopen.desk.moves import choose_rollback, give_role_back
    from reopen.desk.recovery import fence_of

    chosen = choose_rollback(face.session, reason=reason)
    consent(face, lambda: outline_of_rollback(face.session, chosen), yes=yes, kept=KEPT)
    if chosen.begun:
        face.note(f"ending what plan {chosen.plan.digest[:16]} began.")
    fence = fence_of(asserted=assert_fenced, accepted_risks=accept_risk or (), by=by)
    result = give_role_back(face.session, chosen, fence=fence, reason=reason, progress=face.progress())
    diverged = [f"{found.dataset} {found.snapshot}" for found in result.diverged]
    value = {
        "moved": result.moved,
        "primary": result.primary,
        "epoch": result.epoch,
        "plan": result.plan.digest,
        "diverged": diverged,
        "evidence": None if result.evidence is None else result.evidence.digest,
        "problems": list(result.problems),
    }
    lines = [
        f"{result.primary} is the primary, epoch {result.epoch}"
        if result.moved
        else f"the writers of {result.primary} are given back; the role has not moved"
    ]
    if diverged:
        lines.append(f"kept for review, written at {result.plan.source_site}: {', '.join(diverged)}")
    lines += [*_evidence_line(result.evidence), *result.problems]
    return Answer(value=value, show=lines)


def failback(
    face: Face,
    reason: ReasonOption = "",
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="SITE", help="Where it goes back to.", show_default="the primary of the settings"),
    ] = None,
    assert_fenced: AssertOption = "",
    accept_risk: RiskOption = None,
    by: ByOption = None,
    quiesce_max: QuiesceMaxOption = "1h",
    wait_approval: WaitApprovalOption = "0s",
    yes: YesOption = False,
    flow: FlowOption = False,
    vault: VaultOption = None,
) -> Answer:
    """Move the business back home; nothing is lost.

    A planned failover in the other direction, after the first one was committed. Writers are held for the last
    difference, then the role moves. What the returning site wrote without the role is kept, and listed. Run it again
    after a break: it goes on.

    Changes: the role, in the epoch log; the places of the datasets at the site that takes it.
    Needs: a --reason; the recovery key; both sites in reach; a fence: a hook, --assert-fenced or --accept-risk.
    Exit 3: a dataset missed its objective.
    Exit 7: nothing was moved.
    """
    from reopen.cli.outline import outline_of_move
    from reopen.control.records import Scenario
    from reopen.desk.doubts import doubts
    from reopen.desk.moves import choose_move, failback_wish
    from reopen.desk.recovery import Wish, fence_of

    session = face.session
    fence = fence_of(asserted=assert_fenced, accepted_risks=accept_risk or (), by=by)

    def choose() -> Chosen:
        wish, limit = failback_wish(session, Wish(to=to, vault=vault)), parse_duration(quiesce_max, "--quiesce-max")
        return choose_move(session, wish, scenario=Scenario.FAILBACK, reason=reason, quiesce_max=limit)

    if flow:
        # The flow makes the plan itself; it is made here only for whoever is to be asked.
        consent(face, lambda: outline_of_move(session, choose(), fence), yes=yes, kept=KEPT)
        result = led(
            face,
            lambda: run_flow(
                face, "failover", reason=reason, to=to, assert_fenced=assert_fenced,
                accept_risk=tuple(accept_risk or ()), by=by, vault=vault, failback=True, quiesce_max=quiesce_max,
                wait_approval=wait_approval,
            ),
        )  # fmt: skip
        return failover_answer(result, doubts(session, result.plan, vault or result.plan.target_site))
    return move(
        face, choose(), fence=fence, reason=reason, vault=vault, wait_approval=wait_approval, yes=yes, what="failback"
    )


def reprotect(face: Face, reason: ReasonOption = "", by: ByOption = None, yes: YesOption = False) -> Answer:
    """Protect the business again after a committed failover.

    Copies go to the other site from then on, and so does the epoch log: with two sites it belongs where the role is
    not. Run it again after a break: it goes on.

    Changes: adds copies to the vault of the other site; the home of the epoch log.
    Needs: any key of the vault; both sites in reach.
    """
    from reopen.cli.outline import outline_of_reprotect
    from reopen.desk.moves import reprotect as protect_anew
    from reopen.desk.session import open_session

    # By a session of its own: the log that one opens may have moved by the time that the other begins.
    consent(face, lambda: outline_of_reprotect(open_session(face.config)), yes=yes)
    done = protect_anew(face.session, reason=reason, progress=face.progress(), by=by)
    value = {
        "primary": done.primary,
        "standby": done.standby,
        "copied": dict(done.copied),
        "log": done.log_url,
        "moved": done.moved,
        "evidence": None if done.evidence is None else done.evidence.digest,
        "problems": list(done.problems),
    }
    copied = f"{count_text(done.copied['snapshots'], 'snapshot')} copied, {size_text(done.copied['size_bytes'])}"
    show: list[RenderableType] = [f"copies go from {done.primary} to {done.standby}: {copied}"]
    if done.moved:
        show.append(f"the epoch log is at {done.log_url}")
    return Answer(value=value, show=[*show, *_evidence_line(done.evidence), *done.problems])


def _evidence_line(evidence: StoredEvidence | None) -> list[str]:
    return [] if evidence is None else [f"evidence {evidence.number}, {evidence.digest}"]
