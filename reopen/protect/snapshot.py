"""Owns the commit of a snapshot: from a plan to the one exclusive create that makes it exist.

Order, and why
    1. lease          reserves ``seq``; maintenance sees that somebody is at work
    2. packs          the bytes
    3. index parts    refer to packs that are durable
    4. profile, manifest   refer to chunks that an index knows
    5. record         refers to all of these by digest; created exclusively, it is the commit
    6. lease removed

A crash before 5 leaves extra objects that nothing refers to; the next snapshot finds the packs through their signed
index parts and does not store them again. A crash after 5 leaves a lease that expires.

Invariants
    I1  The record never claims more than what is durable.
    I2  One unreadable file makes the snapshot incomplete; it is recorded, and never chosen as a recovery point unless
        named.
    I3  A dataset that did not change refers to the manifest of the snapshot that owns it, never through a chain.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from blake3 import blake3

from reopen import __version__
from reopen.errors import Conflict, Transient
from reopen.ids import new_id
from reopen.progress import SILENT, Progress
from reopen.protect import lease as leases
from reopen.protect.capture import Capture, Captured, ShardSummary
from reopen.protect.plan import Shard, SnapshotPlan, equal_or_both_null
from reopen.protect.profiles import to_table, without_values
from reopen.protect.reliance import look_again
from reopen.protect.standing import Standing
from reopen.vault import ContractRef, SnapshotRecord, TableRef, Totals, Vault
from reopen.vault.canonical import seal_envelope
from reopen.vault.content import Sealer
from reopen.vault.indexparts import write_index_part
from reopen.vault.packwriter import PackWriter, StoredPack
from reopen.vault.record import Part, parse_record_name, part_name
from reopen.vault.tables import MANIFEST, PROFILE, encode_parquet

PART_ROWS = 1_000_000
"""Rows of one manifest part: about 60 MB, so that a reader of a few paths need not fetch them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotResult:
    """A committed snapshot and what it took. ``reused_manifest``: nothing had changed. ``voided``: ids of snapshots
    whose writers were found dead. ``note``: what people should know beside it, for example damage that was met."""

    record: SnapshotRecord
    reused_manifest: bool
    voided: tuple[str, ...]
    seconds: float
    note: str = ""


