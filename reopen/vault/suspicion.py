"""Owns the suspicion that a snapshot holds data that somebody encrypted. Rules over numbers; no content is scanned.

A snapshot of encrypted data looks like this beside the one before: most files changed or were renamed at once, names
got a new ending, and what was new does not compress although this dataset's data did until then.

Invariants
    U1  There are two answers: *suspect* with reasons, and *unscanned*. Nothing here ever says clean: an encryption that
        goes slowly, keeps names or spares most files is not seen.
    U2  Reasons are judged against the dataset's own past: data that never compressed raises none by not compressing.
    U3  What a person cleared is no longer suspect, and is a measure for what comes after it.

What becomes of later snapshots is not judged here (:mod:`reopen.vault.clean`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from statistics import median
from typing import TYPE_CHECKING

from reopen.errors import Corrupt, NotFound
from reopen.vault.record import SnapshotRecord

if TYPE_CHECKING:
    from reopen.vault.vault import Vault

SUSPECT = "suspect"
UNSCANNED = "unscanned"

LOOKED_AT_MAX = 32
"""Newest snapshots of a dataset that are judged where somebody only wants to be told."""
FILES_MIN = 4
"""A change of fewer files than this is no pattern, unless they are all there are."""
CHANGED_SHARE = 0.5
RENAMED_SHARE = 0.2
RATIO_SUSPECT = 0.97
"""Stored bytes by new bytes from here on: what zstd makes of random bytes is no smaller."""
RATIO_USUAL_MAX = 0.9
BYTES_MIN = 64 << 10
"""New bytes below which a ratio says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """What is compared of two successive snapshots. ``changed`` counts files modified or removed of ``files_before``;
    ``renamed`` those whose name got a new ending. Ratios are stored by raw bytes, None where too little was new."""

    files_before: int
    changed: int
    renamed: int = 0
    ending: str = ""
    ratio: float | None = None
    ratio_before: float | None = None


def reasons_of(signals: Signals) -> tuple[str, ...]:
    """Why a snapshot is suspect; empty when nothing in these numbers says so."""
    if not signals.files_before:
        return ()
    changed = signals.changed / signals.files_before
    renamed = signals.renamed / signals.files_before
    enough = signals.changed >= min(FILES_MIN, signals.files_before)
    hard = (
        signals.ratio is not None
        and signals.ratio_before is not None
        and signals.ratio >= RATIO_SUSPECT
        and signals.ratio_before <= RATIO_USUAL_MAX
    )
    mass = enough and changed >= CHANGED_SHARE
    endings = enough and renamed >= RENAMED_SHARE
    if not endings and not (mass and hard):
        return ()
    reasons = []
    if mass:
        reasons.append(f"{signals.changed} of {signals.files_before} files changed or went at once")
    if endings:
        reasons.append(f"{signals.renamed} names got the ending {signals.ending or 'that none had before'}")
    if hard:
        reasons.append(
            f"new data does not compress ({signals.ratio:.2f}), earlier data did ({signals.ratio_before:.2f})"
        )
    return tuple(reasons)


def suspect_snapshots(vault: Vault, dataset: str) -> dict[str, tuple[str, ...]]:
    """The reasons by id of each snapshot among a dataset's newest that is suspect.

    A suspect snapshot is no measure for the next: that one is compared with the last one that was not.
    """
    from reopen.vault.clean import cleared_snapshots

    records = [record for record in vault.records(dataset) if record.state == "complete"]
    return judge_all(vault, records[-LOOKED_AT_MAX:], cleared=cleared_snapshots(records, vault.facts("clean", dataset)))


def judge_all(
    vault: Vault, records: Sequence[SnapshotRecord], *, cleared: Mapping[str, int], lenient: bool = False
) -> dict[str, tuple[str, ...]]:
    """The reasons by id of each of these snapshots that is suspect beside those before it.

    :param records: complete ones of one dataset, in the order of ``seq``.
    :param cleared: the ``seq`` of those that a person looked at, by id (U3); of expired ones too, because what comes
        next was compared with these when they were there.
    :param lenient: one that is damaged, so that it cannot be compared, is suspect, instead of an error.
    """
    found: dict[str, tuple[str, ...]] = {}
    trusted: list[SnapshotRecord] = []
    last_suspect: SnapshotRecord | None = None
    seen = 0
    for record in records:
        before, seen = seen, record.seq
        if record.id in cleared or any(before < seq < record.seq for seq in cleared.values()):
            trusted.append(record)
            last_suspect = None
            continue
        if last_suspect is not None and record.manifest == last_suspect.manifest:
            # Nothing changed since: what was suspect is so still.
            found[record.id] = found[last_suspect.id]
            continue
        try:
            reasons = reasons_of(_signals(vault, trusted, record)) if trusted else ()
        except (Corrupt, NotFound) as error:
            if not lenient:
                raise
            reasons = (f"it could not be compared with the one before: {error.message}",)
        if reasons:
            found[record.id] = reasons
            last_suspect = record
        else:
            trusted.append(record)
    return found


def _signals(vault: Vault, before: Sequence[SnapshotRecord], record: SnapshotRecord) -> Signals:
    last, totals = before[-1], record.totals
    usual = [ratio for earlier in before if (ratio := _ratio(earlier)) is not None]
    renamed, ending, changed = 0, "", totals.modified + totals.removed
    # The counts are against the snapshot before, which may be a suspect one; and names are read only where enough
    # changed that they could matter: a manifest may have millions.
    if record.seq != last.seq + 1 or (changed and changed >= RENAMED_SHARE * last.totals.files):
        names_before, names = _files(vault, last), _files(vault, record)
        renamed, ending = renamed_names(names_before.keys(), names.keys())
        changed = sum(names.get(name) != content for name, content in names_before.items())
    return Signals(
        files_before=last.totals.files,
        changed=changed,
        renamed=renamed,
        ending=ending,
        ratio=_ratio(record),
        ratio_before=median(usual) if usual else None,
    )


def renamed_names(before: Iterable[str], after: Iterable[str]) -> tuple[int, str]:
    """How many names went and are there with one more ending, and the ending that most of them got."""
    old, new = set(before), set(after)
    endings: dict[str, int] = {}
    for name in new - old:
        path = PurePosixPath(name)
        if path.suffix and str(path.with_suffix("")) in old - new:
            endings[path.suffix] = endings.get(path.suffix, 0) + 1
    ending = max(endings, key=lambda key: endings[key], default="")
    return sum(endings.values()), ending


def _ratio(record: SnapshotRecord) -> float | None:
    totals = record.totals
    return None if totals.new_raw_bytes < BYTES_MIN else totals.stored_bytes / totals.new_raw_bytes


def _files(vault: Vault, record: SnapshotRecord) -> dict[str, bytes]:
    """Content of each file (its chunks) by name."""
    table = vault.manifest(record).select(["path", "type", "chunks"])
    return {row["path"]: row["chunks"] for row in table.to_pylist() if row["type"] == "file"}
