"""Owns the way from what an operator asks of a role to its plan: a planned move, the way back, a roll-back.

Invariants
    I1  A move that was begun is gone on with by its own plan, whoever asks; another kind of move is refused meanwhile.
    I2  The second plan of a prepared move is made from the log alone, so that every driver makes the same one (F5).
"""

from __future__ import annotations

import getpass
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from reopen.control import rules, tenure
from reopen.control.homes import finish_move
from reopen.control.log import EpochLog
from reopen.control.records import Committed, Fence, Scenario
from reopen.desk.pending import carried_over, foreseen_move
from reopen.desk.recovery import SIDE_BY_SIDE, Chosen, Wish, log_of, open_desk, plan_of_wish, why_anew
from reopen.desk.session import Session
from reopen.errors import Conflict, InvalidInput, NotFound, Refused, ReopenError
from reopen.ids import new_id
from reopen.notify.channels import AppriseNotifier
from reopen.progress import Progress
from reopen.recover.context import Attended, WaitFor, wait_for_nobody
from reopen.recover.diverged import Diverged, SeenByTheLog
from reopen.recover.driver import Drive, drive
from reopen.recover.failover import FailoverResult, execute_failover, unfinished_plan
from reopen.recover.hookruns import ended_with_us
from reopen.recover.messages import Messenger
from reopen.recover.messages import committed as committed_notice
from reopen.recover.plan import PlanKind, RecoveryPlan, read_plan
from reopen.recover.planned import Prepared, execute_prepare
from reopen.recover.pulse import beating
from reopen.recover.reprotect import Reprotected, execute_reprotect, plan_reprotect
from reopen.recover.rollback import RollbackResult, commit, execute_rollback, plan_rollback, unwritten_rollback
from reopen.storage import open_small, open_store
from reopen.storage.throttle import throttled
from reopen.vault.keys import RECOVERY_KEY_HINT

QUIESCE_MAX = timedelta(hours=1)
"""How long writers are held where nobody says otherwise: longer than a final sync should take, and an hour of no
business is what most would rather end than go on with."""


def choose_move(
    session: Session, wish: Wish, *, scenario: Scenario, reason: str, quiesce_max: timedelta = QUIESCE_MAX
) -> Chosen:
    """The plan of a planned move that was begun and is not done, else a new one that prepares it.

    :raises Refused: the settings name no epoch log.
    :raises InvalidInput: no reason for a new move.
    :raises Conflict: another kind of move is under way, or there is nothing to move.
    """
    log, note = log_of(session), ""
    begun = unfinished_plan(log)
    if begun is not None and begun.scenario is not Scenario.MOVED:
        if begun.scenario is not scenario:
            raise Conflict(
                f"a move of another kind ({begun.scenario}) to {begun.target_site} is under way, by plan "
                f"{begun.digest[:16]}.",
                hint="Go on with that one (`reopen failover`), accept it (`reopen commit`), or end it "
                "(`reopen rollback`).",
            )
        note = why_anew(session, log, begun)
        if not note:
            return Chosen(plan=begun, log=log, begun=True)
    if not reason.strip():
        raise InvalidInput(
            f"{note} a {scenario} move needs a reason.".strip(), hint="Give one with --reason; it stands in the log."
        )
    plan = plan_of_wish(session, wish, scenario=scenario, prepares=True, quiesce_max=quiesce_max)
    if not plan.datasets:
        reasons = "; ".join(f"{item.dataset}: {item.reason}" for item in plan.left_out) or "there is no contract"
        raise Conflict(
            f"there is nothing to move to {plan.target_site}: {reasons}.",
            hint="`reopen status` shows what serves where.",
        )
    after = partial(plan_of_wish, session, wish, scenario=scenario)
    plan = foreseen_move(session, plan, home=wish.vault or plan.target_site, after=after)
    return Chosen(plan=plan, log=log, begun=False, note=note)