class SnapshotRun:
    """A snapshot under way: begin, write every shard (in any order, in any threads), then commit or abandon.

    As a context manager it abandons on an error. This is what flows drive with one task a shard.
    """

    def __init__(
        self,
        vault: Vault,
        plan: SnapshotPlan,
        *,
        standing: Standing | None = None,
        workers: int = 0,
        progress: Progress = SILENT,
    ) -> None:
        self._vault = vault
        self._plan = plan
        self._standing = standing or Standing()
        self._started_seconds = vault.clock.elapsed_seconds()
        self.id = new_id(vault.random_bytes)
        self._index_parts: list[Part] = []
        self._voided = leases.void_dead_leases(vault, plan.dataset.name)
        # The lease comes before anything is stored: from here on maintenance leaves new packs alone.
        self._lease = leases.acquire(vault, plan.dataset.name, self.id, plan.next_seq)
        try:
            # From here on prune waits for this snapshot: what is there and unmarked now stays until it is over.
            plan, self._base_stays = look_again(vault, plan)
        except BaseException:
            self._lease.release()
            raise
        self._plan = plan
        self._packs: PackWriter | None = None
        self._capture: Capture | None = None
        if plan.shards:
            sealer = Sealer(vault.id, vault.recipients, vault.random_bytes)
            self._packs = PackWriter(
                vault.store,
                vault_id=vault.id,
                roots=vault.roots,
                slot=sealer.slot,
                signer=vault.keyring.signer("writer"),
                pack_bytes=vault.parameters.pack_bytes,
                flush=self._flush_index,
                storers=2,
                random_bytes=vault.random_bytes,
            )
            self._capture = Capture(
                vault, plan, self._packs, sealer, workers=workers or os.cpu_count() or 1, progress=progress
            )

    def __enter__(self) -> SnapshotRun:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if kind is not None:
            self.abandon()

    def write_shard(self, shard: Shard) -> ShardSummary:
        """Read one shard into the vault."""
        assert self._capture is not None
        return self._capture.write_shard(shard)

    def commit(self) -> SnapshotResult:
        """Make everything durable, then create the record.

        :raises Conflict: the snapshot was voided because its lease ran out.
        """
        vault, plan = self._vault, self._plan
        if self._packs is not None and self._capture is not None:
            self._packs.close()
            self._capture.close()
        captured = self._capture.captured if self._capture is not None else []
        manifest = build_manifest(plan, captured)
        profile = build_profile(vault, plan, manifest, self._capture)
        manifest_ref, reused = self._write_manifest(manifest)
        profile_ref = self._write_profile(profile)
        record = self._record(manifest, manifest_ref, profile_ref, reused)
        self._lease.check()
        record = create_record(vault, record)
        self._lease.release()
        return SnapshotResult(
            record=record,
            reused_manifest=reused,
            voided=tuple(self._voided),
            seconds=vault.clock.elapsed_seconds() - self._started_seconds,
            note=plan.note,
        )

    def abandon(self) -> None:
        """Stop; nothing is committed. What was stored is found by the next snapshot."""
        # The readers first: while one of them still hands in a full pack, somebody must be there to take it.
        if self._capture is not None:
            self._capture.close()
        if self._packs is not None:
            self._packs.abandon()
        self._lease.release()

    def _flush_index(self, packs: list[StoredPack]) -> None:
        # Voided while it slept, its packs may be gone: a part that lists them would say what is not so.
        self._lease.check()
        name = f"{self.id}-{len(self._index_parts):04d}"
        signer, dataset = self._vault.keyring.signer("writer"), self._plan.dataset.name
        self._index_parts.append(write_index_part(self._vault, name, packs, signer, dataset=dataset))

    def _write_manifest(self, manifest: pa.Table) -> tuple[TableRef, bool]:
        plan = self._plan
        if plan.base is not None and self._base_stays and _same_entries(manifest, plan.base_manifest):
            return plan.base.manifest, True
        return self._write_table("manifests", manifest, MANIFEST), False

    def _write_profile(self, profile: pa.Table) -> TableRef | None:
        if self._plan.dataset.table is None:
            return None
        base = self._plan.base
        if (
            base is not None
            and self._base_stays
            and base.profile is not None
            and profile.equals(self._vault.profile(base))
        ):
            return base.profile
        return self._write_table("profiles", profile, PROFILE)

    def _write_table(self, kind: Literal["manifests", "profiles"], table: pa.Table, schema: pa.Schema) -> TableRef:
        vault, key = self._vault, self._vault.metadata_key_number
        parts = []
        for number, start in enumerate(range(0, max(table.num_rows, 1), PART_ROWS)):
            data = encode_parquet(table.slice(start, PART_ROWS), schema, vault.metadata_key(key))
            name = part_name(kind, key, self._plan.dataset.name, self.id, number)
            vault.store.create(name, [data])
            parts.append(Part(name=name, size=len(data), digest=blake3(data).hexdigest()))
        return TableRef(snapshot=self.id, key=key, rows=table.num_rows, parts=tuple(parts))

    def _record(
        self, manifest: pa.Table, manifest_ref: TableRef, profile_ref: TableRef | None, reused: bool
    ) -> SnapshotRecord:
        plan, dataset = self._plan, self._plan.dataset
        totals = self._totals(manifest, reused)
        return SnapshotRecord(
            vault=self._vault.id,
            dataset=dataset.name,
            seq=self._lease.name.seq,
            id=self.id,
            prev=None if plan.parent is None else plan.parent.digest,
            heads=read_heads(self._vault),
            site=plan.site,
            epoch=self._standing.epoch,
            confirmed=self._standing.confirmed,
            group=None,
            scan_started_at=plan.scan_started_at,
            scan_ended_at=plan.scan_ended_at,
            consistent_at=plan.scan_started_at,
            committed_at=self._vault.clock.now(),
            source_kind=dataset.kind.value,
            source_url=plan.source.url,
            contract=ContractRef(
                id=dataset.contract_id, version=dataset.contract_version, digest=dataset.contract_digest
            ),
            state="incomplete" if totals.unreadable else "complete",
            manifest=manifest_ref,
            profile=profile_ref,
            indexes=tuple(self._index_parts),
            totals=totals,
            program=f"reopen {__version__}",
        )

    def _totals(self, manifest: pa.Table, reused: bool) -> Totals:
        plan, capture = self._plan, self._capture
        captured = capture.captured if capture is not None else []
        files = manifest.filter(pc.equal(manifest.column("type"), "file"))
        changes = {"unchanged": manifest.num_rows} if reused else _counts(manifest.column("change"))
        states = _counts(manifest.column("read_state"))
        return Totals(
            entries=manifest.num_rows,
            files=files.num_rows,
            size_bytes=pc.sum(files.column("size_bytes")).as_py() or 0,
            added=changes.get("added", 0),
            modified=changes.get("modified", 0),
            metadata=changes.get("metadata", 0),
            unchanged=changes.get("unchanged", 0),
            removed=plan.removed,
            vanished=sum(item.state == "vanished" for item in captured),
            unreadable=states.get("unreadable", 0),
            changed_while_read=states.get("changed_while_read", 0),
            read_files=len(captured),
            read_bytes=capture.read_bytes if capture is not None else 0,
            new_raw_bytes=capture.new_raw_bytes if capture is not None else 0,
            stored_bytes=self._packs.stored_bytes if self._packs is not None else 0,
            packs=self._packs.packs if self._packs is not None else 0,
        )


