"""Owns the way from what an operator asks of a recovery to its plan, its fence and the wired engine.

Invariants
    I1  Without a named target the business reopens at the standby, never at the settings' primary: asking twice (two
        alerts, two people) must not fail back over data that lives.
    I2  What was promoted in the epoch that stands is never restored over.
    I3  A failover that was begun is gone on with by its own plan; naming datasets or another recovery point asks for a
        plan of their own.
"""

from __future__ import annotations

import getpass
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from copy import copy
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from reopen.control import rules, tenure
from reopen.control.log import EpochLog
from reopen.control.records import Fence, FenceLevel, Scenario
from reopen.desk.forecast import forecaster, loss_counter
from reopen.desk.session import Session
from reopen.desk.standby import open_publisher, standby_at
from reopen.errors import Conflict, InvalidInput, Refused, ReopenError
from reopen.progress import Progress
from reopen.recover.automatic import is_sure
from reopen.recover.checks import Validator
from reopen.recover.context import Attended, RecoveryContext, WaitFor, patience_for, wait_for_nobody
from reopen.recover.diverged import Diverged, SeenByTheLog
from reopen.recover.failover import unfinished_plan
from reopen.recover.foresee import foresee
from reopen.recover.hooks import HookKind, SiteHooks
from reopen.recover.plan import RecoveryPlan, plan_failover
from reopen.recover.planned import Prepared
from reopen.recover.points import LAST_VERIFIED
from reopen.recover.roles import Move
from reopen.recover.steps import Verb
from reopen.storage.throttle import throttled

if TYPE_CHECKING:
    from reopen.recover.source import SiteSource
    from reopen.vault import Vault

SIDE_BY_SIDE = 2
"""Datasets of a tier that are recovered at the same time: restoring is bound by the store, checking by the cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked of a failover. ``datasets``: these and what they need, all when empty; ``source``: the lost site,
    else the primary; ``to``: where it reopens, else the standby; ``failed_at``: now when None; ``vault``: the site
    whose vault is read, else the target's."""

    datasets: Sequence[str] = ()
    point: str = LAST_VERIFIED
    source: str | None = None
    to: str | None = None
    failed_at: datetime | None = None
    vault: str | None = None
    automatic: bool = False
    """Nobody asked for it: approval is needed but where the contracts allow a failover without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The plan to follow, the log it is followed in, and whether an earlier run had begun it."""

    plan: RecoveryPlan
    log: EpochLog
    begun: bool
    note: str = ""
    """What whoever asked should know of this choice."""


def choose_failover(session: Session, wish: Wish, *, reason: str) -> Chosen:
    """The plan of the failover that was begun and is not done, else a new one (I3).

    :raises Refused: the settings name no epoch log.
    :raises InvalidInput: no reason for a new failover.
    :raises Conflict: there is nothing left to recover at the target.
    """
    log, note = log_of(session), ""
    begun = unfinished_plan(log) if not wish.datasets and wish.point == LAST_VERIFIED else None
    if begun is not None and begun.scenario is Scenario.ROLLBACK:
        raise Conflict("a roll-back is under way.", hint="`reopen rollback` goes on with it.")
    if begun is not None and (begun.scenario is Scenario.UNPLANNED or _has_role(log, begun)):
        # A planned move that has not reached its fence is not gone on with: its source is what was lost.
        note = why_anew(session, log, begun)
        if not note:
            return Chosen(plan=begun, log=log, begun=True)
    if not reason.strip():
        raise InvalidInput(
            f"{note} a failover needs a reason.".strip(), hint="Give one with --reason; it stands in the log."
        )
    plan = foreseen(session, wish)
    if not plan.datasets:
        reasons = "; ".join(f"{item.dataset}: {item.reason}" for item in plan.left_out) or "there is no contract"
        raise Conflict(
            f"there is nothing to recover at {plan.target_site}: {reasons}.",
            hint="`reopen status` shows who is primary; to fail over to another site, name it with --to.",
        )
    return Chosen(plan=plan, log=log, begun=False, note=note)


def why_anew(session: Session, log: EpochLog, begun: RecoveryPlan) -> str:
    """Why a plan that was begun is not gone on with: it has touched nothing yet, and would fail every dataset whose
    contract was changed after it was made. Empty where it is gone on with."""
    if _has_role(log, begun) or tenure.is_quiesced(log.records()):
        return ""
    known = session.contracts.datasets
    changed = [
        d.name for d in begun.datasets if d.name not in known or known[d.name].contract_digest != d.contract.digest
    ]
    if not changed:
        return ""
    anew = "this is another plan, which needs an approval of its own" if begun.approvals else "it is planned anew"
    return f"the contract of {', '.join(changed)} was changed after plan {begun.digest[:16]} was made: {anew}."


