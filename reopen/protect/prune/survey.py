"""Owns the survey of a vault for prune: which frames of which packs records need, and what no record names. Reads only.

Order: tombstones, listings of tables and leases, records, manifests, index, packs. Records come before the index, so
whatever a record that is seen relies on is seen; what comes later is younger than the grace.

Invariants
    I1  Whatever cannot be read or believed stops the survey, and with it prune (P6 of ``docs/0005-prune.md``).
    I2  What is needed is never judged too small: chunk ids are compared by their first 64 bits, and a chunk counts as
        needed in every pack that any index part claims for it. An accident costs space, not data.
    I3  Memory is 8 bytes a chunk reference, about 60 a frame and one manifest; no Python object a chunk or frame.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from reopen.errors import Corrupt, MadeByNewer, NotFound, Refused
from reopen.progress import SILENT, Progress
from reopen.protect.prune.frames import CountedIndex, Frames, Prefixes, is_in, owner_of, prefixes_of
from reopen.protect.retain.stubs import read_stubs
from reopen.protect.witness import Witness
from reopen.storage import ObjectInfo
from reopen.vault import SnapshotRecord, TableRef, Vault
from reopen.vault.canonical import open_envelope
from reopen.vault.record import record_name
from reopen.vault.statements import IndexStatement
from reopen.vault.tables import MANIFEST, chunk_layout
from reopen.vault.tombstones import Tombstone, read_tombstones

NOTHING_CHANGED = "Nothing was changed."


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A snapshot under way, as its lease says; ``over``: its record or void is there, so it relies on nothing more.
    ``snapshot`` is empty when the lease cannot be believed."""

    name: str
    dataset: str
    seq: int
    snapshot: str
    renewed_at: datetime
    over: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What there is, and what records need of it. ``packs`` are 32-byte ids; arrays beside it are aligned with it."""

    now: datetime
    packs: tuple[bytes, ...]
    sizes: NDArray[np.int64]
    modified_at: tuple[datetime, ...]
    marked: NDArray[np.bool_]
    origins: tuple[str, ...]
    """Of each pack the writer whose chunks it holds, as its index parts say; empty when none or several do."""
    under_way: NDArray[np.bool_]
    """Packs that an index part of a live lease's snapshot lists."""
    frames: Frames
    needed: Prefixes
    """Sorted: the first 64 bits of every chunk id that a record needs."""
    safe: NDArray[np.bool_]
    """Aligned with ``needed``: whether an unmarked pack holds it."""
    statements: tuple[IndexStatement, ...]
    tombstones: tuple[Tombstone, ...]
    leases: tuple[Lease, ...]
    named_tables: frozenset[str]
    """Parts of manifests and profiles that records name."""
    unreferenced: tuple[ObjectInfo, ...]
    """Those that no record names."""
    loose_rows: tuple[ObjectInfo, ...]
    """Parquet files of the index without a statement."""

    def number(self) -> dict[bytes, int]:
        """Of each pack its number."""
        return {pack: number for number, pack in enumerate(self.packs)}

    def is_needed(self, ids: NDArray[np.void]) -> NDArray[np.bool_]:
        """For each chunk id (``V32``) whether a record needs it."""
        return is_in(prefixes_of(np.ascontiguousarray(ids).view(np.uint8).reshape(-1, 32)), self.needed)[0]

    def is_safe(self, ids: NDArray[np.void]) -> bool:
        """Whether the index finds each of these needed chunks in a pack that is not marked."""
        found, at = is_in(prefixes_of(np.ascontiguousarray(ids).view(np.uint8).reshape(-1, 32)), self.needed)
        return bool(self.safe[at[found]].all())