def execute_snapshot(
    vault: Vault,
    plan: SnapshotPlan,
    *,
    standing: Standing | None = None,
    workers: int = 0,
    progress: Progress = SILENT,
) -> SnapshotResult:
    """Take the snapshot that was planned, all shards in this process.

    :param workers: threads; 0 means one a core.
    :raises VaultUnwritable: the vault is full or refuses writes; nothing was committed.
    """
    progress.start(plan.dataset.name, plan.read_bytes, "bytes")
    with SnapshotRun(vault, plan, standing=standing, workers=workers, progress=progress) as run:
        for shard in plan.shards:
            run.write_shard(shard)
        result = run.commit()
    progress.finish()
    return result


def create_record(vault: Vault, record: SnapshotRecord) -> SnapshotRecord:
    """The commit: one exclusive create; returns the record with its writer and digest.

    A lost acknowledgement (the create succeeded, the answer did not arrive) is settled by reading back.
    """
    signer = vault.keyring.signer("writer")
    data = seal_envelope(record.to_body(), signer)
    try:
        vault.store.create(record.name, [data])
    except (Conflict, Transient) as error:
        present = any(info.name == record.name for info in vault.store.list(record.name))
        if not present:
            raise
        if vault.store.get(record.name) != data:
            raise Conflict(
                f"snapshot {record.id} of {record.dataset} was voided before it could commit.",
                hint="It had stopped renewing its lease. Run the snapshot again; what it stored is reused.",
                dataset=record.dataset,
            ) from error
    digest = blake3(data).hexdigest()
    return SnapshotRecord.from_body(record.to_body(), name=record.name, writer=signer.id, digest=digest)


def read_heads(vault: Vault) -> dict[str, str]:
    """For each dataset the newest ``<seq>-<id>`` in the vault: what a later reader must still find."""
    heads: dict[str, tuple[int, str]] = {}
    for info in vault.store.list("snapshots/"):
        found = parse_record_name(info.name)
        if found and found[1:] > heads.get(found[0], (-1, "")):
            heads[found[0]] = found[1:]
    return {dataset: f"{seq:010d}-{snapshot}" for dataset, (seq, snapshot) in sorted(heads.items())}