def plan_wish(session: Session, wish: Wish) -> RecoveryPlan:
    """The plan of a failover as it would begin now; it needs no epoch log."""
    return plan_of_wish(session, wish)


def foreseen(session: Session, wish: Wish) -> RecoveryPlan:
    """The plan of a failover with what is lost and how long it will take, which changes from hour to hour and takes a
    look at every vault. What is to come in a planned move says :mod:`reopen.desk.pending`."""
    plan = plan_wish(session, wish)
    home = wish.vault or plan.target_site
    return foresee(
        plan,
        session.vault(home),
        count_loss=loss_counter(session, home),
        forecast=forecaster(session, workers=SIDE_BY_SIDE),
    )


def predicted_plan(session: Session) -> RecoveryPlan | None:
    """The failover that would begin now, with when each dataset would serve; None where none can be planned or nothing
    can be predicted yet."""
    try:
        forecast = forecaster(session, workers=SIDE_BY_SIDE)
        if forecast is None:
            return None
        plan = plan_wish(session, Wish())
        return foresee(plan, session.vault(plan.target_site), forecast=forecast)
    except ReopenError:
        return None


def plan_of_wish(
    session: Session,
    wish: Wish,
    *,
    scenario: Scenario = Scenario.UNPLANNED,
    prepares: bool = False,
    prepared: Prepared | None = None,
    quiesce_max: timedelta | None = None,
) -> RecoveryPlan:
    """The plan of a move of the role.

    :param prepares: it ends with the final sync; ``prepared`` is the one whose final sync this goes on from.
    """
    source, target, served = _direction(session, wish)
    now = wish.failed_at if prepared is not None and wish.failed_at is not None else session.clock.now()
    records = session.log.records() if session.log is not None else ()
    hooks = session.site(target).hooks
    home = wish.vault or target
    vault = SeenByTheLog(session.vault(home), records, initial=session.settings.primary.name)
    return plan_failover(
        session.contracts,
        vault,
        source_site=source,
        target_site=target,
        declared_at=now,
        failed_at=wish.failed_at or now,
        point=wish.point,
        points=None if prepared is None else prepared.points,
        datasets=list(wish.datasets) or None,
        served=served,
        standby=standby_at(session, target),
        prepares=prepares,
        move=Move(
            scenario=scenario,
            automatic=wish.automatic,
            unsure=wish.automatic and not is_sure(session.settings.sites, source=source, target=target),
            opens=HookKind.UNFENCE in hooks or HookKind.UNQUIESCE in hooks,
            prepared="" if prepared is None else prepared.plan.digest,
            quiesce_max=quiesce_max if prepared is None else prepared.plan.quiesce_max,
        ),
    )


def log_of(session: Session) -> EpochLog:
    """The epoch log. :raises Refused: the settings name none."""
    if session.log is None:
        raise Refused("this needs the epoch log.", hint="Add 'control' to the standby's section of the settings.")
    return session.log


@contextmanager
def open_desk(
    session: Session,
    *,
    vault: str | None,
    progress: Progress,
    plan: RecoveryPlan | None = None,
    drilled: RecoveryPlan | None = None,
    wait: WaitFor = wait_for_nobody,
    attended: Attended = Attended.NOBODY,
) -> Iterator[RecoveryContext]:
    """The engine wired to the vault of a site (this one's when None), its checks and its channels.

    :param plan: of a failover, whose sites have hooks and whose source can be asked; a drill names none.
    :param drilled: the plan of a drill.
    :param wait: how long, and beside what, people's approval is waited for.
    :param attended: who watches, and so whether a decision about what failed is waited for.
    """
    settings = session.settings
    validator = Validator(
        work=settings.home / "validation", memory_limit=settings.limits.validation_memory, clock=session.clock
    )
    with closing(validator):
        if _checks_come_first(session, plan or drilled):
            validator.start()
        with _wired(session, validator, vault=vault, progress=progress) as context:
            context = replace(context, patience=patience_for(settings.recovery.decide_within, attended))
            if plan is None:
                yield context
                return
            hooks = {site.name: site.hooks for site in settings.sites.values()}
            yield replace(
                context,
                hooks=SiteHooks(hooks, folder=settings.base, clock=session.clock, home=settings.home),
                source=_source_of(session, plan, vault, progress),
                diverged=partial(_diverged, session, vault or plan.target_site),
                wait=wait,
            )


