"""Owns the removal of versions that nobody needs any more.

Invariants (docs/0012-standby-versions.md)
    V6  What was promoted, what the link leads to, what an open plan names and the newest good version stay.

What goes is renamed under the lock, and deleted when the lock is given back; a deletion that was interrupted is
finished by the next run. Nothing but names that we gave is looked at. A store of objects has neither locks nor renames:
there :mod:`reopen.recover.standby.marks` takes two runs for it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

from reopen.control import rules
from reopen.control.log import EpochLog
from reopen.control.records import Epoch, Intent, Pinned, Record
from reopen.errors import NotFound
from reopen.recover.plan import RecoveryPlan, read_plan
from reopen.recover.standby.marks import remove_versions
from reopen.recover.standby.records import read_staged, remove_record
from reopen.recover.standby.versions import (
    LOCK_NAME,
    REMOVING_PREFIX,
    is_version,
    locked_versions,
    marked_versions,
    promoted_versions,
    versions_url,
)
from reopen.recover.tree import target_error
from reopen.storage import local_path


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaned:
    """Versions that were removed, by name."""

    versions: tuple[str, ...]


def clean_versions(log: EpochLog, *, site: str, place: str, dataset: str, keep: Collection[str]) -> Cleaned:
    """Remove versions of a dataset at a site, but for those to keep and those that must stay (V6).

    :param keep: the newest good version, and what else the caller needs.
    :raises TargetUnwritable: a folder cannot be renamed or removed.
    """
    if local_path(place) is None:
        return Cleaned(
            versions=remove_versions(
                place,
                dataset,
                stays=lambda: {*keep, *_needed(log, dataset)},
                forget=lambda version: remove_record(log.store, site, dataset, version),
            )
        )
    folder = versions_url(place, dataset)
    try:
        with locked_versions(place, dataset):
            # Read under the lock: a failover whose plan is not in the log by now takes this lock before it restores.
            stays = {*keep, *_needed(log, dataset), *marked_versions(place, dataset)}
            going = [name for name in sorted(os.listdir(folder)) if is_version(name) and name not in stays]
            for name in going:
                # Its record first: a version without one is nobody's, a record without a version misleads.
                remove_record(log.store, site, dataset, name)
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(folder, f"{LOCK_NAME}-{name}"))
                os.rename(os.path.join(folder, name), os.path.join(folder, REMOVING_PREFIX + name))
        for stored in read_staged(log.store, site, dataset)[0]:
            version = stored.record.staged.version
            if version not in stays and not os.path.isdir(os.path.join(folder, version)):
                remove_record(log.store, site, dataset, version)
        for name in sorted(os.listdir(folder)):
            if name.startswith(REMOVING_PREFIX):
                _remove(os.path.join(folder, name))
    except OSError as error:
        raise target_error(error, folder) from error
    return Cleaned(versions=tuple(going))


def _needed(log: EpochLog, dataset: str) -> set[str]:
    """Versions that the log says were promoted, or that an open plan names."""
    records = log.records()
    named = (plan.dataset(dataset).version for plan in open_plans(log, records) if dataset in plan.dependencies)
    return {*promoted_versions(records).get(dataset, ()), *named}


def open_plans(log: EpochLog, records: Sequence[Record]) -> tuple[RecoveryPlan, ...]:
    """Plans that were begun since the epoch that stands, that epoch's own included, and are not wholly done: their
    versions are in use. Those of earlier epochs cannot be gone on with."""
    newest = max((at for at, record in enumerate(records) if isinstance(record.value, Epoch)), default=0)
    named = dict.fromkeys(
        record.value.plan
        for record in records[newest:]
        if isinstance(record.value, (Epoch, Pinned, Intent)) and record.value.plan is not None
    )
    found = []
    for digest in named:
        if rules.is_concluded(records, digest):
            continue
        try:
            found.append(read_plan(log.load_plan(digest), f"plans/{digest}.json"))
        except NotFound:
            continue  # An epoch may quote a plan of a log before this one.
    return tuple(found)


def _remove(folder: str) -> None:
    """Remove a folder and all that is in it; restored folders may lack the right to be written."""
    for parent, names, _ in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)
    shutil.rmtree(folder)