def build_manifest(plan: SnapshotPlan, captured: list[Captured]) -> pa.Table:
    """The manifest: the scan's columns, with chunks from the base where carried and from the capture where read."""
    scan, count = plan.scan, plan.scan.num_rows
    by_row = {item.row: item for item in captured}
    chunks: list[bytes] = [b""] * count
    sizes: list[bytes | None] = [None] * count
    states: list[str] = ["ok"] * count
    errors: list[str | None] = scan.column("error").to_pylist()
    size_bytes = scan.column("size_bytes").to_numpy().copy()
    stamps: dict[str, dict[int, int | None]] = {"mtime": {}, "ctime_ns": {}, "inode": {}}
    base_chunks = plan.base_manifest.column("chunks").to_pylist()
    base_sizes = plan.base_manifest.column("chunk_sizes").to_pylist()
    for row in np.flatnonzero(plan.carried).tolist():
        chunks[row], sizes[row] = base_chunks[plan.base_row[row]], base_sizes[plan.base_row[row]]
    for row, item in by_row.items():
        chunks[row] = item.ids
        if len(item.sizes) > 1:
            sizes[row] = np.array(item.sizes, dtype="<u4").tobytes()
        states[row] = item.state
        errors[row] = item.error
        if item.stamp is not None:
            # The size is what was captured; times and inode are those of the file that was read, not of the scan.
            size_bytes[row] = sum(item.sizes)
            stamps["mtime"][row] = item.stamp.mtime_ns
            stamps["ctime_ns"][row] = item.stamp.ctime_ns
            stamps["inode"][row] = item.stamp.inode
    for row, error in enumerate(errors):
        if error is not None and row not in by_row:
            states[row] = "unreadable"
    columns = {name: scan.column(name) for name in scan.schema.names}
    columns |= {
        "size_bytes": pa.array(size_bytes),
        "chunks": pa.array(chunks, pa.binary()),
        "chunk_sizes": pa.array(sizes, pa.binary()),
        "read_state": pa.array(states, pa.string()),
        "error": pa.array(errors, pa.string()),
        "holes": pa.nulls(count, pa.binary()),
        "xattrs": pa.nulls(count, pa.binary()),
    }
    mtime = stamps["mtime"]
    columns["mtime_s"] = _replace(scan, "mtime_s", {row: ns // 10**9 for row, ns in mtime.items() if ns is not None})
    columns["mtime_ns"] = _replace(scan, "mtime_ns", {row: ns % 10**9 for row, ns in mtime.items() if ns is not None})
    columns["ctime_ns"] = _replace(scan, "ctime_ns", stamps["ctime_ns"])
    columns["inode"] = _replace(scan, "inode", stamps["inode"])
    columns["change"] = pa.array(_changes(plan, columns), pa.string())
    table = pa.table({name: columns[name] for name in MANIFEST.names}).cast(MANIFEST)
    vanished = [row for row, item in by_row.items() if item.state == "vanished"]
    if vanished:
        # Gone between scan and read: it is not part of the snapshot, as if it had gone before the scan.
        table = table.filter(pa.array(~np.isin(np.arange(count), vanished)))
    return table


def build_profile(vault: Vault, plan: SnapshotPlan, manifest: pa.Table, capture: Capture | None) -> pa.Table:
    """The profile: rows of the files that were read, and of the carried ones the base's rows."""
    if plan.dataset.table is None:
        return PROFILE.empty_table()
    fresh = to_table(capture.profile_rows) if capture is not None else PROFILE.empty_table()
    tables = [fresh]
    if plan.base is not None and plan.carried.any():
        carried_paths = plan.scan.filter(pa.array(plan.carried)).column("path")
        before = vault.profile(plan.base)
        kept = before.filter(pc.is_in(before.column("path"), value_set=carried_paths.combine_chunks()))
        tables.append(without_values(kept, plan.dataset.table.classified))
    joined = pa.concat_tables(tables)
    joined = joined.filter(pc.is_in(joined.column("path"), value_set=manifest.column("path").combine_chunks()))
    # A stable order, so that an unchanged profile has equal rows: by path, columns as the file has them.
    return joined.take(pc.sort_indices(joined.column("path"))).combine_chunks()


def _changes(plan: SnapshotPlan, columns: Mapping[str, pa.Array]) -> list[str]:
    count = plan.scan.num_rows
    known = plan.base_row >= 0
    if not known.any():
        return ["added"] * count
    before = plan.base_manifest.take(pa.array(np.where(known, plan.base_row, 0)))

    def differs(names: tuple[str, ...]) -> np.ndarray:
        found = np.zeros(count, dtype=np.bool_)
        for name in names:
            found |= ~equal_or_both_null(columns[name], before.column(name))
        return found

    content = differs(("type", "size_bytes", "chunks", "link_target"))
    details = differs(("mode", "uid", "gid", "mtime_s", "mtime_ns"))
    words = np.where(~known, "added", np.where(content, "modified", np.where(details, "metadata", "unchanged")))
    return [str(word) for word in words]


def _same_entries(manifest: pa.Table, base: pa.Table) -> bool:
    names = [name for name in MANIFEST.names if name != "change"]
    return manifest.num_rows == base.num_rows and bool(
        manifest.select(names).combine_chunks().equals(base.select(names).combine_chunks())
    )


def _replace(scan: pa.Table, name: str, values: Mapping[int, int | None]) -> pa.Array:
    column = scan.column(name)
    if not values:
        return column
    rows = np.fromiter(values.keys(), dtype=np.int64)
    order = np.argsort(rows)
    mask = np.zeros(scan.num_rows, dtype=np.bool_)
    mask[rows] = True
    ordered = list(values.values())
    replacements = pa.array([ordered[at] for at in order], column.type)
    return pc.replace_with_mask(column, pa.array(mask), replacements)


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {str(item["values"]): int(item["counts"]) for item in pc.value_counts(column).to_pylist()}