class ManifestMemory:
    """What manifests need, remembered while one prune runs: parts are immutable and pinned by digest."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, ...], Prefixes] = {}

    def needed(self, vault: Vault, records: Iterable[SnapshotRecord], progress: Progress) -> Prefixes:
        """The sorted first 64 bits of every chunk id in the records' manifests.

        :raises Refused: a manifest is missing or damaged.
        """
        wanted: dict[tuple[str, ...], SnapshotRecord] = {}
        for record in records:
            wanted.setdefault(tuple(part.digest for part in record.manifest.parts), record)
        self._of = {key: found for key, found in self._of.items() if key in wanted}
        progress.start("read manifests", len(wanted), "manifests")
        for key, record in wanted.items():
            if key not in self._of:
                self._of[key] = _needed_by(vault, record)
            progress.advance(1)
        progress.finish()
        found = [*self._of.values(), np.zeros(0, dtype=np.uint64)]
        return np.unique(np.concatenate(found))


def survey(
    vault: Vault, *, witness: Witness | None, memory: ManifestMemory | None = None, progress: Progress = SILENT
) -> Survey:
    """Look at everything in a vault.

    :param witness: what this reader saw of the vault before.
    :raises Refused: a record or table is damaged or gone, or a needed chunk is nowhere (I1).
    :raises Corrupt: an index part or tombstone cannot be believed.
    """
    tombstones = read_tombstones(vault)
    tables = [*vault.store.list("manifests/"), *vault.store.list("profiles/")]
    leases_listed = list(vault.store.list("leases/"))
    records, names = _records(vault)
    if _gaps(vault, records, names, witness):
        # A listing is no picture of one moment: what was committed while it went on looks gone. The second is believed.
        records, names = _records(vault)
        _refuse_gaps(vault, _gaps(vault, records, names, witness))
    leases = tuple(_lease(vault, info, names) for info in leases_listed)
    named_tables = _named_tables(vault, records, tables)
    needed = (memory or ManifestMemory()).needed(vault, records, progress)
    marked = {pack for tombstone in tombstones for pack in tombstone.packs}
    counted = CountedIndex(vault, needed, marked, progress)
    safe = counted.safe | ~counted.found
    if not counted.found.all():
        raise Refused(
            f"{int((~counted.found).sum())} chunks that snapshots need are in no pack of {vault.store.url}. "
            f"{NOTHING_CHANGED}",
            hint="`reopen verify` names the files; `reopen repair` brings back what can be, else let the snapshots go.",
        )
    now = vault.store.now()
    live = {lease.snapshot for lease in leases if not lease.over}
    return Survey(
        now=now,
        packs=counted.packs,
        sizes=counted.sizes,
        modified_at=counted.modified_at,
        marked=counted.marked,
        origins=counted.origins,
        under_way=counted.listed_by(live),
        frames=counted.frames,
        needed=needed,
        safe=safe,
        statements=tuple(counted.statements),
        tombstones=tuple(tombstones),
        leases=leases,
        named_tables=named_tables,
        unreferenced=tuple(info for info in tables if info.name not in named_tables),
        loose_rows=tuple(info for info in counted.loose_rows if owner_of(info.name) not in live),
    )


def list_leases(vault: Vault) -> list[Lease]:
    """Every lease there is. Leases are listed before records: one whose record or void is there now is over."""
    listed = list(vault.store.list("leases/"))
    names = {info.name for info in vault.store.list("snapshots/")} if listed else set()
    return [_lease(vault, info, names) for info in listed]


def old_enough(modified_at: datetime, now: datetime, grace_seconds: float) -> bool:
    """Whether something is at least as old as the grace, by the store's time."""
    return now - modified_at >= timedelta(seconds=grace_seconds)


def _records(vault: Vault) -> tuple[list[SnapshotRecord], set[str]]:
    """Every record, and the names of all records and voids."""
    names = [info.name for info in vault.store.list("snapshots/")]
    records: list[SnapshotRecord] = []
    for name in names:
        try:
            record = vault.parse_record(name, vault.store.get(name))
        except NotFound:
            continue  # Let go since it was listed; its stub is in the ledger.
        except MadeByNewer as error:
            raise MadeByNewer(
                f"{error.message} Nobody can tell what it needs. {NOTHING_CHANGED}", object=name
            ) from error
        except Corrupt as error:
            raise Refused(
                f"{error.message} Nobody can tell what it needs. {NOTHING_CHANGED}",
                hint="`reopen repair --from SITE` takes it from a replica; `reopen verify` names every record that "
                "cannot be believed.",
                object=name,
            ) from error
        if record is not None:
            records.append(record)
    return records, set(names)


