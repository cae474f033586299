"""Owns the checks of the places that a recovery writes to: are they reached, and may we write there.

A probe of a few bytes is written beside where the data will be, read and removed. A folder that is not there yet is
not made for it: the nearest one above is tried instead.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from reopen.errors import NotFound, ReopenError, TargetUnwritable
from reopen.ids import new_id
from reopen.recover.plan import PlannedDataset
from reopen.recover.readiness.limit import side_by_side
from reopen.recover.readiness.model import UNKNOWN, Area, Check, Mark
from reopen.storage import ObjectStore, is_object_store, local_path, open_store
from reopen.storage.base import PROBE_FOLDER

PROBE = b"reopen was here to see whether it may write; this may be removed\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What a probe came to: where it was tried, and what stood in the way of writing, if anything."""

    where: str
    problem: str = ""
    hint: str = ""
    left_over: str = ""
    """A probe that could be written and not be removed."""


def check_targets(datasets: tuple[PlannedDataset, ...], *, seconds_max: float) -> list[Check]:
    """Two checks for each dataset, of the place that its plan names: ``target`` and ``target-write``."""
    places = {dataset.name: place_above(dataset.target_url) for dataset in datasets}
    # Many datasets lie side by side; each place is asked once.
    tried = side_by_side(seconds_max, {place: partial(try_place, place) for place in sorted(set(places.values()))})
    found = [check for name, place in places.items() for check in judge_place(name, place, tried)]
    return found + [_unchecked(dataset) for dataset in datasets if not _can_be_checked(dataset.target_url)]


def _can_be_checked(url: str) -> bool:
    return local_path(url) is not None or is_object_store(url)


def _unchecked(dataset: PlannedDataset) -> Check:
    """Said before the day: a restore to an SFTP or WebDAV server works, and a failover needs more than that."""
    value = "it can be restored here, and neither validated nor promoted: that needs a local folder or an object store"
    todo = "Give the dataset another place at this site, or mount the server there."
    return _check("target-kind", Area.CAPACITY, Mark.FAIL, f"{dataset.target_url}: {value}", todo, dataset.name)


def place_above(url: str) -> str:
    """The place that holds a dataset's folder: there new versions are made, and there a probe is in nobody's way."""
    path = local_path(url)
    if path is not None:
        return str(Path(path).parent)
    scheme, separator, rest = url.partition("://")
    above = rest.rstrip("/").rpartition("/")[0]
    return f"{scheme}{separator}{above}" if above else url


def judge_place(dataset: str, place: str, tried: Mapping[str, Tried | ReopenError]) -> list[Check]:
    """The two checks of a dataset, from what became of the probe at its place."""
    found = tried[place]
    if isinstance(found, ReopenError):
        todo = found.hint or "See that the place can be reached from this site, with the credentials at hand."
        return [
            _check("target", Area.CONNECTIVITY, Mark.FAIL, found.message, todo, dataset),
            _check("target-write", Area.SECURITY, Mark.WARN, f"{UNKNOWN}: not reached", todo, dataset),
        ]
    reached = _check("target", Area.CONNECTIVITY, Mark.OK, found.where, "", dataset)
    if found.problem:
        return [reached, _check("target-write", Area.SECURITY, Mark.FAIL, found.problem, found.hint, dataset)]
    if found.left_over:
        todo = "Give the credentials the right to delete there, and remove it: a restore replaces files."
        value = f"a probe was written and could not be removed: {found.left_over}"
        return [reached, _check("target-write", Area.SECURITY, Mark.FAIL, value, todo, dataset)]
    value = f"a probe was written and removed in {found.where}"
    return [reached, _check("target-write", Area.SECURITY, Mark.OK, value, "", dataset)]


def try_place(place: str) -> Tried:
    """Write, read and remove a probe at a place.

    :raises ReopenError: the place was not reached.
    """
    path = local_path(place)
    return try_store(open_store(place)) if path is None else try_folder(Path(path))


def try_folder(folder: Path) -> Tried:
    """Try a local folder, or the nearest above it that is there."""
    there = nearest_existing(folder)
    try:
        descriptor, name = tempfile.mkstemp(prefix=".reopen-probe-", dir=there)
    except OSError as error:
        return Tried(
            where=str(there),
            problem=f"nothing can be written in {there}: {error.strerror}",
            hint="Give the user that runs recoveries the right to write there, or name another place in the contract.",
        )
    try:
        os.write(descriptor, PROBE)
    except OSError as error:
        problem = f"nothing can be written in {there}: {error.strerror}"
        return Tried(where=str(there), problem=problem, hint="Free space there, or raise the quota.")
    finally:
        os.close(descriptor)
        Path(name).unlink()
    return Tried(where=str(there))


def nearest_existing(folder: Path) -> Path:
    """The folder itself, or the nearest above it that is there.

    :raises NotFound: a part of the way is no folder.
    """
    for candidate in (folder, *folder.parents):
        if candidate.is_dir():
            return candidate
        if candidate.exists() or candidate.is_symlink():
            raise NotFound(f"{candidate} is no folder.", hint="Remove it, or name another place in the contract.")
    raise NotFound(f"no folder above {folder} is there.", hint="Mount its disk, or correct the place in the contract.")


def try_store(store: ObjectStore) -> Tried:
    """Try a store of objects."""
    name = f"{PROBE_FOLDER}ready-{new_id()}"
    # That there is no such object is an answer, and an answer is what was asked for.
    with contextlib.suppress(NotFound):
        store.head(name)
    try:
        store.put(name, [PROBE])
        if store.get(name) != PROBE:
            hint = "Nothing restored there could be trusted: have the storage checked, or name another place."
            raise TargetUnwritable(f"{store.url} gave other bytes back than were written.", hint=hint, object=name)
    except ReopenError as error:
        return Tried(where=store.url, problem=error.message, hint=error.hint)
    try:
        store.delete(name)
    except ReopenError:
        return Tried(where=store.url, left_over=name)
    return Tried(where=store.url)


def _check(name: str, area: Area, mark: Mark, value: str, what_to_do: str, dataset: str) -> Check:
    return Check(name=name, area=area, verdict=mark, value=value, what_to_do=what_to_do, dataset=dataset)