def _checks_come_first(session: Session, plan: RecoveryPlan | None) -> bool:
    """Whether a plan begins by restoring tables, so that the engine of the checks is imported from its first moment,
    beside our own imports. Where the first tier is staged nothing may take the cores from its promotion, and
    before an approval it would sit idle."""
    if plan is None or plan.approvals or all(step.verb is not Verb.RESTORE for step in plan.steps):
        return False
    contracts = session.contracts.datasets
    return any(
        dataset.point is not None
        and dataset.staged is None
        and (contract := contracts.get(dataset.name)) is not None
        and contract.table is not None
        for dataset in plan.tier(plan.tiers[0])
    )


def _wired(
    session: Session, validator: Validator, *, vault: str | None, progress: Progress
) -> AbstractContextManager[RecoveryContext]:
    # Imported here: it loads Arrow, and a plan is made without.
    from reopen.desk.readiness import look_before
    from reopen.notify.channels import AppriseNotifier
    from reopen.recover.wiring import wire

    settings = session.settings
    return wire(
        session.contracts,
        _paced(session.vault(vault), settings.recovery.rate),
        validator=validator,
        validation_memory=settings.limits.validation_memory,
        threads=settings.limits.workers,
        look=partial(look_before, session, vault=vault),
        notify=AppriseNotifier(settings.notify),
        progress=progress,
        clock=session.clock,
        publisher=open_publisher(session),
        control=None if session.log is None else session.log.store,
    )


def _diverged(session: Session, vault: str, site: str) -> tuple[Diverged, ...]:
    records = session.log.records() if session.log is not None else ()
    return SeenByTheLog(session.vault(vault), records, initial=session.settings.primary.name).diverged(site=site)


def _source_of(session: Session, plan: RecoveryPlan, vault: str | None, progress: Progress) -> SiteSource:
    from reopen.protect.standing import standing_at
    from reopen.recover.source import SiteSource

    site, settings = plan.source_site, session.settings
    return SiteSource(
        site,
        session.as_served(site),
        source=lambda: session.vault(site),
        target=lambda: session.vault(vault or plan.target_site),
        standing=lambda: standing_at(session.log, site=site, primary=settings.primary.name),
        workers=settings.limits.workers,
        rate=settings.limits.replicate_rate,
        progress=progress,
    )


def _paced(vault: Vault, rate: str) -> Vault:
    """The vault, read no faster than a rate by everything that is handed it; itself where the text is empty."""
    if not rate:
        return vault
    paced = copy(vault)
    paced.store = throttled(vault.store, rate)
    return paced


def fence_of(*, asserted: str, accepted_risks: Sequence[str], by: str | None) -> Fence:
    """The fence as an operator gives it: asserted with a reason, else cooperative with the risks that are accepted.

    :raises InvalidInput: there is no risk of such a name; a misspelt one would look as if it had been accepted.
    """
    for risk in accepted_risks:
        if risk != rules.RISK_OLD_PRIMARY:
            raise InvalidInput(
                f"{risk!r} is no risk; allowed: {rules.RISK_OLD_PRIMARY}.", hint="Correct --accept-risk."
            )
    level = FenceLevel.ASSERTED if asserted else FenceLevel.COOPERATIVE
    return Fence(level=level, by=by or getpass.getuser(), why=asserted, accepted_risks=tuple(accepted_risks))


def _has_role(log: EpochLog, plan: RecoveryPlan) -> bool:
    return rules.primary_site(log.records(), initial=plan.source_site) == plan.target_site


def _direction(session: Session, wish: Wish) -> tuple[str, str, dict[str, str]]:
    """The site that is lost, the one that takes over, and what serves there already (I1, I2)."""
    target = session.site(wish.to).name if wish.to is not None else session.settings.standby.name
    records = session.log.records() if session.log is not None else ()
    primary = rules.primary_site(records, initial=session.settings.primary.name)
    epoch = rules.epoch_record(records)
    if primary != target:
        return session.site(wish.source).name if wish.source is not None else primary, target, {}
    if epoch is None:
        raise Conflict(f"{target} is the primary already.", hint="Name where it reopens with --to.")
    # The role has moved; what was promoted in this epoch serves, the rest can be tried again.
    served = {
        name: serving.promoted.url for name, serving in rules.serving(records).items() if serving.epoch == epoch.epoch
    }
    return epoch.previous_primary, target, served