def carry_out(
    session: Session,
    chosen: Chosen,
    *,
    fence: Fence,
    reason: str,
    vault: str | None,
    progress: Progress,
    wait: WaitFor = wait_for_nobody,
    driver: Drive = drive,
    attended: Attended = Attended.NOBODY,
) -> FailoverResult:
    """Carry out a move, from its preparation or from where it is, to its end.

    :raises Refused: there is no recovery key here.
    :raises NotMoved: it ended before its fence; writers that were held are given back.
    """
    plan = chosen.plan
    home = vault or plan.target_site
    _require_readable(session, chosen, home)
    with (
        open_desk(session, vault=home, progress=progress, plan=plan, wait=wait, attended=attended) as context,
        beating(chosen.log.store, orchestrator=context.orchestrator, plan=plan.digest, clock=session.clock),
        ended_with_us(context.hooks.tell_all),
    ):
        if plan.kind is PlanKind.PREPARE:
            prepared = execute_prepare(
                plan, context, chosen.log, fence=fence, reason=reason, workers=SIDE_BY_SIDE, driver=driver
            )
            plan = plan_after(session, prepared, vault=vault)
        return execute_failover(
            plan, context, chosen.log, fence=fence, reason=reason, workers=SIDE_BY_SIDE, driver=driver
        )


def _require_readable(session: Session, chosen: Chosen, site: str) -> None:
    """Refuse to fence anybody where no dataset could be opened afterwards.

    :raises Refused: no recovery key is here, and the role has not moved yet.
    """
    plan = chosen.plan
    if session.vault(site).keyring.can_read_content or session.primary() == plan.target_site:
        return
    raise Refused(
        f"no recovery key is here, so nothing could be opened at {plan.target_site}. Nothing was moved.",
        hint=RECOVERY_KEY_HINT,
        site=plan.target_site,
    )


def failback_wish(session: Session, wish: Wish) -> Wish:
    """The wish of a failback: to the site that the settings call primary, unless one is named.

    :raises Conflict: that site has the role, and no failback is under way.
    """
    begun = unfinished_plan(log_of(session))
    if begun is not None and begun.scenario is Scenario.FAILBACK:
        # Its fence may be behind it, and the role at the target: it is gone on with all the same (I1).
        return replace(wish, to=begun.target_site)
    target = wish.to or session.settings.primary.name
    if session.primary() == target:
        raise Conflict(f"{target} has the role already.", hint="`reopen status` shows who is primary.")
    return replace(wish, to=target)


def plan_after(session: Session, prepared: Prepared, *, vault: str | None) -> RecoveryPlan:
    """The plan that goes on from a final sync (I2). Its clocks begin when the writers were held."""
    plan = prepared.plan
    wish = Wish(
        datasets=tuple(plan.dependencies),
        source=plan.source_site,
        to=plan.target_site,
        failed_at=prepared.quiesced_at,
        vault=vault,
    )
    return carried_over(plan_of_wish(session, wish, scenario=plan.scenario, prepared=prepared), prepared)


def choose_rollback(session: Session, *, reason: str) -> Chosen:
    """The roll-back that was begun and is not done, else a new one.

    :raises InvalidInput: no reason for a new one.
    :raises Conflict: there is nothing to roll back.
    """
    log = log_of(session)
    begun = unfinished_plan(log)
    if begun is None:
        begun = unwritten_rollback(log)
    if begun is not None and begun.scenario is Scenario.ROLLBACK:
        return Chosen(plan=begun, log=log, begun=True)
    if not reason.strip():
        raise InvalidInput("a roll-back needs a reason.", hint="Give one with --reason; it stands in the log.")
    if begun is not None and is_held(log, begun):
        # It has not reached its fence: there is no role to give back, but writers are held.
        return Chosen(plan=begun, log=log, begun=True)
    vault = session.vault().id
    plan = plan_rollback(log.records(), vault=vault, contracts=session.contracts.digest, now=session.clock.now())
    return Chosen(plan=plan, log=log, begun=False)


def is_held(log: EpochLog, plan: RecoveryPlan) -> bool:
    """Whether a plan holds writers and has not moved the role."""
    prepares = plan.kind is PlanKind.PREPARE or bool(plan.prepared)
    return prepares and tenure.is_quiesced(log.records())


def plan_to_approve(session: Session, named: str | None) -> tuple[EpochLog, RecoveryPlan]:
    """The log, and the plan that waits for approval, or the one whose digest begins as named.

    :raises NotFound: there is none, or the name fits several.
    """
    log = log_of(session)
    if named is None:
        begun = unfinished_plan(log)
        if begun is None or not begun.approvals:
            raise NotFound(
                "no plan waits for approval.", hint="`reopen failover` or `reopen failback` asks for it by its plan."
            )
        return log, begun
    fitting = [digest for digest in log.plans() if digest.startswith(named)]
    if len(fitting) != 1:
        raise NotFound(
            f"{len(fitting) or 'no'} plan{'' if not fitting else 's'} in the control store begin"
            f"{'' if fitting else 's'} with {named!r}.",
            hint="The digest stands in the message that asks for approval; 16 letters of it are enough.",
        )
    return log, read_plan(log.load_plan(fitting[0]), fitting[0])