def _gaps(vault: Vault, records: list[SnapshotRecord], names: set[str], witness: Witness | None) -> list[str]:
    """Records that were there and are gone without leave."""
    stubs = read_stubs(vault)
    digests = {record.digest for record in records} | {stub.digest for stub in stubs.values()}
    heads = {f"snapshots/dataset={dataset}/{head}.json" for record in records for dataset, head in record.heads.items()}
    unknown = {f"what {record.name} followed" for record in records if record.prev and record.prev not in digests}
    return sorted(unknown | (heads - names - set(stubs))) + (witness.missing(vault) if witness is not None else [])


def _refuse_gaps(vault: Vault, gaps: list[str]) -> None:
    """Refuse a vault that lost records: their content looks unused, and would be lost for good."""
    if gaps:
        raise Refused(
            f"{vault.store.url} lacks {len(gaps)} records that were seen in it before; the first is {gaps[0]}. "
            f"{NOTHING_CHANGED}",
            hint="Nobody let them go: the vault was rolled back, or somebody removed them. "
            "`reopen repair --from SITE --dry-run` shows what a replica would bring back.",
            object=gaps[0],
        )


def _lease(vault: Vault, info: ObjectInfo, names: set[str]) -> Lease:
    dataset, seq, snapshot = "", 0, ""
    try:
        body, signer, signature = open_envelope(vault.store.get(info.name), info.name, "lease")
        vault.check_signature(body, signer, signature, ("writer",), info.name)
        dataset, seq, snapshot = str(body["dataset"]), int(body["seq"]), str(body["snapshot"])
    except NotFound:
        return Lease(name=info.name, dataset="", seq=0, snapshot="", renewed_at=info.modified_at, over=True)
    except (Corrupt, KeyError, TypeError, ValueError):
        pass  # Somebody is or was at work; who, it does not say. The sweep waits for it or refuses.
    over = bool(snapshot) and record_name(dataset, seq, snapshot) in names
    return Lease(name=info.name, dataset=dataset, seq=seq, snapshot=snapshot, renewed_at=info.modified_at, over=over)


def _named_tables(vault: Vault, records: list[SnapshotRecord], tables: list[ObjectInfo]) -> frozenset[str]:
    """Every part that a record names; all of them must be there, whole by their size."""
    named = {part.name: part for record in records for ref in _tables_of(record) for part in ref.parts}
    listed = {info.name: info.size_bytes for info in tables}
    for name, part in named.items():
        # A record that was committed after the tables were listed names parts that the listing lacks.
        size = listed.get(name)
        if size is None:
            size = _size_now(vault, name)
        if size != part.size:
            raise Refused(
                f"{name} is {'missing' if size is None else 'damaged'} in {vault.store.url}. {NOTHING_CHANGED}",
                hint="`reopen repair --from SITE` takes it from a replica; `reopen verify` names the snapshots that "
                "need it.",
                object=name,
            )
    return frozenset(named)


def _size_now(vault: Vault, name: str) -> int | None:
    try:
        return vault.store.head(name).size_bytes
    except NotFound:
        return None


def _tables_of(record: SnapshotRecord) -> tuple[TableRef, ...]:
    return (record.manifest,) if record.profile is None else (record.manifest, record.profile)


def _needed_by(vault: Vault, record: SnapshotRecord) -> Prefixes:
    try:
        ids, _, _ = chunk_layout(vault.table(record.manifest, MANIFEST))
    except (Corrupt, NotFound) as error:
        raise Refused(
            f"{error.message} So nobody can tell what snapshot {record.id} of {record.dataset} needs. "
            f"{NOTHING_CHANGED}",
            hint="`reopen repair --from SITE` takes it from a replica; else let the snapshot go.",
            dataset=record.dataset,
        ) from error
    return np.unique(prefixes_of(ids))
