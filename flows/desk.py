"""Owns what a recovery flow has on its desk before it begins: the settings' places, the plan, and the wired engine.

The same answers to the same questions as the command line gives (:mod:`reopen.cli.recovery`).
"""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager

from flows.requests import DrillRequest, FailoverRequest
from reopen.cli.session import Session, open_session
from reopen.control import rules
from reopen.control.log import EpochLog
from reopen.control.records import Fence, FenceLevel
from reopen.errors import Conflict, InvalidInput, NotFound, Refused
from reopen.notify.channels import AppriseNotifier
from reopen.recover.context import RecoveryContext
from reopen.recover.drill import drill_folder
from reopen.recover.failover import unfinished_plan
from reopen.recover.plan import RecoveryPlan, plan_drill, plan_failover
from reopen.recover.wiring import wire
from tasks.watching import callers_progress

SIDE_BY_SIDE = 2
"""Datasets of a tier that are recovered at the same time: restoring is bound by the store, checking by the cores."""


@contextmanager
def open_desk(session: Session, *, vault: str | None) -> Iterator[RecoveryContext]:
    """The engine wired to the vault of a site (this one's when None), its checks and its channels."""
    settings = session.settings
    with wire(
        session.contracts,
        session.vault(vault),
        work=settings.home / "validation",
        validation_memory=settings.limits.validation_memory,
        threads=settings.limits.workers,
        notify=AppriseNotifier(settings.notify.urls),
        progress=callers_progress(),
        clock=session.clock,
    ) as context:
        yield context


def plan_of_failover(request: FailoverRequest) -> tuple[Session, EpochLog, RecoveryPlan]:
    """The plan to follow: of the failover that was begun and is not done, else a new one.

    :raises Refused: the settings name no epoch log.
    :raises InvalidInput: no reason.
    :raises Conflict: the site that would take over is the primary already.
    """
    session = open_session(request.config)
    if session.log is None:
        raise Refused("a failover needs the epoch log.", hint="Add 'control' to the standby's section of the settings.")
    plan = unfinished_plan(session.log)
    if plan is not None:
        return session, session.log, plan
    if not request.reason.strip():
        raise InvalidInput("a failover needs a reason.", hint="Give one; it stands in the log.")
    source, target = _sites(session, request)
    places = {name: dataset.location(target).url for name, dataset in session.contracts.datasets.items()}
    now = session.clock.now()
    plan = plan_failover(
        session.contracts,
        session.vault(request.vault or target),
        source_site=source,
        target_site=target,
        declared_at=now,
        failed_at=now if request.failed_at is None else request.failed_at,
        point=request.point,
        datasets=request.datasets or None,
        # What serves at the target already needs no recovery and is never restored over.
        served={
            name: serving.promoted.url
            for name, serving in rules.serving(session.log.records()).items()
            if places.get(name) == serving.promoted.url
        },
    )
    return session, session.log, plan


def plan_of_drill(request: DrillRequest, identifier: str) -> tuple[Session, str, RecoveryPlan]:
    """The plan of a drill, and the scratch folder of the site that it runs at: this one, or the standby."""
    session = open_session(request.config)
    settings = session.settings
    target = settings.here if settings.here.scratch is not None else settings.standby
    if target.scratch is None:
        raise InvalidInput(
            f"{target.name} has no scratch folder.", hint=f"Add 'scratch' to [sites.{target.name}] in the settings."
        )
    plan = plan_drill(
        session.contracts,
        session.vault(request.vault),
        source_site=settings.primary.name,
        target_site=target.name,
        scratch=drill_folder(target.scratch, identifier),
        started_at=session.clock.now(),
        point=request.point,
        datasets=_of_tier(session, request),
    )
    return session, target.scratch, plan


def failover_fence(request: FailoverRequest) -> Fence:
    """The fence as the request has it: asserted with a reason, else cooperative with the risks that are accepted."""
    by = request.by or getpass.getuser()
    level = FenceLevel.ASSERTED if request.assert_fenced else FenceLevel.COOPERATIVE
    return Fence(level=level, by=by, why=request.assert_fenced, accepted_risks=tuple(request.accept_risk))


def next_epoch(log: EpochLog, plan: RecoveryPlan) -> int:
    """The epoch in which a plan's target acts: the next one, or the current one when the role has moved already."""
    records = log.records()
    moved = rules.primary_site(records, initial=plan.source_site) == plan.target_site
    return rules.current_epoch(records) + (0 if moved else 1)


def _sites(session: Session, request: FailoverRequest) -> tuple[str, str]:
    """The site that is lost and the one that takes over: this one, unless another is named.

    A failover that is asked for twice (two alerts, two people) must not move the role back to the site that was lost.
    """
    source = session.primary() if request.source is None else session.site(request.source).name
    target = session.settings.site if request.to is None else session.site(request.to).name
    if source == target:
        raise Conflict(
            f"{target} is the primary already.",
            hint="`reopen status` shows what serves. To move the role elsewhere, name the site that takes over.",
        )
    return source, target


def _of_tier(session: Session, request: DrillRequest) -> tuple[str, ...] | None:
    if request.tier is None:
        return request.datasets or None
    tiers = session.contracts.effective_tiers()
    chosen = tuple(
        name
        for name, tier in tiers.items()
        if tier == request.tier and (not request.datasets or name in request.datasets)
    )
    if not chosen:
        hint = f"Tiers: {', '.join(map(str, sorted(set(tiers.values()))))}."
        raise NotFound(f"no dataset of tier {request.tier} was asked for.", hint=hint)
    return chosen
