"""Owns the way from the settings to a look at a site: what it recovers from, where to, and who would be told."""

from __future__ import annotations

import getpass
import os
from datetime import datetime, timedelta
from functools import partial

from reopen.clock import to_the_second
from reopen.config.events import Event
from reopen.control import rules
from reopen.desk.heartbeat import Job
from reopen.desk.kit import check_kit
from reopen.desk.recovery import Wish, plan_wish
from reopen.desk.session import Session
from reopen.desk.watching import everybody_of
from reopen.errors import ReopenError
from reopen.notify.channels import AppriseNotifier
from reopen.notify.directory import list_channels, send_test
from reopen.notify.tried import recall_tried, remember_tried
from reopen.recover import alarms
from reopen.recover.context import Delivery, Notice
from reopen.recover.plan import RecoveryPlan
from reopen.recover.readiness import Mark, Readiness
from reopen.recover.readiness.assess import DEEP_SECONDS_MAX, QUICK_SECONDS_MAX, Surroundings, assess
from reopen.recover.readiness.connectivity import SILENT_LOOKS, WATCH, Channel
from reopen.recover.readiness.limit import within
from reopen.recover.readiness.model import describe
from reopen.recover.watch.memory import recall
from reopen.recover.wiring import environment
from reopen.storage import ObjectStore, looking
from reopen.vault import Vault

API_VARIABLE = "PREFECT_API_URL"
"""Where flows and workers find the orchestrator; the engine only asks whether it answers."""


@looking()
def assess_site(session: Session, *, site: str | None = None, send: bool = False) -> Readiness:
    """Look whether a site (None: the one that would take over) could take over now.

    :param send: send a test message to every channel.
    :raises NotFound: there is no such site.
    """
    target = session.site(site).name if site is not None else standby_of(session)
    plan = within(DEEP_SECONDS_MAX, "plan", lambda: plan_wish(session, Wish(to=target)))
    return assess(plan, _around(session, target, vault=target, deep=True, send=send))


def look_before(session: Session, plan: RecoveryPlan, *, vault: str | None) -> Readiness:
    """The look that is the first step of a recovery: it is quick, and asks nothing of the site that may be lost.

    :param vault: the site whose vault is read, this one when None.
    """
    return assess(plan, _around(session, plan.target_site, vault=vault, deep=False, send=False))


def standby_of(session: Session) -> str:
    """The site that would take over: the settings' standby, or after a failover the site that was left."""
    standby = session.settings.standby.name
    log = session.log
    records = () if log is None else within(QUICK_SECONDS_MAX, "log", log.records)
    if isinstance(records, ReopenError):
        return standby  # The check of the control store says so.
    epoch = rules.epoch_record(records)
    return epoch.previous_primary if epoch is not None and epoch.primary == standby else standby


def _around(session: Session, target: str, *, vault: str | None, deep: bool, send: bool) -> Surroundings:
    settings = session.settings
    return Surroundings(
        site=target,
        vault_url=session.site(vault).vault,
        open_vault=partial(session.vault, vault),
        open_control=partial(_control, session),
        open_source=partial(_source, session, target) if deep else None,
        keys_folder=settings.keys if target == settings.site else None,
        validation_memory=settings.limits.validation_memory,
        channels=partial(_channels, session, send=send),
        orchestrator_url=os.environ.get(API_VARIABLE, ""),
        watched=_watched(session, target) if deep else None,
        here=settings.site if deep else "",
        observed=_observed(session, target) if deep else None,
        kit=partial(_kit_problems, session) if deep else None,
        drill_every=_drill_every(session),
        versions=environment(),
        clock=session.clock,
        deep=deep,
    )


def _control(session: Session) -> ObjectStore:
    return session.control_store()


def _source(session: Session, target: str) -> Vault:
    """The vault of the site that would be left."""
    primary = session.primary()
    return session.vault(primary if primary != target else session.settings.primary.name)