def accept(session: Session, *, by: str, why: str) -> Committed:
    """Commit the failover that is done, and tell people."""
    log = log_of(session)
    committed = commit(log, by=by, why=why, orchestrator=new_id())
    with Messenger(AppriseNotifier(session.settings.notify)) as messenger:
        messenger.send(committed_notice(primary=session.primary(), epoch=committed.epoch, by=by, why=why))
        messenger.collect()
    return committed


def give_role_back(
    session: Session, chosen: Chosen, *, fence: Fence, reason: str, progress: Progress, driver: Drive = drive
) -> RollbackResult:
    """Carry out a roll-back, and list what the abandoned site wrote."""
    plan = chosen.plan
    vault = plan.target_site if plan.scenario is Scenario.ROLLBACK else plan.source_site
    with (
        open_desk(session, vault=vault, progress=progress, plan=plan) as context,
        beating(chosen.log.store, orchestrator=context.orchestrator, plan=plan.digest, clock=session.clock),
        ended_with_us(context.hooks.tell_all),
    ):
        return execute_rollback(
            plan, context, chosen.log, fence=fence, reason=reason, driver=driver,
            diverged=partial(_tried_diverged, session),
        )  # fmt: skip


def _tried_diverged(session: Session, site: str) -> tuple[Diverged, ...]:
    """What the abandoned site's own vault holds from the epoch that was given up; nothing where it is not reached."""
    records = log_of(session).records()
    try:
        vault = session.vault(site)
    except ReopenError:
        return ()
    return SeenByTheLog(vault, records, initial=session.settings.primary.name).diverged(site=site)


def reprotect(session: Session, *, reason: str, progress: Progress, by: str | None = None) -> Reprotected:
    """Turn replication round, and move the log away from the site that has the role now.

    :raises Conflict: no failover is committed.
    :raises Refused: the log would have to move, and the new standby has no control store in the settings.
    """
    # Imported here: it loads Arrow.
    from reopen.protect.replicate.replicate import execute_replicate, plan_replicate
    from reopen.recover.wiring import environment, evidence_signer

    settings, orchestrator = session.settings, new_id()
    finish_move(
        settings.control, open_store=open_small, clock=session.clock, by=orchestrator, memory=session.log_memory
    )
    log, primary, standby = log_of(session), session.primary(), session.standby()
    records = log.records()
    source = session.vault(primary)
    plan = plan_reprotect(
        records,
        primary=primary,
        standby=standby.name,
        vault=source.id,
        contracts=session.contracts.digest,
        now=session.clock.now(),
    )

    def replicate() -> dict[str, Any]:
        store = throttled(open_store(standby.vault), settings.limits.replicate_rate)
        result = execute_replicate(plan_replicate(source, store), workers=settings.limits.workers, progress=progress)
        return {
            "snapshots": result.snapshots,
            "objects": result.copied_objects,
            "size_bytes": result.copied_bytes,
            "present": result.present_objects,
        }

    return execute_reprotect(
        plan,
        log,
        replicate=replicate,
        next_url=next_home(session),
        open_store=open_small,
        orchestrator=orchestrator,
        reason=reason or "protect anew",
        by=by or getpass.getuser(),
        sign=evidence_signer(session.vault()),
        versions=environment(),
    )


def next_home(session: Session) -> str | None:
    """Where the log goes from the site that has the role; None where it is at another one.

    :raises Refused: it would have to move, and the new standby has no control store in the settings.
    """
    log, primary, standby = log_of(session), session.primary(), session.standby()
    epoch, home = rules.current_epoch(log.records()), session.site(primary).control
    at_primary = home is not None and (log.store.url == open_store(home).url or log.store.url.startswith(f"{home}/"))
    if not at_primary:
        return None
    if standby.control is None:
        raise Refused(
            f"the epoch log is at {primary}, which has the role: if it is lost, so is the log.",
            hint=f"Give [sites.{standby.name}] a 'control' in the settings of every site; then run this again.",
        )
    # A folder of its own: the site may have been a home before, and a closed log is kept as it is.
    return f"{standby.control}/epoch-{epoch + 1}"
