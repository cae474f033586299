"""Owns the way from the settings to what a site has ready: for planning, staging, and the pointer of consumers."""

from __future__ import annotations

from reopen.control import rules
from reopen.desk.session import Session
from reopen.recover.standby.pointer import Publisher
from reopen.recover.standby.records import Standby, read_staged
from reopen.recover.standby.versions import effective_temperatures, marked_versions, promoted_versions


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
    settings = session.settings
    return Publisher(
        session.log,
        session.contracts,
        folders={name: site.serving for name, site in settings.sites.items()},
        initial=settings.primary.name,
    )
