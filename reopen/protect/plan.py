"""Owns the plan of a snapshot: what changed since the last one, and in which shards it is read. Reads only.

Invariants
    I1  A file is carried over unread only when size, mtime and, where there are, ctime, inode and ETag are equal, it
        was read whole and calm the last time, its mtime is not within :data:`RACY_SECONDS` of that scan, and every
        chunk of it is in a pack that is present and trusted.
    I2  Work is grouped by bytes, never by count of files alone: a shard is seconds of work, and there are at most
        :data:`SHARDS_MAX`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reopen.contracts.model import Dataset
from reopen.contracts.servers import overlap
from reopen.errors import Corrupt, InvalidInput, NotFound
from reopen.protect.lease import newest_seq
from reopen.protect.profiles import matches
from reopen.sources.files import FileSource, open_source
from reopen.storage.entries import names_of
from reopen.vault import SnapshotRecord, Vault
from reopen.vault.index import NOT_FOUND, ChunkIndex
from reopen.vault.indexcache import IndexCache
from reopen.vault.indexparts import load_writer_index
from reopen.vault.tables import MANIFEST, chunk_layout

RACY_SECONDS = 2
"""The coarsest timestamps of file systems in use (FAT): a file written within this of a scan may have been written
again, after it was read, without a visible change."""

SHARD_BYTES = 256 << 20
SHARD_FILES = 20_000
SHARDS_MAX = 200

STAMP_COLUMNS = ("type", "size_bytes", "mtime_s", "mtime_ns", "ctime_ns", "inode", "etag")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A run of files to read, in path order: their rows in the scan, raw names and sizes as the scan saw them. It is a
    value that another process can work on."""

    number: int
    rows: NDArray[np.int64]
    names: pa.Array
    sizes: NDArray[np.int64]

    @property
    def size_bytes(self) -> int:
        """Bytes of all its files."""
        return int(self.sizes.sum())


