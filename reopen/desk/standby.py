"""Owns the way from the settings to what a site has ready: for planning, staging, and the pointer of consumers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reopen.contracts.model import Temperature
from reopen.control import rules
from reopen.desk.session import Session
from reopen.errors import Conflict, Refused
from reopen.recover.plan import plan_failover
from reopen.recover.standby.records import Standby, read_staged
from reopen.recover.standby.versions import effective_temperatures, marked_versions, promoted_versions
from reopen.recover.standby.views import STAGED_DATABASE, make_views
from reopen.storage import open_store

if TYPE_CHECKING:
    from reopen.progress import Progress
    from reopen.recover.standby.pointer import Publisher
    from reopen.recover.standby.staging import StagePlan, StageResult

RunStage = Callable[[str, Callable[[], "StageResult"]], "StageResult"]
"""Calls the work of a dataset, given its name: for whoever watches it."""


def call(name: str, work: Callable[[], StageResult]) -> StageResult:
    """Do it here and now."""
    return work()


def standby_at(session: Session, target: str) -> Standby:
    """What planning has to know of a site: the epoch in which it acts or would act, names of versions that are used up,
    what is staged there. Without an epoch log nothing was ever promoted or staged."""
    contracts, log = session.contracts, session.log
    records = log.records() if log is not None else ()
    promoted = promoted_versions(records)
    places = {name: dataset.location(target).url for name, dataset in contracts.datasets.items()}
    return Standby(
        epoch=rules.epoch_of(records, target=target, initial=session.settings.primary.name),
        taken={name: promoted.get(name, frozenset()) | marked_versions(place, name) for name, place in places.items()},
        staged={}
        if log is None
        else {name: [item.record.staged for item in read_staged(log.store, target, name)[0]] for name in places},
        temperatures=effective_temperatures(contracts),
    )


def open_publisher(session: Session) -> Publisher | None:
    """What derives the consumers' pointer from the log; None where there is no log."""
    if session.log is None:
        return None
    # Imported here, because a plan is made without.
    from reopen.recover.standby.pointer import Publisher

    settings = session.settings
    return Publisher(
        session.log,
        session.contracts,
        folders={name: site.serving for name, site in settings.sites.items()},
        initial=settings.primary.name,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Staging:
    """What came of a run: a result for each dataset, and what could not be shown of hot ones."""

    plan: StagePlan
    results: tuple[StageResult, ...]
    views_problems: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything was staged or checked anew."""
        return any(result.work in ("stage", "check") for result in self.results)

    @property
    def ok(self) -> bool:
        """Whether everything that is to be ready is."""
        return all(result.ok for result in self.results)

    @property
    def problem(self) -> str:
        """What is not, in a line."""
        return "; ".join(f"{result.dataset}: {result.problem}" for result in self.results if not result.ok)


def choose_stage(session: Session, *, datasets: Sequence[str], vault: str | None, check: bool) -> StagePlan:
    """What there is to stage at this site now.

    :raises Refused: there is no epoch log, in whose store the records are.
    :raises Conflict: this site is the primary, or a failover to it is under way.
    """
    from reopen.recover.standby.staging import check_undisturbed, plan_stage
    from reopen.recover.wiring import EVIDENCE_ROLE, evidence_verifier

    log, site = session.log, session.settings.site
    if log is None:
        raise Refused(
            "staging needs the store of the epoch log.", hint="Add 'control' to the standby's section of the settings."
        )
    primary = session.primary()
    if primary == site:
        raise Conflict(
            f"{site} is the primary; what serves there needs no staging.",
            hint="Run it at the standby (REOPEN_SITE names the site of this machine).",
        )
    opened, standby, now = session.vault(vault), standby_at(session, site), session.clock.now()
    recovery = plan_failover(
        session.contracts,
        opened,
        source_site=primary,
        target_site=site,
        declared_at=now,
        failed_at=now,
        datasets=list(datasets) or None,
        standby=standby,
    )
    plan = plan_stage(
        recovery,
        session.contracts,
        standby,
        {dataset.name: read_staged(log.store, site, dataset.name)[0] for dataset in recovery.datasets},
        check=check,
        verify=evidence_verifier(opened),
        can_sign=opened.keyring.has_role(EVIDENCE_ROLE),
    )
    check_undisturbed(plan, log)
    return plan


def stage(session: Session, plan: StagePlan, *, vault: str | None, progress: Progress, run: RunStage = call) -> Staging:
    """Carry a plan out, and show what hot datasets have staged."""
    from reopen.desk.recovery import open_desk
    from reopen.recover.standby.staging import execute_stage

    assert session.log is not None
    with open_desk(session, vault=vault, progress=progress) as context:
        results = execute_stage(plan, context.verbs, session.log, clock=session.clock, sign=context.sign, run=run)
    return Staging(plan=plan, results=results, views_problems=_show_hot(session, plan, results))


def _show_hot(session: Session, plan: StagePlan, results: Sequence[StageResult]) -> tuple[str, ...]:
    ready = {result.dataset for result in results if result.status == "pass"}
    hot = {
        item.name: item.planned.target_url
        for item in plan.items
        if item.temperature is Temperature.HOT and item.name in ready
    }
    if not hot:
        return ()
    made = make_views(session.contracts, hot)
    open_store(session.settings.here.serving).put(STAGED_DATABASE, [made.data])
    return made.problems
