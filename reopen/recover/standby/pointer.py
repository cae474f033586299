"""Owns what consumers read: the links at the places of the primary site, ``serving.json`` and ``serving.duckdb``.

All of it is derived from the log (V2 of docs/0012-standby-versions.md) and nothing reads it to decide anything. A
:class:`Publisher` may be asked as often as one likes; asked twice it changes nothing.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from reopen.clock import to_text
from reopen.contracts.load import Contracts
from reopen.control import rules
from reopen.control.log import EpochLog
from reopen.control.records import Record
from reopen.errors import ReopenError
from reopen.recover.standby.links import point_place
from reopen.recover.standby.locate import Whereabouts, locate
from reopen.recover.standby.marks import mark_promoted
from reopen.recover.standby.versions import promoted_versions, version_of, version_url
from reopen.recover.standby.views import SERVING_DATABASE, make_views
from reopen.recover.tree import target_error
from reopen.storage import local_path, open_store
from reopen.storage.canonical import JsonObject, encode

SERVING_NAME = "serving.json"
FORMAT = 1
_LOCK_NAME = ".serving.lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What was derived. ``linked``: datasets whose place leads to a version now; ``kept``: where what stood at a place
    was moved; ``problems``: what could not be made, in words, none of it about a dataset that was asked for."""

    site: str
    epoch: int
    serving: str
    linked: Mapping[str, str]
    kept: Mapping[str, str]
    problems: tuple[str, ...]

    def as_details(self) -> dict[str, object]:
        """For the outcome of a step."""
        return {
            "serving": self.serving,
            "linked": dict(self.linked),
            "kept": dict(self.kept),
            "problems": list(self.problems),
        }


class Publisher:
    """Derives the pointer of a site from the log. Threads may share one."""

    def __init__(self, log: EpochLog, contracts: Contracts, *, folders: Mapping[str, str], initial: str) -> None:
        """
        :param folders: where each site keeps its pointer, by site.
        :param initial: the site that has the role before the first epoch record.
        """
        self._log = log
        self._contracts = contracts
        self._folders = folders
        self._initial = initial
        self._lock = threading.Lock()
        self._queries: dict[str, str] = {}

    def promoted(self, dataset: str, version: str) -> bool:
        """Whether a version was ever promoted: from then on it is the business's, and nothing of ours writes to it."""
        return bool(version) and version in promoted_versions(self._log.records()).get(dataset, ())

    def publish(self, datasets: Collection[str] = (), *, at: str | None = None) -> Published:
        """Make the pointer what the log says now.

        :param datasets: those whose link must be right afterwards; for others a failure is told in ``problems``.
        :param at: the site whose pointer is made; the primary's when None. Links are only at the primary.
        :raises ReopenError: the link of one of ``datasets``, or a file of the pointer, cannot be made.
        """
        with self._lock:
            primary = rules.primary_site(self._log.records(), initial=self._initial)
            folder = self._folders[at or primary]
            with _alone(folder):
                while True:
                    # Read under the lock, so that of two processes the later one has read the later log.
                    records = self._log.records()
                    made = self._make(records, folder, datasets, at=at or primary, whole=at in (None, primary))
                    # Without a lock the other may have read later and written earlier: whoever wrote last looks again.
                    if local_path(folder) is not None or len(self._log.records()) == len(records):
                        return made

    def _make(
        self, records: Sequence[Record], folder: str, datasets: Collection[str], *, at: str, whole: bool
    ) -> Published:
        found = locate(records, self._contracts, initial=self._initial)
        linked, kept, problems = _link(found, datasets) if whole else ({}, {}, [])
        store = open_store(folder)
        if whole:
            serving = {item.dataset: item.url for item in found if item.serves}
            made = make_views(self._contracts, serving, known=self._queries)
            problems += made.problems
            store.put(SERVING_DATABASE, [made.data])
        store.put(SERVING_NAME, [encode(serving_value(found))])
        return Published(
            site=at,
            epoch=rules.current_epoch(records),
            serving=f"{folder.rstrip('/')}/{SERVING_NAME}",
            linked=linked,
            kept=kept,
            problems=tuple(problems),
        )


def serving_value(found: Sequence[Whereabouts]) -> JsonObject:
    """What ``serving.json`` says: equal logs give equal bytes."""
    return {
        "format": FORMAT,
        "primary": found[0].site if found else "",
        "datasets": {
            item.dataset: {
                "url": item.url,
                "place": item.place,
                "epoch": item.epoch,
                "snapshot": item.snapshot,
                "consistent_at": None if item.consistent_at is None else to_text(item.consistent_at),
                "promoted_at": None if item.since is None else to_text(item.since),
            }
            for item in found
            if item.serves
        },
        "not_serving": {item.dataset: item.reason for item in found if not item.serves},
    }


def _link(found: Sequence[Whereabouts], required: Collection[str]) -> tuple[dict[str, str], dict[str, str], list[str]]:
    linked: dict[str, str] = {}
    kept: dict[str, str] = {}
    problems = []
    for item in found:
        place, version = local_path(item.place), version_of(item.url)
        if item.promotion is None or not version:
            continue
        mark: JsonObject = {"epoch": item.epoch, "promotion": item.promotion, "snapshot": item.snapshot or ""}
        if place is None:
            if problem := _mark_object(item, version, mark):
                problems.append(problem)
            continue
        if version_url(place, item.dataset, version) != local_path(item.url):
            problems.append(f"{item.dataset} was promoted as {item.url}, and its contract names {item.place} now")
            continue
        try:
            moved = point_place(place, item.dataset, version, epoch=item.epoch, mark=mark)
        except ReopenError as error:
            if item.dataset in required:
                raise
            problems.append(error.message)
            continue
        linked[item.dataset] = item.url
        if moved:
            kept[item.dataset] = moved
    return linked, kept, problems


def _mark_object(item: Whereabouts, version: str, mark: JsonObject) -> str:
    """Mark a version on a store of objects, which has no links; what was in the way, in words. The log says the same,
    so that nothing waits for the mark."""
    if version_url(item.place, item.dataset, version) != item.url:
        return f"{item.dataset} was promoted as {item.url}, and its contract names {item.place} now"
    try:
        mark_promoted(item.place, item.dataset, version, mark)
    except ReopenError as error:
        return f"{item.dataset} could not be marked as promoted: {error.message}"
    return ""


@contextmanager
def _alone(folder: str) -> Iterator[None]:
    """Only one process at a time writes a local pointer; on an object store whoever finds that the log went on while
    it wrote writes again."""
    path = local_path(folder)
    if path is None:
        yield
        return
    try:
        os.makedirs(path, exist_ok=True)
        descriptor = os.open(os.path.join(path, _LOCK_NAME), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise target_error(error, path) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