class Reading(Protocol):
    """What the reading of shards has to know: where the files are, and which chunks need not be stored again."""

    @property
    def dataset(self) -> Dataset:
        """The dataset that is read."""
        ...

    @property
    def site(self) -> str:
        """Where it is read."""
        ...

    @property
    def source(self) -> FileSource:
        """Its files."""
        ...

    @property
    def index(self) -> ChunkIndex:
        """What need not be stored again."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotPlan:
    """What a snapshot will do. ``parent`` is the newest record, which the new one follows; ``base`` the one it is
    compared with: the same, unless the parent's tables are damaged (then ``note`` says so). ``base_row`` maps each
    scanned row to the base's manifest (-1: new); ``carried`` marks rows taken over unread; ``cache`` is kept for
    planning again."""

    dataset: Dataset
    site: str
    source: FileSource
    scan: pa.Table
    scan_started_at: datetime
    scan_ended_at: datetime
    parent: SnapshotRecord | None
    base: SnapshotRecord | None
    base_manifest: pa.Table
    base_row: NDArray[np.int64]
    carried: NDArray[np.bool_]
    removed: int
    next_seq: int
    shards: tuple[Shard, ...]
    index: ChunkIndex
    cache: IndexCache | None = None
    note: str = ""

    @property
    def read_files(self) -> int:
        """How many files will be read."""
        return sum(len(shard.rows) for shard in self.shards)

    @property
    def read_bytes(self) -> int:
        """How many bytes will be read, as the scan saw them."""
        return sum(shard.size_bytes for shard in self.shards)


def plan_snapshot(
    vault: Vault, dataset: Dataset, site: str, *, cache: IndexCache | None = None, processes: int = 1
) -> SnapshotPlan:
    """Scan a dataset at a site and compare it with the newest snapshot in the vault.

    :param cache: this site's memory of the index; ``None`` reads all of it from the vault.
    :param processes: how many processes may scan a large tree; 0 stands for one a core.
    :raises NotFound: the dataset's folder does not exist, or the contract has no location at the site.
    :raises InvalidInput: the vault lies in the dataset's folder, or the folder in the vault.
    """
    if overlap(dataset.location(site).url, vault.store.url):
        raise InvalidInput(
            f"{vault.store.url}, the vault, and {dataset.location(site).url}, the place of {dataset.name}, lie in each "
            "other, so each snapshot would copy the copies.",
            hint="Name a place for the vault in the settings that is in no dataset's folder, or correct the contract.",
        )
    source = open_source(dataset.location(site).url, include=dataset.include, exclude=dataset.exclude)
    parent = vault.newest(dataset.name)
    started_at = vault.clock.now()
    scan = source.scan(processes=processes or os.cpu_count() or 1)
    ended_at = vault.clock.now()
    index = load_trusted_index(vault, cache)
    base, manifest, note = read_base(vault, parent)
    base_row = match_rows(scan, manifest)
    carried = _carried(scan, manifest, base_row, base, index)
    if dataset.table is not None and base is not None and base.profile is None:
        # The contract gained a table since: its files are read once more, to be profiled.
        carried &= ~_in_table(scan, dataset.location(site).pattern)
    return SnapshotPlan(
        dataset=dataset,
        site=site,
        source=source,
        scan=scan,
        scan_started_at=started_at,
        scan_ended_at=ended_at,
        parent=parent,
        base=base,
        base_manifest=manifest,
        base_row=base_row,
        carried=carried,
        removed=manifest.num_rows - int((base_row >= 0).sum()),
        # Voids count too: a seq is never used twice.
        next_seq=1 + newest_seq(vault, dataset.name),
        shards=make_shards(scan, carried),
        index=index,
        cache=cache,
        note=note,
    )


def read_base(vault: Vault, parent: SnapshotRecord | None) -> tuple[SnapshotRecord | None, pa.Table, str]:
    """The newest snapshot whose tables can be read, its manifest, and a note when that is not the parent.

    Damage to one snapshot's tables must not stop the next from being taken: it only costs reading more.
    """
    if parent is None:
        return None, MANIFEST.empty_table(), ""
    try:
        return parent, _readable_manifest(vault, parent), ""
    except (Corrupt, NotFound) as error:
        note = f"{error.message} The snapshot is compared with"
    for record in reversed(vault.records(parent.dataset)):
        try:
            return record, _readable_manifest(vault, record), f"{note} {record.id} instead."
        except (Corrupt, NotFound):
            continue  # It shares the damaged tables, or has damage of its own; a check names each.
    return None, MANIFEST.empty_table(), f"{note} nothing: every file is read."


def _readable_manifest(vault: Vault, record: SnapshotRecord) -> pa.Table:
    vault.profile(record)  # Carried files take their rows from it.
    manifest = vault.manifest(record)
    names = names_of(manifest).combine_chunks()
    if not pc.all(pc.less(names[:-1], names[1:]), min_count=0).as_py():
        # Compared with a name that stands twice, a file would be carried over from either.
        raise Corrupt(f"the manifest of snapshot {record.id} of {record.dataset} is not in the order of its names.")
    return manifest


def match_rows(scan: pa.Table, manifest: pa.Table) -> NDArray[np.int64]:
    """For each row of a scan, the row of the manifest with the same name, or -1.

    The two are sorted alike, so an unchanged tree is found by one comparison of columns; otherwise each name is looked
    up. Arrow does that, because importing DuckDB for a join takes as long as the lookup of a hundred thousand names.
    """
    if scan.num_rows == manifest.num_rows and names_of(scan).equals(names_of(manifest)):
        return np.arange(scan.num_rows, dtype=np.int64)
    if scan.num_rows == 0 or manifest.num_rows == 0:
        return np.full(scan.num_rows, -1, dtype=np.int64)
    found = pc.index_in(names_of(scan), value_set=names_of(manifest))
    return np.asarray(pc.fill_null(found, -1), dtype=np.int64)


def make_shards(scan: pa.Table, carried: NDArray[np.bool_]) -> tuple[Shard, ...]:
    """The files to read in runs of about :data:`SHARD_BYTES` or :data:`SHARD_FILES`, whichever fills first (I2)."""
    # What could not even be examined is not read: without its times nobody could tell later whether it changed.
    is_file = pc.and_(pc.equal(scan.column("type"), "file"), pc.is_null(scan.column("error"))).to_numpy()
    rows = np.flatnonzero(is_file & ~carried)
    if len(rows) == 0:
        return ()
    sizes = scan.column("size_bytes").to_numpy()[rows]
    names = pa.concat_arrays(names_of(scan).take(pa.array(rows)).chunks)
    shard_bytes = max(SHARD_BYTES, int(sizes.sum()) // SHARDS_MAX + 1)
    shard_files = max(SHARD_FILES, len(rows) // SHARDS_MAX + 1)
    by_bytes = (np.cumsum(sizes) - sizes) // shard_bytes
    by_files = np.arange(len(rows)) // shard_files
    borders = np.flatnonzero(np.diff(by_bytes) | np.diff(by_files)) + 1
    starts, ends = [0, *borders.tolist()], [*borders.tolist(), len(rows)]
    return tuple(
        Shard(number=number, rows=rows[start:end], names=names[start:end], sizes=sizes[start:end])
        for number, (start, end) in enumerate(zip(starts, ends, strict=True))
    )


def _carried(
    scan: pa.Table,
    manifest: pa.Table,
    base_row: NDArray[np.int64],
    base: SnapshotRecord | None,
    index: ChunkIndex,
) -> NDArray[np.bool_]:
    if base is None or manifest.num_rows == 0 or scan.num_rows == 0:
        return np.zeros(scan.num_rows, dtype=np.bool_)
    known = base_row >= 0
    before = matched(manifest, base_row, (*STAMP_COLUMNS, "read_state"))
    same = known.copy()
    for column in STAMP_COLUMNS:
        same &= equal_or_both_null(scan.column(column), before.column(column))
    same &= pc.equal(before.column("read_state"), "ok").to_numpy()
    settled_before_s = int(base.scan_started_at.timestamp()) - RACY_SECONDS
    same &= pc.fill_null(pc.less(scan.column("mtime_s"), settled_before_s), False).to_numpy()
    ids, rows, _ = chunk_layout(manifest)
    lost_rows = np.unique(rows[index.find(ids) == NOT_FOUND])
    is_lost = np.zeros(manifest.num_rows, dtype=np.bool_)
    is_lost[lost_rows] = True
    return same & ~is_lost[np.where(known, base_row, 0)]


def matched(manifest: pa.Table, base_row: NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
    """The manifest's rows in the order of a scan's; where a scanned row has none, any row stands in its place."""
    chosen = manifest.select(list(columns))
    if len(base_row) == manifest.num_rows and np.array_equal(base_row, np.arange(len(base_row))):
        return chosen
    return chosen.take(pa.array(np.where(base_row >= 0, base_row, 0)))


def equal_or_both_null(left: pa.ChunkedArray | pa.Array, right: pa.ChunkedArray | pa.Array) -> NDArray[np.bool_]:
    """Row by row whether two columns agree; two nulls do."""
    equal = pc.or_kleene(pc.equal(left, right), pc.and_(pc.is_null(left), pc.is_null(right)))
    return np.asarray(pc.fill_null(equal, False), dtype=np.bool_)


def _in_table(scan: pa.Table, pattern: str) -> NDArray[np.bool_]:
    return np.array([matches(pattern, path) for path in scan.column("path").to_pylist()], dtype=np.bool_)


def load_trusted_index(vault: Vault, cache: IndexCache | None) -> ChunkIndex:
    """What this writer need not store again: its own chunks and proven ones, in packs that are present and unmarked."""
    return load_writer_index(vault, trusted=_trusted(vault), cache=cache)


def _trusted(vault: Vault) -> Callable[[str, str], bool]:
    """Which index parts a writer may reuse chunks from: its own, and what a verifier has proven (dedup poisoning)."""
    own = vault.own_writers()
    proven: set[str] | None = None

    def is_trusted(writer: str, digest: str) -> bool:
        nonlocal proven
        if writer in own:
            return True
        if proven is None:
            # Read only when somebody else wrote here: the ledger grows with every verification.
            stated = (fact.body.get("proven_indexes") for fact in vault.facts("verified"))
            proven = {str(name) for names in stated if isinstance(names, list) for name in names}
        return digest in proven

    return is_trusted