def _watched(session: Session, target: str) -> tuple[datetime | None, timedelta] | None:
    """When this site last looked at the primary; None for another site, whose notes are there."""
    settings = session.settings
    if target != settings.site:
        return None
    primary = within(QUICK_SECONDS_MAX, "log", session.primary)
    if isinstance(primary, ReopenError):
        primary = settings.primary.name
    return recall(settings.home, primary).looked_at, settings.watch.every


def _channels(session: Session, *, send: bool) -> list[Channel]:
    settings, datasets = session.settings.notify, session.contracts_or_none.datasets.values()
    if not send:
        tried, now = recall_tried(session.settings.home), session.clock.now()
        return [
            Channel(
                name=found.name,
                problem=found.problem,
                tried=now - tried[found.name] if found.name in tried else None,
            )
            for found in list_channels(settings, datasets)
        ]
    sent = send_test(
        settings,
        datasets,
        event=Event.TEST,
        site=session.settings.site,
        by=getpass.getuser(),
        sent_at=to_the_second(session.clock.now()),
    )
    remember_tried(session.settings.home, sent, session.clock.now())
    return [Channel(name=delivery.channel, delivery=delivery) for delivery in sent]


def _observed(session: Session, target: str) -> dict[str, bool] | None:
    """Which of the watching site's jobs somebody outside waits for; None for another site, whose settings are there.
    Snapshots are production's."""
    if target != session.settings.site:
        return None
    return {job: bool(getattr(session.settings.heartbeat, job)) for job in (Job.WATCH, Job.VERIFY)}


def _drill_every(session: Session) -> dict[str, timedelta]:
    """How often each contract asks for a drill. Contracts that cannot be read are the plan's own finding."""
    try:
        datasets = session.contracts_or_none.datasets.values()
    except ReopenError:
        return {}
    return {dataset.name: dataset.drill_every for dataset in datasets if dataset.drill_every is not None}


def _kit_problems(session: Session) -> list[str]:
    found = check_kit(session)
    return [] if found.ok else [f"{item.name}: {item.detail}" if item.name else item.detail for item in found.problems]


def tell_unready(session: Session, found: Readiness) -> tuple[Delivery, ...]:
    """Tell people that a site could not take over now, and that its watch has fallen silent; else nobody is told."""
    notices = [] if found.ok else [_unready(session, found)]
    notices += _silence(session, found)
    tell = AppriseNotifier(session.settings.notify, clock=session.clock)
    return tuple(delivery for notice in notices for delivery in tell(notice))


def tell_silent(session: Session) -> tuple[Delivery, ...] | None:
    """Tell people that the watch at this site has fallen silent; None when it looked not long ago, or nobody is to be
    watched from here."""
    site, primary = session.settings.site, within(QUICK_SECONDS_MAX, "log", session.primary)
    if primary == site:
        return None
    watched = _watched(session, site)
    assert watched is not None, "a site knows its own notes"
    last_seen, every = watched
    if last_seen is not None and session.clock.now() - last_seen <= SILENT_LOOKS * every:
        return None
    notice = alarms.watch_silent(site=site, last_seen=last_seen, limit=every, contacts=everybody_of(session))
    return tuple(AppriseNotifier(session.settings.notify, clock=session.clock)(notice))


def _unready(session: Session, found: Readiness) -> Notice:
    failed = [(describe(check), check.what_to_do) for check in found.failed]
    return alarms.ready_failed(site=found.site, failed=failed, contacts=everybody_of(session))


def _silence(session: Session, found: Readiness) -> list[Notice]:
    """What is said of a watch that was heard of and is no more; of one that never was, the look itself says enough."""
    silent = any(check.name == WATCH and check.verdict is not Mark.OK for check in found.checks)
    watched = _watched(session, found.site) if silent else None
    if watched is None or watched[0] is None:
        return []
    last_seen, every = watched
    return [alarms.watch_silent(site=found.site, last_seen=last_seen, limit=every, contacts=everybody_of(session))]
